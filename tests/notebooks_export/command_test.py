"""`mobalab export` itself: finds Python and the package, passes output and exit code on, and says what is missing.

Usage: command_test.py PROGRAM
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import synthetic_results  # noqa: E402

PROGRAM = ""


def run(*arguments, **environment):
    return subprocess.run([PROGRAM, "export", *map(str, arguments)], env={**os.environ, **environment}, text=True,
                          capture_output=True, timeout=300)


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        grid = synthetic_results.grid(head_dims=(64,), block_sizes=(64,), seq_lens=(8192,), topks=(8,),
                                      clusters=((1, 0.0),), mus=(0.8,))
        self.results = synthetic_results.write_results(self.folder / "results.h5", grid, groups=("bench",))

    def assert_error(self, ran, *words):
        self.assertEqual((ran.returncode, ran.stdout), (2, ""), ran.stderr)
        self.assertEqual(len(ran.stderr.splitlines()), 1, ran.stderr)
        for word in ("mobalab export: error: ", *words):
            self.assertIn(word, ran.stderr)

    def test_draws_and_lists_what_it_wrote(self):
        ran = run(self.results, "--out", self.folder / "figures")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual({Path(line).name for line in ran.stdout.splitlines()},
                         {path.name for path in (self.folder / "figures").iterdir()})
        self.assertIn("left out agreement", ran.stderr)

    def test_flag_for_the_file_and_default_folder(self):
        ran = subprocess.run([PROGRAM, "export", "--results", self.results], cwd=self.folder, capture_output=True,
                             timeout=300)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertTrue((self.folder / "figures" / "index.html").exists())

    def test_no_file_named(self):
        self.assert_error(run(), "no results file")

    def test_error_of_the_package_is_passed_on_once(self):
        self.assert_error(run(self.folder / "none.h5"), "none.h5", "no such file")

    def test_python_that_is_not_there(self):
        self.assert_error(run(self.results, MOBALAB_PYTHON="/nonexistent/python3"), "/nonexistent/python3",
                          "Debian package python3", "MOBALAB_PYTHON")

    def test_python_without_the_modules(self):
        bare = self.folder / "bare-python"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # -S: no site-packages
        bare.chmod(0o755)
        self.assert_error(run(self.results, MOBALAB_PYTHON=str(bare)), "python3-h5py", "python3-xarray")

    def test_python_that_breaks(self):
        self.assert_error(run(self.results, MOBALAB_PYTHON="/bin/false"), "/bin/false", "code 1")

    def test_users_python_path_is_kept(self):
        (self.folder / "sitecustomize.py").write_text("print('seen')\n")
        ran = run(self.results, "--out", self.folder / "figures", PYTHONPATH=str(self.folder))
        self.assertIn("seen", ran.stdout.splitlines())


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
