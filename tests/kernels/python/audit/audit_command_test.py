"""`mobalab audit` itself: finds Python, the package and the library, passes flags, output and exit codes on, and says
what is missing; and the example of the audit's README.

Usage: audit_command_test.py PROGRAM LIBRARY
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "tests" / "readme"))

import readme_test  # noqa: E402

LIBRARY = sys.argv.pop(2)
PROGRAM = sys.argv.pop(1)
README = ROOT / "kernels/python/mobalab_kernels/audit/README.md"
SMALL = ("--seq-len", "512", "--heads", "2", "--heads-k", "1", "--head-dim", "32", "--block-size", "32", "--topk", "3")
LAZY = "def route(q, k, block_size, topk):\n    import numpy\n    return numpy.zeros((q.shape[1], q.shape[0], 1), int)\n"


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_program(self, *words, **environment):
        environment = {**os.environ, "MOBALAB_KERNELS_LIBRARY": LIBRARY, "MOBALAB_PYTHON": sys.executable, **environment}
        return subprocess.run([PROGRAM, "audit", *words], cwd=self.folder, env=environment, text=True, capture_output=True,
                              timeout=300)

    def assert_error(self, ran, *words):
        self.assertEqual((ran.returncode, ran.stdout), (2, ""), ran.stderr)
        self.assertEqual(len(ran.stderr.splitlines()), 1, ran.stderr)
        for word in ("mobalab audit: error: ", *words):
            self.assertIn(word, ran.stderr)

    def test_ours_passes(self):
        ran = self.run_program("ours", "--seq-len", "1K", "--seed=9")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)
        self.assertIn("ours: 11 passed, 1 reported", ran.stdout)
        found = json.loads((self.folder / "audit/results.json").read_text())
        self.assertEqual((found["seq_len"], found["seed"]), (1024, 9))
        self.assertIn("Audit of ours", (self.folder / "audit/index.html").read_text())

    def test_rounding_is_measured_beside_what_theory_expects(self):
        """Eight heads with seed 1. Their mean has a spread of some 5 % of itself, so that a factor of 1.4 either way is
        beyond chance (1e-9); twice the error on centroids, or half of it, is found."""
        ran = self.run_program("ours", "--dtype=float16")
        self.assertEqual(ran.returncode, 0, ran.stdout)
        found = json.loads((self.folder / "audit/results.json").read_text())["checks"][-1]
        self.assertEqual((found["check"], found["status"], len(found["table"])), ("rounding", "reported", 4))
        for row in found["table"]:
            theory = subprocess.run(
                [PROGRAM, "theory", "--csv", "--head-dim=64", "--block-size=64", "--seq-len=2048", "--topk=4",
                 f"--shared-mean={row['shared_mean']}"], text=True, capture_output=True, check=True).stdout.splitlines()
            expected = float(dict(zip(theory[0].split(","), theory[1].split(",")))["changed_fp16"])
            self.assertEqual(row["predicted"], expected)
            if row["shared_mean"] >= 10:
                self.assertLess(row["changed"], 1.4 * expected)
                self.assertGreater(row["changed"], expected / 1.4)
        self.assertIn("predicted)", ran.stdout)
        page = (self.folder / "audit/index.html").read_text()
        self.assertIn("<th>predicted", page)

    def test_without_the_program_nothing_is_predicted(self):
        ran = self.run_program("ours", "--dtype=float16", *SMALL, MOBALAB_PROGRAM="/nonexistent/mobalab")
        self.assertEqual(ran.returncode, 0, ran.stdout)
        self.assertIn("/nonexistent/mobalab", ran.stdout)
        found = json.loads((self.folder / "audit/results.json").read_text())["checks"][-1]
        self.assertEqual({row["predicted"] for row in found["table"]}, {None})

    def test_a_bad_router_of_this_folder_fails_and_its_worst_input_runs_again(self):
        (self.folder / "lazy.py").write_text(LAZY)
        ran = self.run_program("lazy:route", "--out", "lazy out", *SMALL)
        self.assertEqual(ran.returncode, 1, ran.stderr)
        self.assertRegex(ran.stdout, r"(?m)^failed +top-k .*")
        again = self.run_program("lazy:route", "--replay", "lazy out/worst/top_k.npz")
        self.assertEqual(again.returncode, 1, again.stderr)
        self.assertEqual(self.run_program("ours", "--replay", "lazy out/worst/top_k.npz").returncode, 0)

    def test_what_is_missing_is_said_in_one_line(self):
        (self.folder / "broken.py").write_text("import no_such_package\n")
        self.assert_error(self.run_program(), "no subject", "ours, ours_centred, flash_moba or MODULE:NAME")
        self.assert_error(self.run_program("ours", MOBALAB_PYTHON="/nonexistent/python3"), "/nonexistent/python3",
                          "Debian package python3")
        self.assert_error(self.run_program("ours", MOBALAB_KERNELS_LIBRARY="/nonexistent.so"), "/nonexistent.so")
        self.assert_error(self.run_program("broken:route"), "no_such_package", "a module broken that imports")
        self.assert_error(self.run_program("ours", "--topk", "1"), "topk", "at least 2")
        self.assert_error(self.run_program("ours", "--seq-len", "-5"), "seq_len = -5", "nearest valid choice: 384")
        self.assert_error(self.run_program("ours", "--seed", "x"), "seed")

    def test_a_python_without_numpy_is_no_failed_check(self):
        bare = self.folder / "python"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I "$@"\n')  # alone: no PYTHONPATH, so no package
        bare.chmod(0o755)
        self.assert_error(self.run_program("ours", MOBALAB_PYTHON=str(bare)), "python3-numpy", "MOBALAB_PYTHON")

    def test_the_example_of_the_readme(self):
        (module,) = [text for language, text in readme_test.blocks(README) if language == "python"]
        (console,) = [text for language, text in readme_test.blocks(README) if language == "console"]
        (self.folder / "halved.py").write_text(module)
        ((command, shown),) = readme_test.commands(console)
        ran = self.run_program(*command.split()[2:])
        self.assertEqual(ran.returncode, 1, ran.stderr)
        printed = [line for line in ran.stdout.splitlines() if line.strip()]
        self.assertTrue(readme_test.same_output(shown, printed), f"README shows\n{shown}\nprinted was\n{ran.stdout}")


if __name__ == "__main__":
    unittest.main()
