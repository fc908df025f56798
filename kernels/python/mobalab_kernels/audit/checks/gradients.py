"""dq, dk and dv beside float64."""

import numpy as np

from .. import reference
from ..case import Case, generator, tensors
from ..formats import GRADIENT_ERROR
from .attention import error_finding
from .common import kept_by

NAME = "gradients"
QUESTION = "are dq, dk and dv those of one exact softmax over the kept keys?"
NEEDS = ("gradients",)
REPORTS = False


def cases(settings):
    rng = generator(settings, NAME, "normal keys")
    return [Case(NAME, "normal keys", settings, {}, {**tensors(rng, settings), "d_out": tensors(rng, settings)["q"]})]


def judge(subject, case):
    s, (q, k, v) = case.settings, (case.arrays[x] for x in "qkv")
    kept, clear = kept_by(subject, case, q, k)
    d_out = case.arrays["d_out"] * clear.T[:, :, None].astype(np.float32)  # nothing flows from rows of unsure cut
    exact = reference.gradients(q, k, v, d_out, kept, s.block_size)
    found = subject.gradients(q, k, v, d_out, s.block_size, s.topk)
    pairs = {f"d{x}": (np.where(np.isnan(f), np.inf, f - e), e) for x, f, e in zip("qkv", found, exact)}
    return error_finding(pairs, GRADIENT_ERROR[s.dtype], int((~clear).sum()))
