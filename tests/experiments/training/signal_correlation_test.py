#!/usr/bin/env python3
"""The mean correlation between heads, against its definition.

Usage: signal_correlation_test.py LIBRARY; skipped without torch.
"""

import unittest

import with_torch  # noqa: F401
import numpy as np
import torch
from training.signal_correlation import SignalCorrelation


class Correlation(unittest.TestCase):
    def test_is_the_mean_over_pairs_of_heads_of_two_batches(self):
        random = np.random.default_rng(3)
        z = random.normal(size=(6, 4, 50)) + random.normal(size=(6, 1, 50))  # sequences, heads, queries
        z[0, 2, :5] = np.nan  # own blocks
        together = SignalCorrelation()
        for part in (z[:2], z[2:]):
            together.add([torch.from_numpy(part[:, :2]), torch.from_numpy(part[:, 2:])])
        by_head = z.transpose(1, 0, 2).reshape(4, -1)
        expected = np.corrcoef(by_head[:, np.isfinite(by_head).all(0)])
        mean = expected[np.triu_indices(4, 1)].mean()
        self.assertGreater(mean, 0.3)
        self.assertAlmostEqual(together.fields()["signal_correlation"], mean, places=12)

    def test_one_head_or_none_has_none(self):
        one = SignalCorrelation()
        self.assertEqual(one.fields(), {})
        one.add([torch.zeros(2, 1, 5)])
        self.assertEqual(one.fields(), {})
        still = SignalCorrelation()
        still.add([torch.zeros(2, 2, 5)])
        self.assertEqual(still.fields(), {})


if __name__ == "__main__":
    unittest.main()
