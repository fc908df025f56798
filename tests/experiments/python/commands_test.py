"""theory, simulate, route, validate and measure from Python: commands_test.py PATH_OF_MOBALAB."""

import json
import os
import re
import subprocess
import tempfile
import unittest
import warnings
from pathlib import Path
from typing import get_type_hints
from unittest import mock

from with_program import PROGRAM, ROOT

import numpy as np
import pandas as pd

import mobalab
from mobalab import program, settings

TRACE = ROOT / "experiments/traces/smollm2_small.safetensors"


def printed(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def error_of(*arguments):
    """What the program says is wrong, without who says it."""
    ran = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert ran.returncode == 2, ran
    return "\n".join(line.split(": error: ", 1)[1] for line in ran.stderr.splitlines())


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def assert_is_table(self, dataset, text):
        """Every value of the program's JSON, name by name."""
        rows = json.loads(text)
        self.assertEqual(len(rows), dataset.sizes[list(dataset.sizes)[0]])
        self.assertGreater(len(rows), 0)
        for name in rows[0]:
            np.testing.assert_array_equal(dataset[name].values, pd.Series([row[name] for row in rows]).to_numpy(
                dataset[name].dtype), name)


class Commands(InFolder):
    def test_theory(self):
        found = mobalab.theory(head_dim=[64, np.int64(128)], block_size="16:64:x2", mu_signal=np.float64(0.7))
        self.assert_is_table(found, printed("theory", "--head-dim", "64,128", "--block-size", "16,32,64", "--mu-signal",
                                            "0.7", "--json"))
        self.assertEqual(found.attrs["subcommand"], "theory")
        self.assertIn("probability", found.hit_probability.attrs["long_name"])

    def test_theory_solves(self):
        with self.assertWarnsRegex(mobalab.MobalabWarning, "no value of mu-signal reaches"):
            found = mobalab.theory(solve="mu-signal", wanted_hit=0.9, head_dim=[1024, 4], block_size=16)
        self.assertEqual(found.reached.values.tolist(), ["yes", "no"])

    def test_simulate(self):
        found = mobalab.simulate(topk=[4, 8], trials=2e4, seed=7)
        self.assert_is_table(found, printed("simulate", "--topk", "4,8", "--trials", "20000", "--seed", "7", "--json"))
        self.assertTrue(np.all((found.low < found.miss) & (found.miss < found.high)))

    def test_route(self):
        found = mobalab.route(head_dim=32, seq_len="1K", probes=512, dtype="bf16")
        self.assert_is_table(found, printed("route", "--head-dim", 32, "--seq-len", "1K", "--probes", 512, "--dtype",
                                            "bf16", "--json"))

    def test_validate(self):
        options = ["--head-dim", 32, "--seq-len", "1K", "--probes", 2048, "--trials", 2000]
        found = mobalab.validate(head_dim=32, seq_len="1K", probes=2048, trials=2000)
        self.assertTrue(found)
        self.assertEqual(found.report, printed("validate", *options))
        self.assertEqual(set(found.by_candidates.point.values), {0})
        # A family-wise error of one half rejects about every second run that is right; some seed of ten is rejected but
        # with probability 1e-3, and which is the same on every machine.
        verdicts = [mobalab.validate(head_dim=32, seq_len="1K", probes=2048, trials=2000, alpha=0.5, seed=seed)
                    for seed in range(10)]
        for seed, verdict in enumerate(verdicts):
            least = verdict.comparisons.adjusted_p.values.min()
            self.assertEqual(bool(verdict), bool(least >= 0.5), f"seed {seed}")
        self.assertFalse(all(verdicts))

    def test_validate_with_traces(self):
        found = mobalab.validate(traces=TRACE, block_size=[16, 32], alpha=0.05)
        self.assertEqual(found.points.sizes["setting"], 6)
        self.assertIsNone(found.by_candidates)

    def test_measure(self):
        found = mobalab.measure(TRACE, block_size=[16, 32], scorer=["mean", "quest"])
        self.assert_is_table(found.settings, printed("measure", TRACE, "--block-size", "16,32", "--scorer", "mean,quest",
                                                     "--json"))
        self.assertTrue(set(found.distance.setting.values) <= set(range(found.settings.sizes["setting"])))

    def test_a_file_is_kept_where_asked(self):
        found = mobalab.simulate(trials=1000, out=self.folder / "a.h5")
        again = mobalab.open_results(self.folder / "a.h5")
        self.assertEqual(list(again), ["simulate"])
        self.assertTrue(found.identical(again["simulate"]))
        with self.assertRaisesRegex(mobalab.MobalabError, "a.h5: exists and is never overwritten"):
            mobalab.simulate(trials=1000, out=self.folder / "a.h5")
        with self.assertWarnsRegex(mobalab.MobalabWarning, "going on from the trials"):
            more = mobalab.simulate(trials=2000, out=self.folder / "a.h5", resume=True)
        self.assertEqual(more.trials.values.tolist(), [2000])
        self.assertEqual(os.listdir(self.folder), ["a.h5"])


class PointsOfAnyKind(InFolder):
    WANTED = ("theory", "--head-dim", "64,128", "--topk", "4", "--mu-signal", "0.1", "--json")

    def test_same_points_same_answers(self):
        frame = pd.DataFrame({"head_dim": np.array([64, 128], np.int32), "mu_signal": [0.1, 0.1]})
        for points, others in ((None, {"head_dim": (64, 128), "topk": 4, "mu_signal": 0.1}),
                               ({"head_dim": [64, 128], "topk": 4}, {"mu_signal": 0.1}),
                               ([{"head_dim": 64, "mu_signal": 0.1}, {"mu_signal": 0.1, "head_dim": 128}], {"topk": 4}),
                               (frame, {"topk": 4}), (frame.to_dict("records"), {"topk": 4.0})):
            with self.subTest(points=points):
                self.assert_is_table(mobalab.theory(points, **others), printed(*self.WANTED))

    def test_rows_are_points_and_no_grid(self):
        found = mobalab.theory([{"head_dim": 64, "topk": 4}, {"head_dim": 128, "topk": 8}])
        self.assertEqual(found.head_dim.values.tolist(), [64, 128])
        self.assertEqual(found.topk.values.tolist(), [4, 8])

    def test_numbers_keep_their_digits(self):
        mu = 0.1 + 0.2
        self.assertEqual(float(mobalab.theory(mu_signal=mu).mu_signal.values[0]), mu)
        self.assertEqual(float(mobalab.theory([{"mu_signal": mu}]).mu_signal.values[0]), mu)
        self.assertEqual(float(mobalab.theory(mu_signal=np.float32(0.3)).mu_signal.values[0]), float(np.float32(0.3)))


class Errors(InFolder):
    def check(self, text, call, *points, **others):
        with self.assertRaises(mobalab.MobalabError) as caught:
            call(*points, **others)
        self.assertEqual(str(caught.exception), text)

    def test_those_of_the_program_keep_their_text(self):
        for call, words, others in ((mobalab.theory, ["--topk", 500], dict(topk=500)),
                                    (mobalab.theory, ["--head-dim", "nan"], dict(head_dim=float("nan"))),
                                    (mobalab.theory, ["--head-dim", "True"], dict(head_dim=True)),
                                    (mobalab.theory, ["--head-dim", "0.5"], dict(head_dim=0.5)),
                                    (mobalab.simulate, ["--method", "bloc"], dict(method="bloc")),
                                    (mobalab.simulate, ["--mu-signal", 2], dict(mu_signal=2)),
                                    (mobalab.route, ["--probes", 1], dict(probes=1)),
                                    (mobalab.validate, ["--alpha", -1], dict(alpha=-1))):
            with self.subTest(words=words):
                self.check(error_of(call.__name__, *words), call, **others)
        self.check(error_of("measure", "no.h5"), mobalab.measure, "no.h5")

    def test_names_and_kinds(self):
        self.check("heads_dim is no argument of theory; nearest valid: head_dim", mobalab.theory, heads_dim=64)
        self.check("heads_dim is no argument of theory; nearest valid: head_dim", mobalab.theory, {"heads_dim": 64})
        with self.assertRaisesRegex(mobalab.MobalabError, "^probes is no argument of simulate; it takes .*trials, "):
            mobalab.simulate(probes=100)
        self.check("head_dim: is in points and a keyword argument too; give it once", mobalab.theory, {"head_dim": 64},
                   head_dim=64)
        self.check("head_dim = []: is empty; a list names one value at least", mobalab.theory, head_dim=[])
        self.check("head_dim = {1: 2}: must be a number, text, or a list of them", mobalab.theory, head_dim={1: 2})
        self.check("force = 'yes': is a switch, True or False; nearest valid: True", mobalab.theory, force="yes",
                   out=self.folder / "a.h5")
        self.check("out = ['a.h5', 'b.h5']: must be one path", mobalab.theory, out=["a.h5", "b.h5"])
        self.check("points = 3: must be a dict, a list of dicts or a pandas frame", mobalab.theory, 3)
        self.check("points: there is no row; give one point at least", mobalab.theory, pd.DataFrame({"topk": []}))
        self.check("points: the column topq is none of a point; nearest valid: topk", mobalab.theory, [{"topq": 3}])
        self.check("points, row 1: names other columns than row 0 (head_dim); each row names the same", mobalab.theory,
                   [{"topk": 3}, {"topk": 3, "head_dim": 64}])
        self.check("force, resume: are about a results file; name it with out", mobalab.simulate, resume=True)

    def test_a_row_that_is_wrong_is_named(self):
        with self.assertRaisesRegex(mobalab.MobalabError, r"points.csv, line 3: topk = 500 .* nearest valid: 128"):
            mobalab.theory([{"topk": 8}, {"topk": 500}])

    def test_notes_are_warnings(self):
        with self.assertWarnsRegex(mobalab.MobalabWarning, "left out 1 of 2") as caught:
            found = mobalab.theory(topk=[8, 500], skip_impossible=True)
        self.assertEqual(caught.filename, __file__)  # the line that asked
        self.assertEqual(found.attrs["left_out"], 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mobalab.theory(topk=8, skip_impossible=True)

    def test_a_file_that_is_none(self):
        (self.folder / "a.h5").write_text("no HDF5")
        with self.assertRaisesRegex(mobalab.MobalabError, "a.h5: is not an HDF5 file"):
            mobalab.open_results(self.folder / "a.h5")


class TheProgram(InFolder):
    def with_program(self, text):
        path = self.folder / "mobalab"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        before = os.environ["MOBALAB_PROGRAM"]
        os.environ["MOBALAB_PROGRAM"] = str(path)
        self.addCleanup(os.environ.update, MOBALAB_PROGRAM=before)

    def test_a_program_that_dies_is_an_error(self):
        self.with_program("kill -9 $$")
        with self.assertRaisesRegex(mobalab.MobalabError, r"^mobalab theory ended by signal 9 \(SIGKILL\) and said nothing$"):
            mobalab.theory()
        self.with_program("echo 'mobalab theory: error: no' >&2; echo 'mobalab theory: error: never' >&2; exit 2")
        with self.assertRaisesRegex(mobalab.MobalabError, r"^no\nnever$"):
            mobalab.theory()

    def test_a_file_that_is_no_program_is_an_error(self):
        self.with_program("exit 0")
        (self.folder / "mobalab").write_bytes(bytes(64))
        with self.assertRaisesRegex(mobalab.MobalabError, r"mobalab: cannot be started \(Exec format error\)"):
            mobalab.theory()

    def test_nothing_stays_open_when_stopping_is_interrupted(self):
        """A program that does not stop, and a second Ctrl-C while it is waited for."""
        self.with_program("trap '' TERM INT; while :; do sleep 0.1; done")
        closed = []

        class Source:
            def register(self, selector):
                pass

            def close(self):
                closed.append(True)
        running = program.Program(["theory"], Source())
        with mock.patch.object(running._process, "communicate", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                running.__exit__(None)
        self.assertEqual((closed, running._stdout.closed, running._process.stderr.closed), ([True], True, True))
        self.assertIsNotNone(running._process.poll())

    def test_where_it_is_looked_for(self):
        self.assertEqual(program.find_program(), PROGRAM)
        self.with_program("exit 0")
        (self.folder / "mobalab").chmod(0o644)
        with self.assertRaisesRegex(mobalab.MobalabError, "is no program"):
            mobalab.theory()

    def test_settings_are_the_flags_of_the_program(self):
        """Neither more nor less, switches and values apart, but for what Python does itself."""
        own = {"points", "json", "csv", "config", "help", "json_progress", "router"}
        for command, kind in settings.SETTINGS.items():
            flags = dict(re.findall(r"^  --([a-z-]+)( [A-Z]+)?", printed(command, "--help"), re.MULTILINE))
            named = {flag.replace("-", "_"): bool(value) for flag, value in flags.items()}
            hints = {name: hint is not bool for name, hint in get_type_hints(kind).items()}
            with self.subTest(command=command):
                self.assertEqual({name: value for name, value in named.items() if name not in own}, hints)


if __name__ == "__main__":
    unittest.main()
