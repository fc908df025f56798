"""Opens results files with xarray as a user would: results_file_xarray_test.py PATH_OF_MOBALAB."""

import hashlib
import json
import subprocess
import sys
import tempfile
import unittest
import uuid
from csv import DictReader as csv_rows
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import xarray as xr

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from notebooks_export.results import ESTIMATE_COLUMNS, SEAL_MARK, open_results  # noqa: E402

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
        for column in ("misses", "trials", "low", "high", "miss_probability", "snr", "seed", "stop_reason"):
            self.assertEqual(list(table[column].values), [row[column] for row in rows], column)
        self.assertEqual(table.misses.dtype, np.int64)
        self.assertEqual(table.miss.dtype, np.float64)
        for name, column in table.data_vars.items():
            self.assertTrue(column.attrs["long_name"], name)
            self.assertEqual("units" in column.attrs, column.dtype.kind not in "OTU", name)  # texts, by xarray's version
        self.assertIn("Clopper-Pearson", table.low.attrs["definition"])

    def test_rows_without_counts(self):
        rows = json.loads(mobalab("simulate", "--head-dim", 64, "--block-size", 16, "--mu-signal", "0.1,1",
                                  "--cluster-size", "1,16", "--mu-cluster", 0.3, "--target-relative-error", 0.1,
                                  "--out", self.path, "--json"))
        misses = [row["misses"] for row in rows]
        self.assertIn(None, misses)
        self.assertTrue(any(count is not None for count in misses), "the test has no power")
        table = self.open("simulate")
        np.testing.assert_array_equal(table.misses.values, np.array(misses, float))

    def test_beyond_the_paper(self):
        rows = json.loads(mobalab("simulate", "--candidates", 9, "--block-size", 8, "--needles", 2, "--goal", "any,all",
                                  "--key-correlation", "0,0.1", "--trials", 500, "--out", self.path, "--json"))
        table = self.open("simulate")
        self.assertEqual(list(table.goal.values), ["any", "any", "all", "all"])
        self.assertEqual(list(table.key_correlation.values), [0.0, 0.1, 0.0, 0.1])
        self.assertEqual(list(np.isnan(table.miss_probability.values)), [False, True, False, True])
        self.assertIsNone(rows[1]["miss_probability"])

    def test_names_are_the_same_in_json_csv_and_the_file(self):
        point = ["--head-dim", 32, "--block-size", 16, "--seq-len", "1K", "--topk", 4]
        for command, more in {"theory": [], "simulate": ["--trials", 100], "route": ["--probes", 128],
                              "validate": ["--probes", 128, "--trials", 100],
                              "bench": ["--repeats", 3, "--max-seconds", 0]}.items():
            rows = json.loads(mobalab(command, *point, *more, "--out", self.path, "--force", "--json"))
            with xr.open_dataset(self.path, engine="h5netcdf", group=command) as table:
                self.assertEqual(list(table.data_vars), list(rows[0]), command)
                self.assertEqual(dict(table.sizes).popitem()[1], len(rows), command)
                csv = list(csv_rows(mobalab("table", self.path, "--table", command, "--csv").splitlines()))
                self.assertEqual(list(csv[0]), list(rows[0]), command)
                for name, column in table.data_vars.items():
                    for value, row, cells in zip(column.values, rows, csv, strict=True):
                        if row[name] is None:
                            self.assertEqual((np.isnan(value), cells[name]), (True, ""), name)
                        else:
                            self.assertEqual((value, type(row[name])(cells[name])), (row[name], row[name]), name)
            names = set(rows[0])  # as documented
            self.assertLessEqual({"simulate": {"trials", "misses", "low", "high", "seed"},
                                  "route": {"trials", "misses", "low", "high", "seed"},
                                  "theory": {"snr", "pairwise_miss", "hit_probability", "miss_probability"},
                                  "validate": {"adjusted_p"}, "bench": {"name"}}[command], names, command)

    def as_version_1(self, group, prefix):
        """Gives the file at self.path the names and the seal it had in schema version 1."""
        with h5py.File(self.path, "a") as file:
            file.attrs["schema_version"] = np.int64(1)
            table = file[group]
            del table["seed"]
            for name in [name for name in table if name in ESTIMATE_COLUMNS[group]]:
                table.move(name, ESTIMATE_COLUMNS[group][name])
                self.assertTrue(ESTIMATE_COLUMNS[group][name].startswith(prefix))
        content = self.path.read_bytes()
        content = content[:content.rfind(SEAL_MARK)] if SEAL_MARK in content else content
        digest = hashlib.sha1(uuid.NAMESPACE_OID.bytes + content).digest()
        self.path.write_bytes(content + SEAL_MARK + str(uuid.UUID(bytes=digest[:16], version=5)).encode() + b"\n")

    def test_files_of_version_1_are_read(self):
        for group, prefix, more in (("simulate", "sim_", ["--trials", 100]), ("route", "kernel_", ["--probes", 128])):
            mobalab(group, "--head-dim", 32, "--block-size", 16, "--seq-len", "1K", *more, "--out", self.path, "--force")
            now = next(csv_rows(mobalab("table", self.path, "--csv").splitlines()))
            drawn = open_results(self.path).points
            self.as_version_1(group, prefix)
            before = next(csv_rows(mobalab("table", self.path, "--csv").splitlines()))
            self.assertEqual(before, {name: value for name, value in now.items() if name != "seed"})
            pd.testing.assert_frame_equal(open_results(self.path).points[drawn.columns], drawn)

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
        self.assertEqual(attributes["schema_version"], 2)
        self.assertEqual(attributes["seed"], 5)
        self.assertEqual(attributes["command"],
                         f"mobalab simulate --model gaussian --trials 1000 --seed 5 --out {self.path}")
        self.assertRegex(attributes["utc_time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        for name in ("git_commit", "build", "device", "version", "task", "settings"):
            self.assertTrue(attributes[name], name)


if __name__ == "__main__":
    unittest.main()
