"""Opens results files with xarray as a user would: results_file_xarray_test.py PATH_OF_MOBALAB."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import xarray as xr

PROGRAM = sys.argv.pop(1)


def mobalab(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


class Xarray(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name) / "a.h5"

    def open(self, group):
        dataset = xr.open_dataset(self.path, engine="h5netcdf", group=group)
        self.addCleanup(dataset.close)
        return dataset

    def test_simulate(self):
        arguments = ["simulate", "--model", "gaussian", "--head-dim", "32,64", "--block-size", "16:64:x2",
                     "--trials", 2000, "--seed", 5]
        rows = json.loads(mobalab(*arguments, "--out", self.path, "--json"))
        table = self.open("simulate")
        self.assertEqual(dict(table.sizes), {"point": 6})
        self.assertEqual(list(table.head_dim.values), [32, 32, 32, 64, 64, 64])
        self.assertEqual(list(table.model.values), ["gaussian"] * 6)
        for column, key in {"sim_misses": "misses", "sim_trials": "trials", "sim_miss_low": "low",
                            "sim_miss_high": "high", "miss_probability": "miss_probability", "snr": "snr"}.items():
            self.assertEqual(list(table[column].values), [row[key] for row in rows], column)
        self.assertEqual(table.sim_misses.dtype, np.int64)
        self.assertEqual(table.sim_miss.dtype, np.float64)
        for name, column in table.data_vars.items():
            self.assertTrue(column.attrs["long_name"], name)
            self.assertEqual("units" in column.attrs, column.dtype != object, name)
        self.assertIn("Clopper-Pearson", table.sim_miss_low.attrs["definition"])

    def test_rows_without_counts(self):
        rows = json.loads(mobalab("simulate", "--head-dim", 64, "--block-size", 16, "--mu-signal", "0.1,1",
                                  "--cluster-size", "1,16", "--mu-cluster", 0.3, "--target-relative-error", 0.1,
                                  "--out", self.path, "--json"))
        misses = [row["misses"] for row in rows]
        self.assertIn(None, misses)
        self.assertTrue(any(count is not None for count in misses), "the test has no power")
        table = self.open("simulate")
        np.testing.assert_array_equal(table.sim_misses.values, np.array(misses, float))

    def test_beyond_the_paper(self):
        rows = json.loads(mobalab("simulate", "--candidates", 9, "--block-size", 8, "--needles", 2, "--goal", "any,all",
                                  "--key-correlation", "0,0.1", "--trials", 500, "--out", self.path, "--json"))
        table = self.open("simulate")
        self.assertEqual(list(table.goal.values), ["any", "any", "all", "all"])
        self.assertEqual(list(table.key_correlation.values), [0.0, 0.1, 0.0, 0.1])
        self.assertEqual(list(np.isnan(table.miss_probability.values)), [False, True, False, True])
        self.assertIsNone(rows[1]["miss_probability"])

    def test_columns_keep_their_order(self):
        mobalab("theory", "--model", "gaussian", "--out", self.path)
        self.assertEqual(list(self.open("theory").data_vars), [
            "model", "head_dim", "block_size", "seq_len", "candidates", "topk", "cluster_size", "mu_signal",
            "mu_noise", "mu_cluster", "delta_mu_eff", "snr", "pairwise_miss", "reliable_snr", "hit_probability",
            "miss_probability", "log_miss_probability"])

    def test_root_attributes(self):
        mobalab("simulate", "--model", "gaussian", "--trials", 1000, "--seed", 5, "--out", self.path)
        attributes = self.open(None).attrs
        self.assertEqual(attributes["schema"], "mobalab results")
        self.assertEqual(attributes["schema_version"], 1)
        self.assertEqual(attributes["seed"], 5)
        self.assertEqual(attributes["command"],
                         f"mobalab simulate --model gaussian --trials 1000 --seed 5 --out {self.path}")
        self.assertRegex(attributes["utc_time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        for name in ("git_commit", "build", "device", "version", "task", "settings"):
            self.assertTrue(attributes[name], name)


if __name__ == "__main__":
    unittest.main()
