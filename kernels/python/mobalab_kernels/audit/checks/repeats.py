"""The same call five times: the same bits."""

import numpy as np

from .. import reference
from ..case import Case, generator, tensors
from ..finding import Finding
from .common import bits, share

NAME = "repeats"
QUESTION = "do five calls with the same tensors give the same bits?"
NEEDS = ()
REPORTS = False
CALLS = 5


def cases(settings):
    rng = generator(settings, NAME, "normal keys")
    drawn = tensors(rng, settings)
    return [Case(NAME, "normal keys", settings, {}, {**drawn, "d_out": tensors(rng, settings)["q"]})]


def judge(subject, case):
    s, a = case.settings, case.arrays
    numbers = (s.block_size, s.topk)
    calls = {
        "summaries": lambda: subject.summaries(a["k"], s.block_size)[0],
        "route": lambda: reference.kept_of(subject.route(a["q"], a["k"], *numbers), s.block_size)[0],
        "attention": lambda: subject.attention(a["q"], a["k"], a["v"], *numbers),
        "gradients": lambda: np.concatenate(
            [g.ravel() for g in subject.gradients(a["q"], a["k"], a["v"], a["d_out"], *numbers)]
        ),
    }
    said, bad, where = [], 0, ""
    for operation, call in calls.items():
        if subject.offers(operation):
            count, size, place = _differing(call)
            said.append(f"{operation}: {share(count, size)} differ")
            bad += count
            where = where or (f"{operation} at {place}" if count else "")
    return Finding(bad > 0, float(bad), "; ".join(said), where)


def _differing(call):
    """(rows that differ in any of the repeats, rows, the first of them); rows run along all axes but the last."""
    once = call()
    changed = np.zeros(once.shape, dtype=bool)
    for _ in range(CALLS - 1):
        changed |= bits(call()) != bits(once)
    rows = changed.any(axis=-1) if changed.ndim > 1 else changed
    found = np.argwhere(rows)
    return int(rows.sum()), rows.size, tuple(int(i) for i in found[0]) if len(found) else ()
