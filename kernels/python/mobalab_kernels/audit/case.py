"""One input of one check, how inputs are drawn, and the file that keeps one."""

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._errors import invalid
from .files import write_bytes
from .formats import round_to
from .settings import Settings

_META = "case"  # the entry of the file that holds everything but the tensors


class Case(NamedTuple):
    check: str
    name: str  # of the input among those of its check
    settings: Settings
    numbers: dict  # integers, numbers and lists of integers that the check needs besides
    arrays: dict  # float32 arrays whose values are numbers of settings.dtype


def generator(settings, check, name):
    """The generator of one input: hangs on the seed and the names alone, not on what was drawn before."""
    words = [settings.seed, *check.encode(), 0, *name.encode()]
    return np.random.default_rng(words)


def normals(rng, shape, dtype, shift=0.0):
    """Standard normals plus `shift`, rounded to the dtype, as float32."""
    drawn = rng.standard_normal(shape, dtype=np.float32) + np.asarray(shift, dtype=np.float32)
    return in_format(drawn, dtype)


def in_format(values, dtype):
    return values.astype(np.float32) if dtype == "float32" else round_to(values, dtype).astype(np.float32)


def tensors(rng, settings, tokens=None, mean=0.0):
    """{"q", "k", "v"}: independent normals; keys have a mean per head and channel, normal of `mean` spreads."""
    s = settings
    tokens = s.seq_len if tokens is None else tokens
    shape, shape_k = (tokens, s.heads, s.head_dim), (tokens, s.heads_k, s.head_dim)
    shift = mean * rng.standard_normal(shape_k[1:]) if mean else 0.0
    return {
        "q": normals(rng, shape, s.dtype),
        "k": normals(rng, shape_k, s.dtype, shift),
        "v": normals(rng, shape_k, s.dtype),
    }


def save(path, case):
    """Writes the case as .npz: the tensors as they are in 16 bits where their dtype has no more."""
    stored = {name: _packed(array, case.settings.dtype) for name, array in case.arrays.items()}
    meta = {"check": case.check, "name": case.name, "settings": case.settings._asdict(), "numbers": case.numbers}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored, **{_META: np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)})
    write_bytes(path, buffer.getvalue())


def load(path):
    """The case of a file; an error of one line where it is none."""
    try:
        with np.load(Path(path), allow_pickle=False) as stored:
            entries = {name: stored[name] for name in stored.files}
        meta = json.loads(entries.pop(_META).tobytes())
        settings = Settings(**meta["settings"]).checked()
        arrays = {name: _unpacked(array, settings.dtype) for name, array in entries.items()}
        return Case(meta["check"], meta["name"], settings, meta["numbers"], arrays)
    except OSError as failed:
        raise invalid("replay", path, f"a file that can be read ({failed.strerror or failed})", "its path") from failed
    except (KeyError, ValueError, TypeError, EOFError) as failed:
        raise invalid("replay", path, f"a file that an audit wrote ({failed})", "a file of its folder worst") from failed


def _packed(array, dtype):
    if array.dtype != np.float32 or dtype == "float32":
        return array
    if dtype == "float16":
        return array.astype(np.float16)
    return (array.view(np.uint32) >> 16).astype(np.uint16)  # its lower half is zero


def _unpacked(array, dtype):
    if array.dtype == np.uint16 and dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array
