"""Planted needles: how many are routed to, beside the exact probability.

One needle a key set, and every key set drawn anew, so that hits are independent trials of one probability and the
binomial test is exact. False alarms: 1e-9. Other laws than that of unit keys are not tested here.
"""

import math

import numpy as np

from ..case import Case, generator
from ..finding import Finding
from ..needle_law import binomial_p_value, hit_probability

NAME = "needles"
QUESTION = "are planted needles found as often as theory says?"
NEEDS = ("route",)
REPORTS = False
FALSE_ALARM = 1e-9
_HEADS = 16  # key sets of a call
_ELEMENTS = 10**8  # keys' channels that an audit draws, at most
_FOUND = 6.11 + 1.28  # standard errors: the test's threshold, and 0.9 of a normal


def cases(settings):
    s = settings
    candidates = s.topk + 4
    strengths = np.append([0.02, 0.05, 0.1, 0.15], np.linspace(0.2, 0.95, 16))
    chances = [hit_probability(s.head_dim, s.block_size, candidates, s.topk - 1, mu) for mu in strengths]
    best = int(np.argmin(np.abs(np.array(chances) - 0.6)))
    tokens = (candidates + 1) * s.block_size
    calls = min(max(_ELEMENTS // (tokens * s.head_dim * _HEADS), 16), 128)
    numbers = {"candidates": candidates, "mu": float(strengths[best]), "calls": calls}
    return [Case(NAME, "unit keys", s, numbers, {})]


def judge(subject, case):
    s, n = case.settings, case.numbers
    expected = hit_probability(s.head_dim, s.block_size, n["candidates"], s.topk - 1, n["mu"])
    rng = generator(s, NAME, case.name)
    trials = n["calls"] * _HEADS
    hits = sum(_hits(subject, s, n, rng) for _ in range(n["calls"]))
    p = binomial_p_value(hits, trials, expected)
    found = _FOUND * math.sqrt(expected * (1 - expected) / trials)
    said = (
        f"{hits} of {trials} found ({hits / trials:.4f}), theory {expected:.4f}, p = {p:.3g}; fails below "
        f"{FALSE_ALARM:g}, a difference of {found:.2g} is seen with probability 0.9"
    )
    return Finding(p < FALSE_ALARM, -p, said, f"d {s.head_dim}, B {s.block_size}, c {n['candidates']}, mu {n['mu']:.2f}")


def _hits(subject, s, n, rng):
    tokens = (n["candidates"] + 1) * s.block_size
    k = rng.standard_normal((tokens, _HEADS, s.head_dim), dtype=np.float32)
    k /= np.linalg.norm(k, axis=2, keepdims=True)
    places = rng.integers(0, n["candidates"] * s.block_size, _HEADS)
    needles = k[places, np.arange(_HEADS)]
    other = rng.standard_normal(needles.shape, dtype=np.float32)
    other -= (other * needles).sum(axis=1, keepdims=True) * needles
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    q = np.zeros_like(k)
    q[-1] = n["mu"] * needles + math.sqrt(1 - n["mu"] ** 2) * other
    selection = subject.route(q, k, s.block_size, s.topk)[:, -1]
    return int((selection == places[:, None] // s.block_size).any(axis=1).sum())
