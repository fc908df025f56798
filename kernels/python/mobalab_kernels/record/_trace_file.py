"""Writes a trace: queries, keys and values of a model on one text, as safetensors with format qkv-trace.

Metadata are strings. One layer: tensors q [rows, query heads, head dim], k and v [tokens, key heads, head dim] and the
metadata `layer`; several: layers.<n>.q and so on and `recorded_layers`. token_ids, int32 [tokens], where known.
"""

import json
import os
import struct
from pathlib import Path

import numpy as np

from .._atomic_file import replacing
from .._errors import INVALID_ARGUMENT, Error, invalid
from ._arrays import DTYPES

ALIGNMENT = 64  # of the data within the file, so that a memory map of it has aligned numbers


def write(path, layers, metadata, token_ids=None):
    """Writes {layer number: {"q": array, "k": array, "v": array}} as `stored` returns them; v may be absent everywhere.

    The file appears whole or not at all: it is written beside its place, synced and renamed over what stood there.
    """
    named = [f"{n}:{name}" for n in layers for name in layers[n]]
    assert named, "a trace has at least one layer"
    many = len(layers) > 1
    tensors = {} if token_ids is None else {"token_ids": ("I32", np.ascontiguousarray(token_ids, dtype=np.int32))}
    for n in sorted(layers):
        for name, array in layers[n].items():
            tensors[f"layers.{n}.{name}" if many else name] = (DTYPES[metadata["dtype"]], array)
    numbers = {"recorded_layers": ",".join(map(str, sorted(layers)))} if many else {"layer": str(next(iter(layers)))}
    _write_atomically(Path(path), _header(tensors, {**metadata, **numbers}), [array for _, array in tensors.values()])


def check_path(path):
    """Says before a long run what would only fail at its end."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise invalid("path", str(path), "a file named *.safetensors", str(path.with_suffix(".safetensors")))
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise invalid("path", str(path), "a regular file or a new one", f"{path.stem}_trace.safetensors")
    if not path.resolve().parent.is_dir():
        raise invalid("path", str(path), "in a folder that exists", f"mkdir -p {path.parent} first")
    if not os.access(path.resolve().parent, os.W_OK):
        raise invalid("path", str(path), "in a folder that you may write to", path.name)


def _header(tensors, metadata):
    entries, at = {"__metadata__": metadata}, 0
    for name, (kind, array) in tensors.items():
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-(8 + len(text)) % ALIGNMENT)


def _write_atomically(path, header, arrays):
    target = path.resolve()  # through a symbolic link: it stays, what it names is replaced
    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
    try:
        with replacing(target, mode) as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for array in arrays:
                file.write(memoryview(array.reshape(-1)).cast("B"))
    except OSError as failed:
        raise Error(
            INVALID_ARGUMENT, f"{path}: cannot be written ({failed.strerror}); what stood there is unchanged"
        ) from failed


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
