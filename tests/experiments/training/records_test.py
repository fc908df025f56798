#!/usr/bin/env python3
"""Records, progress and atomic files, which need no torch."""

import io
import math
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "experiments"))

from training import records  # noqa: E402
from training.atomic_file import write_bytes  # noqa: E402
from training.errors import InputError  # noqa: E402
from training.progress import LOG_SECONDS, Progress, duration_text  # noqa: E402

CURVE = {"kind": "curve", "run": "a-s0", "step": 20, "seq_len": 64, "tokens": 5, "loss": 1.5, "seconds": 0.25}


class Records(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "a.jsonl"

    def test_what_is_written_is_read(self):
        found = [CURVE, {**CURVE, "run": "ü", "profile": [[1, 0.1]]}]
        records.write(self.path, found)
        self.assertEqual(records.read(self.path), found)
        self.assertEqual(len(self.path.read_text(encoding="utf-8").splitlines()), 2)

    def test_faults_are_found(self):
        lacking = {name: value for name, value in CURVE.items() if name != "loss"}
        for wrong in (lacking, {**CURVE, "kind": "curves"}, {**CURVE, "loss": math.nan}, {**CURVE, "x": [[math.inf]]}):
            with self.assertRaises(AssertionError):
                records.write(self.path, [CURVE, wrong])
        self.assertFalse(self.path.exists())

    def test_a_damaged_line_is_named(self):
        for damage in ("{", "[1]", '{"kind":"curve"}', '{"kind":"curve","loss":NaN}'):
            records.write(self.path, [CURVE])
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(damage + "\n")
            with self.assertRaisesRegex(InputError, "line 2"):
                records.read(self.path)

    def test_what_is_not_finite_is_left_out(self):
        self.assertEqual(records.finite(a=1.0, b=math.nan, c=math.inf, d=None, e=0), {"a": 1.0, "e": 0})

    def test_a_file_that_cannot_be_written_leaves_the_old_one(self):
        write_bytes(self.path, b"old")
        with self.assertRaises(InputError):
            write_bytes(self.path / "below", b"new")
        self.assertEqual(self.path.read_bytes(), b"old")
        self.assertEqual([p.name for p in self.path.parent.iterdir()], ["a.jsonl"])


class ProgressLines(unittest.TestCase):
    def setUp(self):
        self.time = 0.0
        self.stream = io.StringIO()
        self.progress = Progress("recall", self.stream, lambda: self.time)

    def at(self, time, fraction):
        self.time = time
        self.progress.update(fraction, "here")
        return self.stream.getvalue().splitlines()[-1]

    def test_time_left_counts_what_this_call_did(self):
        self.assertIn("50 %  here  0 s, time left unknown", self.at(0, 0.5))
        self.assertIn("75 %  here  1 min 40 s, about 1 min 40 s left", self.at(100, 0.75))

    def test_lines_are_rare(self):
        self.at(0, 0.0)
        self.at(LOG_SECONDS / 2, 0.1)
        self.assertEqual(len(self.stream.getvalue().splitlines()), 1)
        self.at(LOG_SECONDS, 0.2)
        self.assertEqual(len(self.stream.getvalue().splitlines()), 2)

    def test_durations(self):
        self.assertEqual([duration_text(s) for s in (59, 61, 7500)], ["59 s", "1 min 1 s", "2 h 5 min"])


if __name__ == "__main__":
    unittest.main()
