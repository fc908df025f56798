"""Centroids beside the exact mean of their block, rounded once to the format they are kept in."""

import numpy as np

from ..case import Case, generator, tensors
from ..finding import Finding
from ..formats import FORMATS, round_to, ulp
from ..subject import Refused
from .common import share, unrounded

NAME = "summaries"
QUESTION = "is every centroid the mean of its block in fp32, rounded once?"
NEEDS = ("summaries",)
REPORTS = False
MEANS = {"normal keys": 0.0, "keys with a shared mean of 5 spreads": 5.0}


def cases(settings):
    found = []
    for name, mean in MEANS.items():
        drawn = tensors(generator(settings, NAME, name), settings, settings.seq_len + settings.block_size // 2, mean)
        found.append(Case(NAME, name, settings, {}, {"k": drawn["k"]}))
    return found


def judge(subject, case):
    k, block_size = case.arrays["k"], case.settings.block_size
    found, name = subject.summaries(k, block_size)
    if name not in FORMATS:
        raise Refused(f"summaries returned dtype {name}: must be one of {', '.join(FORMATS)}")
    exact, slack = unrounded(subject, k, block_size)
    limit = ulp(exact, name) / 2 + slack  # half a step of the format, and the error of a sum in fp32 in any usual order
    off = np.abs(found - exact)
    off[np.isnan(off)] = np.inf
    excess = off / limit
    block, head, channel = (int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
    wrong = int((excess > 1).sum())
    other = int((found != round_to(exact, name)).sum())
    steps = float((off / ulp(exact, name)).max())
    return Finding(
        wrong > 0,
        float(excess.max()),
        f"{share(wrong, found.size)} elements beyond a sum in fp32 rounded once to {name}; {share(other, found.size)} "
        f"are not the exact mean rounded once; largest error {steps:.3g} steps of the format",
        f"block {block}, head {head}, channel {channel}: {float(found[block, head, channel])!r}, exact mean "
        f"{float(exact[block, head, channel])!r}",
    )
