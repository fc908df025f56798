#!/usr/bin/env python3
"""mobalab training on records of simulated heads: the predictions are those of the law that the simulation draws from.

Usage: simulated_records_test.py PROGRAM
The records are those of a fixed seed, so that nothing here fails by chance. What is off by these bounds: hits with z's own
moments (uncorrected), and accuracy of heads that are taken for independent.
"""

import itertools
import json
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import simulated_records

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "experiments" / "trained" / "simulated.jsonl"
PROGRAM = ""


def tables(records):
    """{table: rows} of what the program makes of the records."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "r.jsonl", Path(folder) / "r.h5"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        subprocess.run([PROGRAM, "training", path, "--out", out], check=True, capture_output=True)
        return {name: json.loads(subprocess.run([PROGRAM, "table", out, "--table", name, "--json"], check=True,
                                                capture_output=True).stdout)
                for name in ("training", "training_heads", "training_errors")}


def mean_error(rows, predicted, measured):
    rows = [row for row in rows if row[predicted] is not None]
    return sum(row[predicted] - row[measured] for row in rows) / len(rows)


class Simulated(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tables = tables(simulated_records.recall(random.Random(7), lengths=(1024,), seeds=(0, 1)))

    def test_hits_of_few_candidates(self):
        rows = [row for row in self.tables["training_heads"] if row["block_size"] == 128]
        self.assertEqual(len(rows), 8)
        self.assertLess(abs(mean_error(rows, "predicted_hit", "hit")), 0.02)
        self.assertGreater(mean_error(rows, "uncorrected_hit", "hit"), 0.05)

    def test_hits_of_all_heads(self):
        rows = self.tables["training_heads"]
        self.assertLess(sum(abs(row["predicted_hit"] - row["hit"]) for row in rows) / len(rows), 0.02)
        inside = sum(row["hit_low"] <= row["predicted_hit"] <= row["hit_high"] for row in rows)
        self.assertGreaterEqual(inside, 0.9 * len(rows))

    def test_accuracy_without_what_reading_out_loses(self):
        rows = [row for row in self.tables["training"] if row["predicted_accuracy_correlated"] is not None]
        self.assertEqual(len(rows), 8)
        of_few = [row for row in rows if row["block_size"] == 128]
        self.assertLess(abs(mean_error(of_few, "predicted_accuracy_correlated", "found_share")), 0.02)
        self.assertGreater(mean_error(of_few, "predicted_accuracy", "found_share"), 0.03)
        for row in rows:
            self.assertAlmostEqual(row["read_out"], simulated_records.READ_OUT, delta=0.04)

    def test_errors_are_those_of_the_heads(self):
        (row,) = [row for row in self.tables["training_errors"]
                  if (row["arm"], row["quantity"], row["lengths"]) == ("all", "hit", "all")]
        heads = self.tables["training_heads"]
        self.assertEqual((row["values"], row["runs"]), (len(heads), 10))
        self.assertAlmostEqual(row["mean_absolute_error"],
                               sum(abs(head["predicted_hit"] - head["hit"]) for head in heads) / len(heads), places=12)

    def test_the_records_kept_for_the_readme_are_the_scripts(self):
        """The first of them: the others take half a minute."""
        records = simulated_records.recall(random.Random(simulated_records.SEED))
        written = [json.loads(json.dumps(record)) for record in itertools.islice(records, 20)]
        kept = [json.loads(line) for line in KEPT.read_text().splitlines()[:len(written)]]
        self.assertIn("head", [record["kind"] for record in kept])
        for one, other in zip(kept, written):
            self.assertEqual(one.keys(), other.keys())
            for name, value in one.items():
                if isinstance(value, float):
                    self.assertAlmostEqual(value, other[name], places=5)
                else:
                    self.assertEqual(value, other[name], name)


if __name__ == "__main__":
    PROGRAM = Path(sys.argv.pop(1)).resolve()
    unittest.main()
