#!/usr/bin/env python3
"""Traces that numpy and h5py write, as in experiments/trace/README.md, are read with the numbers they hold."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

DUMP = sys.argv.pop(1)
SEED = 20251128


def metadata(dtype, **more):
    return {"format": "qkv-trace", "format_version": "1", "layout": "token,head,dim", "query_heads": "6", "key_heads": "2",
            "head_dim": "16", "tokens": "70", "q_start": "20", "k_start": "0", "scale": "0.25", "causal": "1", "rope": "post",
            "dtype": dtype, **more}


def heads_of(path):
    """{(tensor, layer, head): fp32 [rows, dim]} as the reader sees them."""
    done = subprocess.run([DUMP, path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    heads = {}
    for line in done.stdout.splitlines():
        name, layer, head, rows, dim, numbers = line.split(" ")
        values = np.frombuffer(bytes.fromhex(numbers), ">f4").astype(np.float32)
        heads[name, int(layer), int(head)] = values.reshape(int(rows), int(dim))
    return heads


def as_float(array, dtype):
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else array.astype(np.float32)


class WrittenInPython(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "trace"
        self.random = np.random.default_rng(SEED)

    def arrays(self, dtype, prefixes):
        shapes = {"q": (50, 6, 16), "k": (70, 2, 16), "v": (70, 2, 24)}
        arrays = {}
        for prefix in prefixes:
            for name, shape in shapes.items():
                numbers = self.random.standard_normal(shape, dtype=np.float32)
                arrays[prefix + name] = {"fp32": lambda x: x, "fp16": lambda x: x.astype(np.float16),
                                         "bf16": lambda x: (x.view(np.uint32) >> 16).astype(np.uint16)}[dtype](numbers)
        return arrays

    def compare(self, arrays, dtype, layers):
        heads = heads_of(self.path)
        self.assertEqual(len(heads), 10 * len(layers))
        for (name, layer, head), read in heads.items():
            written = arrays[layers[layer] + name][:, head]
            np.testing.assert_array_equal(read, as_float(written, dtype), f"{name} of layer {layer}, head {head}")

    def each(self, write):
        for dtype in ("fp32", "fp16", "bf16"):
            for layers, more in (({7: ""}, {"layer": "7"}),
                                 ({0: "layers.0.", 11: "layers.11."}, {"recorded_layers": "0,11"})):
                with self.subTest(dtype=dtype, layers=list(layers), seed=SEED):
                    arrays = self.arrays(dtype, layers.values())
                    write(arrays, metadata(dtype, **more))
                    self.compare(arrays, dtype, layers)

    def test_npz(self):
        for save in (np.savez, np.savez_compressed):
            def write(arrays, texts, save=save):
                with self.path.open("wb") as file:
                    save(file, **arrays, __metadata__=json.dumps(texts))
            self.each(write)

    def test_hdf5(self):
        for options in ({}, {"chunks": True}, {"compression": "gzip", "shuffle": True, "fletcher32": True}):
            def write(arrays, texts, options=options):
                with h5py.File(self.path, "w") as file:
                    for name, array in arrays.items():
                        file.create_dataset(name, data=array, **options)
                    file.attrs.update(texts)
            self.each(write)

    def test_hdf5_of_the_newest_layout_and_fixed_strings(self):
        arrays = self.arrays("fp16", [""])
        with h5py.File(self.path, "w", libver="latest") as file:
            for name, array in arrays.items():
                file[name] = array
            for name, text in metadata("fp16", layer="7", text="x" * 100_000).items():
                file.attrs[name] = np.bytes_(text)
        self.compare(arrays, "fp16", {7: ""})

    def test_what_is_refused_says_so(self):
        arrays = self.arrays("fp32", [""])
        cases = {"needles": ({**metadata("fp32", layer="7"), "q_start": 20}, arrays, "q_start = 20: must be a string"),
                 "double": (metadata("fp32", layer="7"), {**arrays, "k": arrays["k"].astype(np.float64)}, "elements <f8"),
                 "objects": (metadata("fp32", layer="7"), {**arrays, "x": np.array([{}, None], object)}, "pickled objects"),
                 "Fortran": (metadata("fp32", layer="7"), {**arrays, "q": np.asfortranarray(arrays["q"])}, "Fortran's order")}
        for name, (texts, written, message) in cases.items():
            with self.subTest(name), self.path.open("wb") as file:
                np.savez(file, **written, __metadata__=json.dumps(texts))
                file.flush()
                with self.assertRaisesRegex(ValueError, message):
                    heads_of(self.path)
        with h5py.File(self.path, "w") as file:
            file.create_dataset("q", data=arrays["q"], compression="lzf")
            file.attrs.update(metadata("fp32", layer="7"))
        with self.assertRaisesRegex(ValueError, 'q: uses filter 32000 "lzf"; write it without compression, or with gzip'):
            heads_of(self.path)


if __name__ == "__main__":
    unittest.main()
