#!/usr/bin/env python3
"""The command: a smoke run, its records, wrong arguments, and runs that are killed or stopped and go on.

Usage: recall_command_test.py LIBRARY; skipped without torch. Trains for seconds, on the CPU.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import with_torch
from command_calls import Calls, numbers
from training import records
from training.campaign import LEFT
from training.recall_command import main, parser

COMMAND = with_torch.ROOT / "experiments" / "training" / "recall.py"
CONVOLVED = "moba-B32-k8-conv3-d64-mean"


CALLS = Calls(COMMAND, main)
start, call, call_here = CALLS.start, CALLS.call, CALLS.call_here


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def smoke(self, name, *arguments):
        return ("--smoke", "--seeds", "0", "--out", self.folder / name, *arguments)


class Smoke(Command):
    def test_records_and_traces(self):
        code, _, err = call(*self.smoke("a.jsonl", "--traces", self.folder, "--processes", 2))
        self.assertEqual(code, 0, err)
        self.assertIn("2 of 2", err)
        found = records.read(self.folder / "a.jsonl")
        runs = [r["run"] for r in found if r["kind"] == "run"]
        self.assertEqual(runs, ["dense-d64-s0", CONVOLVED + "-s0"])
        self.check_run([r for r in found if r["run"] == runs[0]], heads=0)
        self.check_run([r for r in found if r["run"] == runs[1]], heads=2)
        trace = (self.folder / f"{runs[1]}.safetensors").read_bytes()
        header = json.loads(trace[8 : 8 + int.from_bytes(trace[:8], "little")])
        self.assertEqual(header["__metadata__"]["layer"], "1")
        self.assertEqual(len(json.loads(header["__metadata__"]["needles"])), 16)
        code, _, err = call(*self.smoke("a.jsonl"))
        self.assertEqual(code, 0)
        self.assertIn("2 of 2 runs were finished before", err)

    def check_run(self, found, heads):
        of = {kind: [r for r in found if r["kind"] == kind] for kind in records.REQUIRED}
        self.assertEqual(len(of["run"]), 1)
        self.assertEqual(of["run"][0]["steps"], 60)
        self.assertEqual([c["step"] for c in of["curve"]], [20, 40, 60])
        plain = [a for a in of["accuracy"] if "variant" not in a]
        self.assertEqual([a["seq_len"] for a in plain], [512, 1024])
        for record in plain:
            self.assertEqual(record["asked"], 16 * record["sequences"])
            self.assertEqual(record["correct"], sum(record["sequence_correct"]))
        self.assertIn("no-layer-0", {a.get("variant") for a in of["accuracy"]})
        for seq_len in (512, 1024):
            routed = [h for h in of["head"] if h["seq_len"] == seq_len and "variant" not in h]
            self.assertEqual(len(routed), heads)
            for head in routed:
                self.assertEqual(head["hits"], sum(head["sequence_hits"]))
                self.assertEqual(head["queries"] + head["own_block"], 32)
                self.assertIn("signal_mean", head)
        variants = {h["variant"] for h in of["head"] if "variant" in h}
        self.assertEqual(variants, {"no-conv", "linear-conv", "gain", "no-relays"} if heads else set())
        without_relays = [a for a in of["accuracy"] if a.get("variant") == "no-relays"]
        self.assertEqual([a["asked"] for a in without_relays], [32] if heads else [])
        self.assertTrue(all("sequence_any_hit" in a for a in without_relays))


class Interrupted(Command):
    def test_a_killed_run_goes_on_to_the_same_records(self):
        arguments = ("--arms", CONVOLVED)
        self.assertEqual(call(*self.smoke("whole.jsonl", *arguments))[0], 0)
        checkpoint = self.folder / "cut.jsonl.parts" / f"{CONVOLVED}-s0.checkpoint"
        code, _, err = call(*self.smoke("cut.jsonl", *arguments, "--budget-seconds", 0.01))
        self.assertEqual(code, LEFT, err)
        for _ in range(3):  # killed at whatever moment
            process = start(*self.smoke("cut.jsonl", *arguments))
            time.sleep(6)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        while call(*self.smoke("cut.jsonl", *arguments))[0] != 0:
            pass
        self.assertFalse(checkpoint.exists())
        self.assertEqual(numbers(self.folder / "cut.jsonl"), numbers(self.folder / "whole.jsonl"))


class WrongArguments(Command):
    def refused(self, *arguments, says):
        code, out, err = call_here(*arguments)
        self.assertEqual(code, 2, (arguments, err))
        self.assertEqual(out, "")
        for word in says:
            self.assertIn(word, err)
        return err

    def test_each_is_one_line(self):
        out = self.folder / "a.jsonl"
        for arguments, says in (
            ((), ["--out", "*.jsonl"]),
            (("--out", self.folder / "a.csv"), ["a.csv", "*.jsonl"]),
            (("--out", self.folder / "none" / "a.jsonl"), ["none", "a folder that exists"]),
            (("--out", out, "--traces", self.folder / "none"), ["--traces", "none"]),
            (("--out", out, "--arms", "dense-d63"), ["dense-d63", "nearest valid choice: dense-d"]),
            (("--out", out, "--seeds", "0,x"), ["0,x", "whole numbers"]),
            (("--out", out, "--seeds", ""), ["--seeds", "whole numbers"]),
            (("--out", out, "--processes", 0), ["--processes = 0"]),
            (("--out", out, "--gpus", 2), ["--gpus = 2", "1 on a CPU"]),
            (("--out", out, "--budget-seconds", "nan"), ["--budget-seconds", "above 0"]),
            (("--out", out, "--budget-seconds", -1), ["--budget-seconds", "above 0"]),
            (("--out", out, "--device", "tpu"), ["--device", "tpu", "nearest valid choice: auto"]),
            (("--out", out, "--arms", ""), ["--arms", "--list shows them"]),
            (("--out", out, "--gpus", "two"), ["--gpus", "two"]),
            (("--out", out, "--seed", "1"), ["--seed"]),
        ):
            err = self.refused("--smoke", *arguments, says=says)
            self.assertEqual(err.count("\n"), 1, err)
            self.assertIn("nearest valid choice", err)
        self.assertFalse(out.exists())

    def test_a_missing_library_is_named(self):
        environment = {**os.environ, "MOBALAB_KERNELS_LIBRARY": str(self.folder / "none.so")}
        command = [sys.executable, COMMAND, "--smoke", "--out", self.folder / "a.jsonl"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(ran.returncode, 2)
        self.assertEqual(ran.stderr.count("\n"), 1, ran.stderr)
        self.assertIn("none.so", ran.stderr)

    def test_runs_of_other_settings_are_not_mixed(self):
        out = self.folder / "a.jsonl"
        code, _, _ = call_here("--smoke", "--out", out, "--budget-seconds", 0.01)
        self.assertEqual(code, LEFT)
        self.refused("--out", out, says=["same settings"])

    def test_damage_is_named(self):
        code, _, _ = call_here(*self.smoke("a.jsonl", "--budget-seconds", 0.01))
        self.assertEqual(code, LEFT)
        parts = self.folder / "a.jsonl.parts"
        (parts / "dense-d64-s0.checkpoint").write_bytes(b"no checkpoint")
        code, _, err = call(*self.smoke("a.jsonl", "--arms", "dense-d64"))
        self.assertEqual(code, 1)
        self.assertIn("dense-d64-s0.checkpoint", err)
        (parts / "dense-d64-s0.jsonl").write_text('{"kind":"run"}\n', encoding="utf-8")
        self.refused(*self.smoke("a.jsonl", "--arms", "dense-d64"), says=["dense-d64-s0.jsonl line 1"])

    def test_one_writer_at_a_time(self):
        first = start(*self.smoke("a.jsonl"))
        first.stderr.readline()  # of progress: it holds the lock and has begun
        self.refused(*self.smoke("a.jsonl"), says=["another process"])
        first.send_signal(signal.SIGTERM)
        _, err = first.communicate(timeout=100)
        self.assertEqual(first.returncode, 128 + signal.SIGTERM, err)


class Readme(Command):
    def test_its_first_command_runs(self):
        text = (COMMAND.parent / "README.md").read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if "recall.py --smoke" in line).split("#")[0]
        ran = subprocess.run(
            [sys.executable, COMMAND, *line.split()[2:]], cwd=self.folder, capture_output=True, text=True, check=False
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertTrue((self.folder / "smoke.jsonl").exists())

    def test_it_names_every_file_and_option(self):
        text = (COMMAND.parent / "README.md").read_text(encoding="utf-8")
        for path in COMMAND.parent.glob("*.py"):
            if path.name != "__init__.py":
                self.assertIn(f"`{path.name}`", text)
        for action in parser()._actions:
            if action.dest not in ("help", "device"):
                self.assertIn(action.option_strings[-1], text)


class Lists(Command):
    def test_arms(self):
        code, out, _ = call_here("--list")
        self.assertEqual(code, 0)
        self.assertEqual(out.splitlines()[0], "dense-d64")
        self.assertGreater(len(out.splitlines()), 30)

    def test_calibration(self):
        code, out, err = call_here("--smoke", "--calibrate", "--arms", "moba-B32-k8-d64-mean")
        self.assertEqual(code, 0, err)
        self.assertIn("ms a step", out)
        self.assertIn("at most", out)


if __name__ == "__main__":
    os.environ.pop("MOBALAB_COMMIT", None)
    unittest.main()
