#!/usr/bin/env python3
"""The command of the language experiment: a smoke run, its records, wrong arguments, and a stopped run that goes on.

Usage: language_command_test.py LIBRARY; skipped without torch. Trains for seconds, on the CPU.
"""

import json
import shutil
import tempfile
import unittest
from pathlib import Path

import with_torch
from command_calls import Calls, numbers
from tiny_corpus import write_tiny_corpus
from training import records
from training.campaign import LEFT
from training.language.command import main

COMMAND = with_torch.ROOT / "experiments" / "training" / "language_model.py"
DENSE, MOBA = "dense-d32", "moba-B32-k4-conv3-d32-mean"
RECORDED = [f"language-{name}-s0" for name in (DENSE, MOBA)]


CALLS = Calls(COMMAND, main)
start, call, call_here = CALLS.start, CALLS.call, CALLS.call_here


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.corpus = self.folder / "corpus"
        self.corpus.mkdir()
        write_tiny_corpus(self.corpus, with_torch.ROOT)

    def smoke(self, name, *arguments):
        return ("--smoke", "--corpus", self.corpus, "--out", self.folder / name, *arguments)


class Smoke(Command):
    def test_records(self):
        code, out, err = call(*self.smoke("a.jsonl", "--processes", 2, "--seeds", 0))
        self.assertEqual(code, 0, err)
        self.assertEqual([line.split()[0] for line in out.splitlines()], ["run", *RECORDED])
        found = records.read(self.folder / "a.jsonl")
        self.assertEqual([r["run"] for r in found if r["kind"] == "run"], RECORDED)
        for name in RECORDED:
            self.check_run([r for r in found if r["run"] == name])
        code, _, err = call(*self.smoke("a.jsonl", "--seeds", 0))
        self.assertEqual(code, 0)
        self.assertIn("2 of 2 runs were finished before", err)

    def check_run(self, found):
        of = {kind: [r for r in found if r["kind"] == kind] for kind in records.REQUIRED}
        (run,) = of["run"]
        self.assertEqual((run["experiment"], run["steps"], run["tokens"]), ("language", 30, 30 * 2 * 512))
        self.assertEqual([c["step"] for c in of["curve"]], [20, 30])
        self.assertLess(of["curve"][-1]["loss"], of["curve"][0]["loss"])
        self.assertEqual([(v["step"], v["seq_len"]) for v in of["validation"]], [(20, 512), (30, 512), (30, 1024)])
        for record in of["validation"]:
            self.assertEqual(record["tokens"], record["sequences"] * record["seq_len"])
            self.assertAlmostEqual(record["loss"], sum(record["sequence_loss"]) / record["sequences"], places=5)
        ends = {512: [64, 128, 256, 512], 1024: [64, 128, 256, 512, 1024]}
        for seq_len, expected in ends.items():
            self.assertEqual([r["to"] for r in of["position"] if r["seq_len"] == seq_len], expected)
            asked = [r for r in of["needle"] if r["seq_len"] == seq_len]
            self.assertEqual([r["depth"] for r in asked], [0.125, 0.375, 0.625, 0.875])
            self.assertTrue(all(r["correct"] == sum(r["sequence_correct"]) for r in asked))


class Interrupted(Command):
    def test_a_stopped_command_goes_on_to_the_same_records(self):
        arguments = ("--arms", MOBA)
        self.assertEqual(call(*self.smoke("whole.jsonl", *arguments))[0], 0)
        code, _, err = call(*self.smoke("cut.jsonl", *arguments, "--budget-seconds", 0.01))
        self.assertEqual(code, LEFT, err)
        self.assertEqual(records.read(self.folder / "cut.jsonl"), [])
        self.assertEqual(call(*self.smoke("cut.jsonl", *arguments))[0], 0)
        self.assertEqual(numbers(self.folder / "cut.jsonl"), numbers(self.folder / "whole.jsonl"))
        self.assertEqual(list((self.folder / "cut.jsonl.parts").glob("*.checkpoint")), [])


class WrongArguments(Command):
    def refused(self, *arguments, says):
        code, out, err = call_here(*arguments)
        self.assertEqual(code, 2, (arguments, err))
        self.assertEqual(out, "")
        self.assertEqual(err.count("\n"), 1, err)
        for word in (*says, "nearest valid choice"):
            self.assertIn(word, err)

    def test_each_is_one_line(self):
        out, corpus = self.folder / "a.jsonl", ("--corpus", self.corpus)
        for arguments, says in (
            ((*corpus,), ["--out", "*.jsonl"]),
            (("--out", out), ["--corpus", "make_corpus.py"]),
            (("--out", out, "--corpus", self.folder / "none"), ["none", "manifest.json"]),
            ((*corpus, "--out", self.folder / "a.csv"), ["a.csv", "*.jsonl"]),
            ((*corpus, "--out", out, "--arms", "dense-d33"), ["dense-d33", "nearest valid choice: dense-d32"]),
            ((*corpus, "--out", out, "--steps", "ten"), ["--steps", "ten"]),
            ((*corpus, "--out", out, "--steps", 0), ["--steps = 0", "nearest valid choice: 1"]),
            ((*corpus, "--out", out, "--seeds", "1,-2"), ["1,-2", "whole numbers"]),
            ((*corpus, "--out", out, "--budget-seconds", "inf"), ["--budget-seconds", "above 0"]),
            ((*corpus, "--out", out, "--gpus", 2), ["--gpus = 2", "1 on a CPU"]),
        ):
            self.refused("--smoke", *arguments, says=says)
        self.assertFalse(out.exists())

    def test_a_corpus_that_is_not_whole(self):
        arguments = self.smoke("a.jsonl")
        tokens = self.corpus / "train.npy"
        good = tokens.read_bytes()
        tokens.write_bytes(good[:-2] + b"\x07\x00")
        self.refused(*arguments, says=["train.npy"])
        tokens.write_bytes(good[:-2])
        self.refused(*arguments, says=["train.npy"])
        tokens.write_bytes(good)
        shutil.copy(self.corpus / "train_ends.npy", tokens)
        self.refused(*arguments, says=["train.npy", "uint16"])
        manifest = json.loads((self.corpus / "manifest.json").read_text())
        (self.corpus / "manifest.json").write_text(json.dumps({**manifest, "format": 9}))
        self.refused(*arguments, says=["format 1, not 9"])

    def test_too_short_a_corpus(self):
        write_tiny_corpus(self.corpus, with_torch.ROOT, validation=1000)
        self.refused(*self.smoke("a.jsonl"), says=["1000 tokens", "more than 1024"])

    def test_runs_of_other_settings_are_not_mixed(self):
        code, _, _ = call_here(*self.smoke("a.jsonl", "--budget-seconds", 0.01))
        self.assertEqual(code, LEFT)
        self.refused(*self.smoke("a.jsonl", "--steps", 31), says=["same settings"])


class Lists(Command):
    def test_arms(self):
        code, out, _ = call_here("--list")
        self.assertEqual(code, 0)
        self.assertEqual(len(out.splitlines()), 11)

    def test_calibration(self):
        code, out, err = call_here("--smoke", "--corpus", self.corpus, "--calibrate")
        self.assertEqual(code, 0, err)
        self.assertEqual(len(out.splitlines()), 2)
        for line in out.splitlines():
            self.assertIn("tokens/s", line)


if __name__ == "__main__":
    unittest.main()
