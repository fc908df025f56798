#!/usr/bin/env python3
"""Writes small traces into a folder, as seeds for trace_fuzz: of one layer and of two, safetensors and .npz. Needs no numpy.

Usage: trace_seeds.py FOLDER
"""

import json
import struct
import sys
import zipfile
from pathlib import Path

METADATA = {"format": "qkv-trace", "format_version": "1", "layout": "token,head,dim", "query_heads": "2", "key_heads": "1",
            "head_dim": "4", "tokens": "6", "q_start": "2", "k_start": "0", "scale": "0.5", "causal": "1", "rope": "post",
            "rope_dim": "4", "rope_theta": "10000", "rope_layout": "half", "layers": "3",
            "needles": '[{"name":"a","query":[4],"key":[1],"fact":[0,2]}]'}
SHAPES = {"q": (4, 2, 4), "k": (6, 1, 4), "v": (6, 1, 3)}
TYPES = {"fp32": ("F32", "<f4", 4), "bf16": ("BF16", "<u2", 2), "fp16": ("F16", "<f2", 2)}


def tensors(prefixes, size):
    for prefix in prefixes:
        for name, shape in SHAPES.items():
            yield prefix + name, shape, bytes(shape[0] * shape[1] * shape[2] * size)


def safetensors(path, metadata, dtype, prefixes):
    header, data = {"__metadata__": metadata}, b""
    for name, shape, numbers in tensors(prefixes, TYPES[dtype][2]):
        header[name] = {"dtype": TYPES[dtype][0], "shape": shape, "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def npy(descr, shape, data):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def npz(path, metadata, dtype, prefixes, packing):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, shape, numbers in tensors(prefixes, TYPES[dtype][2]):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:  # as numpy does
                member.write(npy(TYPES[dtype][1], shape, numbers))
        text = json.dumps(metadata)
        archive.writestr("__metadata__.npy", npy(f"<U{len(text)}", (), text.encode("utf-32-le")))


def main():
    folder = Path(sys.argv[1])
    for dtype in TYPES:
        for layers, prefixes in (({"layer": "1"}, [""]), ({"recorded_layers": "0,2"}, ["layers.0.", "layers.2."])):
            metadata = {**METADATA, **layers, "dtype": dtype}
            name = f"{dtype}_{len(prefixes)}"
            safetensors(folder / f"{name}.safetensors", metadata, dtype, prefixes)
            npz(folder / f"{name}.npz", metadata, dtype, prefixes, zipfile.ZIP_STORED)
            npz(folder / f"{name}_packed.npz", metadata, dtype, prefixes, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
