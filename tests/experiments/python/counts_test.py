"""Statistics that add, and combine: counts_test.py PATH_OF_MOBALAB."""

import json
import math
import subprocess
import tempfile
import unittest
from pathlib import Path

from with_program import PROGRAM, error_of

import numpy as np

import mobalab
from mobalab import Statistics, Stream, counts


class Adding(unittest.TestCase):
    def runs(self, **others):
        return [mobalab.simulate(head_dim=[32, 64], candidates=30, seed=seed, trials=trials, **others)
                for seed, trials in ((1, 2000), (2, 3000))]

    def test_interval_is_the_one_of_simulate(self):
        """The C++ side's Clopper-Pearson, to the last bit, at every confidence."""
        for confidence in (0.95, 0.999):
            run = mobalab.simulate(head_dim=[32, 64, 2048], block_size=16, trials=5000, confidence=confidence)
            self.assertEqual(int(run.misses.values[2]), 0)  # the edge: nothing missed
            for row, one in enumerate(mobalab.statistics(run)):
                self.assertEqual(one.interval(confidence),
                                 tuple(float(run[name].values[row]) for name in ("low", "miss", "high")))

    def test_sums_are_those_of_combine(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / "a.h5", Path(folder) / "b.h5"]
            runs = [mobalab.simulate(head_dim=[32, 64], candidates=30, seed=seed, trials=1000 * seed, out=path)
                    for seed, path in enumerate(paths, 1)]
            both = mobalab.combine(*paths)
            kept = mobalab.combine(*map(str, paths), confidence=0.9, out=Path(folder) / "c.h5")
            self.assertTrue(kept.points.identical(mobalab.open_results(Path(folder) / "c.h5")["simulate"]))
        sums = [sum(pair) for pair in zip(*map(mobalab.statistics, runs))]
        for row, one in enumerate(sums):
            self.assertEqual((one.trials, one.misses), (3000, int(both.points.misses.values[row])))
            self.assertEqual(one.interval(), tuple(float(both.points[name].values[row]) for name in ("low", "miss", "high")))
            self.assertEqual(one.interval(0.9).high, float(kept.points.high.values[row]))
            mine = both.streams.to_dataframe().query(f"point == {row}")
            self.assertEqual([tuple(stream) for stream in one.streams],
                             [tuple(stream) for stream in mine[["seed", "trials", "misses"]].to_numpy().tolist()])

    def test_order_does_not_matter(self):
        (a, _), (b, _) = map(mobalab.statistics, self.runs())
        self.assertEqual(a + b, b + a)
        self.assertEqual(sum([a, b]), a + b)

    def test_what_does_not_add(self):
        first, second = map(mobalab.statistics, self.runs())
        self.assertEqual(error_of(lambda: first[0] + first[0]),
                         "seed = 1: its trials are in both statistics; add runs of different seeds")
        self.assertEqual(error_of(lambda: (first[0] + second[0]) + second[0])[:8], "seed = 2")
        self.assertEqual(error_of(lambda: first[0] + second[1]),
                         "head_dim = 32 and 64: are different points, whose counts do not add")
        by_misses = mobalab.statistics(self.runs(max_misses=100)[1])
        self.assertIn("max-misses = plain and 100", error_of(lambda: first[0] + by_misses[0]))
        anonymous = Statistics(10, 1, first[0].identity)
        self.assertIn("streams: are known of one", error_of(lambda: first[0] + anonymous))
        with self.assertRaises(TypeError):
            first[0] + 3
        self.assertIn("has no counts that add", error_of(mobalab.statistics, mobalab.theory()))
        self.assertIn("method = conditional", error_of(mobalab.statistics, mobalab.simulate(
            head_dim=2048, block_size=16, target_relative_error=0.3)))

    def test_what_is_plain_is_no_part_of_a_point(self):
        """A point is the same whatever else is in its grid."""
        alone = mobalab.statistics(mobalab.simulate(head_dim=32, candidates=30, trials=1000, seed=1))[0]
        grid = mobalab.statistics(mobalab.simulate(head_dim=32, candidates=30, trials=1000, seed=2, needles=[1, 2],
                                                   key_correlation=[0, 0.1], model="gaussian-fixed,vector,sphere"))
        same = [one for one in grid if one.identity == alone.identity]
        self.assertEqual(len(same), 1)
        self.assertEqual((alone + same[0]).trials, 2000)

    def test_the_order_of_an_identity_does_not_matter(self):
        one, other = (("topk", 4), ("head_dim", 64)), (("head_dim", 64), ("topk", 4))
        self.assertEqual((Statistics(10, 1, one) + Statistics(20, 2, other)).trials, 30)
        self.assertEqual(error_of(lambda: Statistics(10, 1, one) + Statistics(20, 2, (("head_dim", 64), ("topk", 8)))),
                         "topk = 4 and 8: are different points, whose counts do not add")

    def test_rules_that_differ_in_the_seventh_digit_do_not_add(self):
        for value, others in ((0.1234567, ("0.1234567", 0.1234568)), (12_345_678, ("12345678", 12_345_679)),
                              (1024, ("1K", 1025))):
            rule = counts.rules_of({"max_misses": value})
            self.assertEqual(rule, counts.rules_of({"max-misses": others[0]}))
            self.assertNotEqual(rule, counts.rules_of({"max_misses": others[1]}))
        self.assertEqual(error_of(counts.rules_of, {"max_misses": "1k"})[:17], "max_misses = '1k'")

    def test_anonymous_counts(self):
        total = Statistics(100, 3) + Statistics(np.int64(900), 0)
        self.assertEqual((total.trials, total.misses, total.miss), (1000, 3, 0.003))
        found = json.loads(subprocess.run([PROGRAM, "interval", "--misses", "3", "--trials", "1000", "--json"], check=True,
                                          capture_output=True, text=True).stdout)[0]
        self.assertEqual(total.interval(), (found["low"], 0.003, found["high"]))
        nothing = Statistics(0, 0).interval()
        self.assertEqual((nothing.low, nothing.high), (0.0, 1.0))
        self.assertTrue(math.isnan(nothing.value) and math.isnan(Statistics(0, 0).miss))

    def test_many_intervals(self):
        many = [Statistics(100_000_000 + n, n) for n in range(5000)]
        found = mobalab.intervals(many)
        self.assertEqual(len(found), 5000)
        self.assertEqual(found[4321], many[4321].interval())

    def test_counts_that_cannot_be(self):
        self.assertEqual(error_of(Statistics, 3, 4), "misses = 4: must be at most the 3 trials; nearest valid choice: 3")
        self.assertEqual(error_of(Statistics, 3, -1), "misses = -1: must be at least 0; nearest valid: 0")
        self.assertEqual(error_of(Statistics, 3, 0.5), "misses = 0.5: must be a whole number")
        self.assertEqual(error_of(Statistics, math.nan, 0), "trials = nan: must be a whole number")
        self.assertIn("are not those of the streams", error_of(Statistics, 3, 0, (), (Stream(1, 4, 0),)))
        self.assertIn("confidence = 2", error_of(Statistics(3, 0).interval, 2))

    def test_combine_takes_files(self):
        run = self.runs()[0]
        self.assertIn("a dataset is no results file", error_of(mobalab.combine, run, run))
        self.assertIn("name at least two results files", error_of(mobalab.combine))
        self.assertIn("no.h5", error_of(mobalab.combine, "no.h5", "none.h5"))
        for files in ({"out": ["a.h5", "b.h5"]}, {"out": []}):
            self.assertIn("must be one path", error_of(mobalab.combine, "no.h5", "none.h5", **files))
        self.assertIn("force = 'no': is a switch", error_of(mobalab.combine, "no.h5", "none.h5", out="a.h5", force="no"))
        self.assertIn("name it with out", error_of(mobalab.combine, "no.h5", "none.h5", force=True))


if __name__ == "__main__":
    unittest.main()
