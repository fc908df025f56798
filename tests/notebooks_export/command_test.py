"""`mobalab export` itself: finds Python and the package, passes output and exit code on, and says what is missing.

Usage: command_test.py PROGRAM
"""

import os
import signal
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


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        grid = synthetic_results.grid(head_dims=(64,), block_sizes=(64,), seq_lens=(8192,), topks=(8,),
                                      clusters=((1, 0.0),), mus=(0.8,))
        self.results = synthetic_results.write_results(self.folder / "results.h5", grid, groups=("bench",))


class Command(Folder):
    def assert_error(self, ran, *words):
        self.assertEqual((ran.returncode, ran.stdout), (2, ""), ran.stderr)
        self.assertEqual(len(ran.stderr.splitlines()), 1, ran.stderr)
        for word in ("mobalab export: error: ", *words):
            self.assertIn(word, ran.stderr)

    def test_draws_and_lists_what_it_wrote(self):
        ran = run(self.results, "--out", self.folder / "figures")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual({Path(line).name for line in ran.stdout.splitlines() if line[:1] != " "},
                         {path.name for path in (self.folder / "figures").iterdir()})
        self.assertIn("left out agreement", ran.stderr)

    def test_flag_for_the_file_and_default_folder(self):
        ran = subprocess.run([PROGRAM, "export", "--results", self.results], cwd=self.folder, capture_output=True,
                             timeout=300)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertTrue((self.folder / "figures" / "index.html").exists())

    def compute(self, name, *arguments):
        subprocess.run([PROGRAM, *arguments, "--out", name], cwd=self.folder, check=True, capture_output=True, timeout=300)
        return self.folder / name

    def notes(self, ran):
        """{figure: what is said of it on stdout}."""
        self.assertEqual(ran.returncode, 0, ran.stderr)
        said, figure = {}, ""
        for line in ran.stdout.splitlines():
            figure = figure if line.startswith("  ") else Path(line).stem
            said[figure] = f"{said.get(figure, '')} {line.strip()}" if line.startswith("  ") else ""
        return said

    def test_sweeps_as_the_program_computes_them(self):
        for arguments, drawn in (
                (("theory", "--mu-signal", "0.1:0.9:+0.1"), "all 9 points; x is mu_signal from 0.1 to 0.9;"),
                (("simulate", "--topk", "2,4,8", "--trials", "200"), "all 3 points; x is k from 2 to 8;"),
                (("route", "--seq-len", "2K,4K", "--probes", "256"), "all 2 points; x is N from 2K to 4K;"),
                (("theory", "--needles", "4", "--goal", "each,any,all"), "all 3 points; x is goal (each, any, all);"),
                (("theory", "--model", "gaussian,gaussian-fixed,sphere", "--topk", "4,8"),
                 "all 6 points; x is k from 4 to 8, a colour for each model (gaussian, gaussian-fixed, sphere);")):
            with self.subTest(arguments):
                path = self.compute(f"{arguments[1]}{arguments[0]}.h5".strip("-"), *arguments)
                said = self.notes(run(path, "--out", self.folder / "figures"))
                self.assertIn(f"Drawn: {drawn}", said["hit_probability"])
                self.assertNotIn("Left out", said["hit_probability"])
                path.unlink()

    def test_options_and_several_files(self):
        paths = [self.compute(f"{k}/run.h5", "theory", "--mu-signal", "0.2,0.5,0.8", "--topk", k, "--head-dim", "64,128")
                 for k in ("4", "8") if (self.folder / k).mkdir() is None]
        ran = run(*paths, "--out", self.folder / "figures", "--x", "mu-signal", "--colour", "file", "--where",
                  "head_dim = 128 and mu_signal in 0.5,0.8")
        said = self.notes(ran)["hit_probability"]
        for words in ("all 4 points", "x is mu_signal from 0.5 to 0.8", "a colour for each file (4/run.h5, 8/run.h5)",
                      "keeps 4 of 12 points"):
            self.assertIn(words, said)

    def test_bad_options_are_one_error(self):
        self.assert_error(run(self.results, "--x", "mesurement"), "x = mesurement", "nearest valid: measurement")
        self.assert_error(run(self.results, "--x", "file", "--colour", "file"), "colour = file", "--x")
        self.assert_error(run(self.results, "--where", "repeats = 6"), "repeats = 6 leaves no row", "valid: repeats = 7")
        self.assert_error(run(self.results, self.results), "given twice")
        self.assertFalse((self.folder / "figures").exists())

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


class Signals(Folder):
    """Ctrl-C and SIGTERM while Python draws: one line, no traceback, no folder, nobody left."""

    def test_the_child_ends_too(self):
        for number, to_group in ((signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGINT, False)):
            with self.subTest(number=number, to_group=to_group):
                pipe = self.folder / "ready"
                os.mkfifo(pipe)
                # The real package, held up where it reads the file.
                held = self.folder / "held.py"
                held.write_text("import os, runpy, sys, threading\n"
                                "from notebooks_export import study\n"
                                "def wait(path):\n"
                                f"    open({str(pipe)!r}, 'w').write(str(os.getpid()))\n"
                                "    threading.Event().wait()\n"
                                "study.open_results = wait\n"
                                "sys.argv = ['export', *sys.argv[3:]]\n"
                                "runpy.run_module('notebooks_export', run_name='__main__')\n")
                python = self.folder / "held-python"
                python.write_text(f'#!/bin/sh\nexec {sys.executable} {held} "$@"\n')
                python.chmod(0o755)
                program = subprocess.Popen([PROGRAM, "export", self.results, "--out", self.folder / "figures"],
                                           env={**os.environ, "MOBALAB_PYTHON": str(python)}, start_new_session=True,
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.addCleanup(program.kill)
                child = int(pipe.read_text())  # waits until somebody has written
                if to_group:
                    os.killpg(program.pid, number)  # what a terminal does
                else:
                    program.send_signal(number)
                out, errors = program.communicate(timeout=600)
                self.assertEqual((program.returncode, out), (-number, ""), errors)
                self.assertEqual(errors, "mobalab export: error: interrupted; no figure was written\n")
                self.assertFalse((self.folder / "figures").exists())
                with self.assertRaises(ProcessLookupError):
                    os.kill(child, 0)
                pipe.unlink()


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
