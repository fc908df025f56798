"""Outputs beside one exact softmax over the blocks that the subject itself keeps."""

import numpy as np

from .. import reference
from ..case import Case, generator, tensors
from ..finding import Finding
from ..formats import FORWARD_ERROR
from .common import kept_by

NAME = "attention"
QUESTION = "is the output one exact softmax over the kept keys?"
NEEDS = ("attention",)
REPORTS = False


def cases(settings):
    found = []
    for name, scale in (("normal queries", 1.0), ("sharp queries", 4.0)):
        drawn = tensors(generator(settings, NAME, name), settings)
        drawn["q"] = drawn["q"] * np.float32(scale)  # a power of two: exact
        found.append(Case(NAME, name, settings, {}, drawn))
    return found


def judge(subject, case):
    s, (q, k, v) = case.settings, (case.arrays[x] for x in "qkv")
    kept, clear = kept_by(subject, case, q, k)
    exact, _ = reference.attention(q, k, v, kept, s.block_size)
    off = np.where(clear.T[:, :, None], subject.attention(q, k, v, s.block_size, s.topk) - exact, 0.0)
    off[np.isnan(off)] = np.inf
    return error_finding({"out": (off, exact)}, FORWARD_ERROR[s.dtype], int((~clear).sum()))


def error_finding(pairs, limit, unsure=0):
    """pairs: {name: (difference, exact)}; relative Frobenius errors against a limit."""
    errors = {name: float(np.linalg.norm(off) / np.linalg.norm(exact)) for name, (off, exact) in pairs.items()}
    worst = max(errors, key=lambda name: errors[name])
    off, exact = pairs[worst]
    place = np.unravel_index(np.abs(off).argmax(), off.shape)
    words = ", ".join(f"{name} {error:.3g}" for name, error in errors.items())
    left = f"; {unsure} rows left out, whose cut is within rounding" if unsure else ""
    where = f"{worst}[{', '.join(str(int(i)) for i in place)}]: off by {off[place]:.3g}, exact {exact[place]:.6g}"
    return Finding(
        not errors[worst] <= limit, errors[worst], f"relative Frobenius error: {words}; limit {limit:g}{left}", where
    )
