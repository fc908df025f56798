"""The referee: the kernels on the CPU pass, each fault is found by the checks that are about it and by no other.

Usage: audit_test.py LIBRARY

The checks draw from seeds that they print; the only statistical one, needles, fails by chance with probability 1e-9.
"""

import contextlib
import io
import json
import os
import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[3] / "kernels" / "python"), str(HERE)]

import faulty  # noqa: E402
import numpy as np  # noqa: E402
from mobalab_kernels.audit import Settings, Subject, arrays_of, audit, exit_code, needle_law, reference  # noqa: E402
from mobalab_kernels.audit import prediction  # noqa: E402
from mobalab_kernels.audit.__main__ import main  # noqa: E402
from mobalab_kernels.audit.checks import needles  # noqa: E402
from mobalab_kernels.audit.formats import round_to, ulp  # noqa: E402

SMALL = Settings(seq_len=512, heads=2, heads_k=1, head_dim=32, block_size=32, topk=3)
FLAGS = ["--seq-len=512", "--heads=2", "--heads-k=1", "--head-dim=32", "--block-size=32", "--topk=3"]


def run(*words):
    """(exit code, stdout, stderr) of the command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def statuses(target, dtype="float32"):
    verdicts = audit(Subject(type(target).__name__, target, arrays_of("numpy", "cpu", dtype)), SMALL._replace(dtype=dtype))
    return {v.check: v.status for v in verdicts}, verdicts


class Faults(unittest.TestCase):
    def test_the_plain_subject_passes(self):
        for dtype in ("float32", "float16"):
            found, verdicts = statuses(faulty.Plain(), dtype)
            self.assertEqual({k for k, s in found.items() if s != "passed"}, {"rounding"}, [v.said for v in verdicts])
            self.assertEqual(exit_code(verdicts), 0)

    def test_every_fault_is_found_where_it_is(self):
        for kind, (dtype, wanted) in faulty.FAULTS.items():
            with self.subTest(fault=kind.__name__):
                found, verdicts = statuses(kind(), dtype)
                self.assertEqual({k for k, s in found.items() if s == "failed"}, wanted, [v.said for v in verdicts])
                self.assertEqual(exit_code(verdicts), 1)

    def test_what_a_subject_raises_or_returns_wrong_has_failed(self):
        for kind, check, words in (
            (faulty.Raises, "top-k", "route raised RuntimeError: no kernel"),
            (faulty.WrongShape, "top-k", "must be"),
            (faulty.RaggedSelection, "top-k", "route returned a list of 2: must be an array"),
            (faulty.Exits, "top-k", "route raised SystemExit"),
            (faulty.TwoGradients, "gradients", "gradients returned a list of 2: must be three arrays"),
            (faulty.NoGradients, "gradients", "gradients returned a NoneType: must be three arrays"),
            (faulty.NoOutput, "attention", "attention returned a tuple of 0: must be out"),
        ):
            with self.subTest(fault=kind.__name__):
                found, verdicts = statuses(kind())
                self.assertEqual(found[check], "failed")
                self.assertIn(words, next(v.said for v in verdicts if v.check == check))

    def test_rows_that_keep_too_few_are_counted_among_the_rows(self):
        """Two slots: rows of the third block have no choice, and are short of one of their two."""
        _, verdicts = statuses(faulty.ShortOfOne())
        said = next(v.said for v in verdicts if v.check == "top-k")
        wrong, rows = map(int, re.match(r"(\d+) of (\d+)", said).groups())
        self.assertLessEqual(wrong, rows, said)

    def test_what_is_not_offered_is_not_passed(self):
        route, _ = statuses(faulty_function("route", faulty.route_alone))
        attention, _ = statuses(faulty_function("attention", faulty.attention_alone))
        for name in ("summaries", "top-k of its own centroids", "sequence borders", "attention", "gradients"):
            self.assertEqual(route[name], "not offered")
        for name in ("top-k", "needles", "ties", "rounding", "sequence borders"):
            self.assertEqual(attention[name], "not offered")
        self.assertEqual((route["top-k"], attention["attention"]), ("passed", "passed"))


def faulty_function(operation, function):
    return type("Function", (), {operation: staticmethod(function)})()


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name) / "audit"

    def test_ours_passes_on_the_cpu(self):
        for subject, dtype in (("ours", "float32"), ("ours", "float16"), ("ours_centred", "float16")):
            code, out, err = run(subject, f"--dtype={dtype}", f"--out={self.out}", *FLAGS)
            self.assertEqual((code, err), (0, ""), out)
            found = json.loads((self.out / "results.json").read_text())
            self.assertEqual({c["status"] for c in found["checks"]}, {"passed", "reported"})
            self.assertEqual((found["schema"], found["seed"], found["dtype"]), ("mobalab-audit", 1, dtype))
            self.assertIn("seed 1", out)

    def test_the_worst_input_is_kept_and_runs_again(self):
        code, out, _ = run("faulty:LowerBlockWinsTies", f"--out={self.out}", *FLAGS)
        self.assertEqual(code, 1, out)
        file = self.out / "worst" / "ties.npz"
        self.assertIn(str(file), out)
        page = (self.out / "index.html").read_text()
        self.assertIn(f"mobalab audit faulty:LowerBlockWinsTies --replay {file}", page)
        again, said, _ = run("faulty:LowerBlockWinsTies", f"--replay={file}")
        self.assertEqual(again, 1)
        self.assertIn("head 0, row", said)
        self.assertEqual(run("ours", f"--replay={file}")[0], 0)

    def test_every_kept_input_gives_its_finding_again(self):
        run("faulty:UnstableTopK", f"--out={self.out}", *FLAGS)
        run("ours", f"--out={self.out}", *FLAGS)
        found = json.loads((self.out / "results.json").read_text())
        for check in found["checks"]:
            code, out, _ = run("ours", f"--replay={check['file']}")
            self.assertEqual(code, 0)
            self.assertIn(check["worst_input"], out)

    def test_only_some_checks(self):
        code, out, _ = run("ours", "--only=repeats, ties", f"--out={self.out}", *FLAGS)
        found = json.loads((self.out / "results.json").read_text())
        self.assertEqual((code, [c["check"] for c in found["checks"]]), (0, ["ties", "repeats"]), out)

    def test_the_same_audit_writes_the_same_bytes(self):
        texts = []
        for _ in range(2):
            run("ours", f"--out={self.out}", "--seed=7", *FLAGS)
            texts.append((self.out / "results.json").read_bytes())
        self.assertEqual(*texts)

    def test_bad_input_is_one_line(self):
        bad = self.out.with_suffix(".npz")
        bad.write_bytes(b"PK nothing")
        for words, said in (
            (["my.module"], "one of ours, ours_centred, flash_moba or MODULE:NAME"),
            (["faulty:route_alon"], "nearest valid choice: route_alone"),
            (["no_such_module:route"], "a module no_such_module that imports"),
            (["faulty:nameless"], "must be a function of (q, k, block_size, topk)"),
            (["faulty:NeedsArguments"], "NeedsArguments() (TypeError: "),
            (["faulty:ExitsWhenMade"], "ExitsWhenMade() (SystemExit: 0)"),
            (["builtins:min"], "a function whose parameters Python knows"),
            (["ours", "--head-dim=1"], "at least 2"),
            (["flash_moba"], "flash_moba"),
            (["ours", "--dtype=bfloat16"], "float16, or --arrays torch"),
            (["ours", "--device=cuda"], "--arrays torch"),
            (["ours", "--seq-len=100"], "at least 384"),
            (["ours", "--topk=1"], "at least 2"),
            (["ours", "--only=top-k,repeat"], "nearest valid choice: 'repeats'"),
            (["ours", f"--replay={bad}", "--only=ties"], "left out with --replay"),
            (["ours", "--heads=3"], "a multiple of heads_k = 2"),
            (["ours", "--seed=-1"], "at least 0"),
            (["ours", "--block-size=0"], "at least 1"),
            (["ours", "--replay=nothing.npz"], "a file that can be read"),
            (["ours", f"--replay={bad}"], "a file that an audit wrote"),
            (["ours", f"--replay={bad}", "--seed=3"], "left out with --replay"),
            (["ours", f"--out={bad}"], "a folder"),
            ([], "the following arguments are required"),
        ):
            with self.subTest(words=words):
                code, out, err = run(*words)
                self.assertEqual((code, out), (2, ""))
                self.assertEqual(err.count("\n"), 1, err)
                self.assertIn(said, err)

    def test_no_input_of_an_earlier_audit_stays(self):
        run("faulty:route_alone", f"--out={self.out}", *FLAGS)
        self.assertTrue((self.out / "worst" / "needles.npz").exists())
        run("faulty:route_alone", "--only=top-k", f"--out={self.out}", *FLAGS)
        self.assertEqual([file.name for file in (self.out / "worst").iterdir()], ["top_k.npz"])

    def test_nothing_checked_is_not_nothing_failed(self):
        code, _, err = run("faulty:route_alone", "--only=attention", f"--out={self.out}", *FLAGS)
        self.assertEqual(code, 1)
        self.assertIn("nothing could be checked", err)
        page = (self.out / "index.html").read_text()
        self.assertIn("Nothing could be checked.", page)
        self.assertNotIn("No check failed.", page)

    def test_a_subject_without_anything_to_check_is_no_success(self):
        code, _, err = run("faulty:FAULTS", f"--out={self.out}")
        self.assertEqual(code, 2)
        self.assertIn("must have one of summaries, route, attention, gradients", err)


class Judges(unittest.TestCase):
    """What judges is judged."""

    def test_needles_are_found_as_the_exact_law_says(self):
        # Of mobalab theory, which has another method (analysis/README.md).
        self.assertAlmostEqual(needle_law.hit_probability(64, 16, 64, 8, 0.9), 0.7363538, 6)
        self.assertAlmostEqual(needle_law.hit_probability(128, 16, 8191, 7, 0.6), 0.0675867, 6)
        self.assertAlmostEqual(needle_law.hit_probability(64, 16, 4, 4, 0.1), 1.0, 12)  # as many slots as candidates

    def test_needles_of_extreme_shapes(self):
        """Probabilities that round to 0 or 1 have p-values; strengths are chosen where some needles are missed."""
        self.assertEqual(needle_law.binomial_p_value(0, 1000, 0.0), 1.0)
        self.assertEqual(needle_law.binomial_p_value(1000, 1000, 1.0), 1.0)
        self.assertLess(needle_law.binomial_p_value(500, 1000, 1.0), 1e-300)
        wide = SMALL._replace(head_dim=4096, block_size=4)
        mu = needles.cases(wide)[0].numbers["mu"]
        self.assertLess(needle_law.hit_probability(4096, 4, 7, 2, mu), 0.9)

    def test_the_program_of_a_wheel_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            site = Path(folder).resolve()
            program = site / "mobalab" / "program" / "mobalab"
            program.parent.mkdir(parents=True)
            program.touch()
            file = site / "mobalab_kernels" / "audit" / "prediction.py"
            with mock.patch.object(prediction, "__file__", str(file)), mock.patch.dict(os.environ):
                os.environ.pop("MOBALAB_PROGRAM", None)
                self.assertEqual(prediction.program(), str(program))

    def test_rounding_is_that_of_numpy(self):
        rng = np.random.default_rng(3)
        x = rng.standard_normal(10000) * 10.0 ** rng.integers(-9, 6, 10000)
        x = np.concatenate([x, [0, np.nan, np.inf, -65519, 65520]])
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(round_to(x, "float16"), x.astype(np.float16).astype(np.float64))
        np.testing.assert_array_equal(round_to(x, "float32"), x.astype(np.float32).astype(np.float64))
        self.assertEqual(ulp(1.0, "bfloat16"), 2.0**-7)

    def test_gradients_are_differences_of_the_output(self):
        rng = np.random.default_rng(4)
        q, k, v, d_out = (rng.standard_normal((12, h, 5)) for h in (2, 1, 1, 2))
        kept = rng.random((2, 12, 3)) < 0.5
        kept &= np.arange(3) <= (np.arange(12) // 4)[:, None]
        kept[:, np.arange(12), np.arange(12) // 4] = True
        found = reference.gradients(q, k, v, d_out, kept, 4)
        for x, gradient in zip((q, k, v), found):
            for place in ((0, 0, 1), (5, 0, 2), (11, 0, 4)):
                step, values = 1e-6, []
                for sign in (1, -1):
                    x[place] += sign * step
                    values.append((reference.attention(q, k, v, kept, 4)[0] * d_out).sum())
                    x[place] -= sign * step
                self.assertAlmostEqual((values[0] - values[1]) / (2 * step), gradient[place], 6)


if __name__ == "__main__":
    unittest.main()
