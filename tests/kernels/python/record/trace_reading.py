"""Reads a trace by the definition of safetensors, with nothing of the recorder."""

import json
import struct
from pathlib import Path

import numpy as np

KINDS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I32": np.int32}


def read_trace(path):
    """({name: array}, metadata); bf16 as float32 of the same value."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    body, end = data[8 + length :], 0
    arrays = {}
    for name, entry in header.items():
        begin, stop = entry["data_offsets"]
        assert begin == end, f"{name} begins at {begin}, not where the one before it ends ({end})"
        end = stop
        array = np.frombuffer(body[begin:stop], KINDS[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    assert end == len(body), f"{len(body)} bytes of data, {end} of them in tensors"
    assert all(isinstance(value, str) for value in metadata.values())
    return arrays, metadata
