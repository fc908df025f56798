"""The exact probability that routing finds a needle among unit keys (the model `sphere` of analysis/README.md).

A query has affinity mu with one key of its block and is independent of all others, whose affinities t have density ~
(1 - t^2)^((d-3)/2). With T_R the sum of R of them the needle's block scores (mu + T_(B-1)) / B, another one T_B / B, and
P(hit) = int f_(B-1)(y) P(Binomial(c - 1, P(T_B > mu + y)) <= slots - 1) dy. Laws of T_R by inversion of their
characteristic function (Gil-Pelaez 1951), whose trapezoidal sums converge exponentially.
"""

import math

import numpy as np


class AffinitySum:
    """T_count for keys of `head_dim` channels; arguments up to `reach` in magnitude."""

    def __init__(self, head_dim, count, reach):
        self.spread = math.sqrt(count / head_dim)
        step = 2 * math.pi / (2 * (reach + 10 * self.spread) + 1)
        frequencies = (np.arange(20000) + 0.5) * step
        frequencies = frequencies[frequencies * self.spread < 40]
        angles = (np.arange(2000) + 0.5) * math.pi / 2000
        weights = np.sin(angles) ** (head_dim - 2)
        self.weights = (np.cos(np.outer(frequencies, np.cos(angles))) @ weights / weights.sum()) ** count * step / math.pi
        self.frequencies = frequencies

    def density(self, x):
        return np.cos(np.outer(x, self.frequencies)) @ self.weights

    def above(self, x):
        """P(T > x)."""
        return np.clip(0.5 - np.sin(np.outer(x, self.frequencies)) @ (self.weights / self.frequencies), 0.0, 1.0)


def at_most(most, trials, p):
    """P(Binomial(trials, p) <= most) for an array of p."""
    if most >= trials:
        return np.ones_like(p)
    return sum(math.comb(trials, i) * p**i * (1 - p) ** (trials - i) for i in range(most + 1))


def hit_probability(head_dim, block_size, candidates, slots, mu):
    """P(the needle's block is among the best `slots` of `candidates`)."""
    rest = block_size - 1
    noise = AffinitySum(head_dim, block_size, mu + 10 * math.sqrt(block_size / head_dim))
    if rest == 0:
        return float(at_most(slots - 1, candidates - 1, noise.above(np.array([mu])))[0])
    reach = 10 * math.sqrt(rest / head_dim)
    y = np.linspace(-reach, reach, 801)
    density = AffinitySum(head_dim, rest, reach).density(y)
    found = density * at_most(slots - 1, candidates - 1, noise.above(mu + y))
    return float(found.sum() * (y[1] - y[0]))


def binomial_p_value(successes, trials, p):
    """Twice the smaller tail, at most 1: exact. A p that rounds to 0 or 1 is taken for the number next to it."""
    p = min(max(p, 1e-300), 1 - 2**-53)
    counts = np.arange(trials + 1)
    logs = np.array([math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1) for i in counts])
    mass = np.exp(logs + counts * math.log(p) + (trials - counts) * math.log1p(-p))
    return min(1.0, 2 * min(float(mass[: successes + 1].sum()), float(mass[successes:].sum())))
