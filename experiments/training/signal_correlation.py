"""How alike the heads of a model score the pair's block: what makes them hit or miss together."""

import math

import torch

from .records import finite


class SignalCorrelation:
    """Mean over pairs of heads of the correlation, over queries, of their standardised scores of the pair's block."""

    def __init__(self):
        self.queries, self.sums, self.products = 0, 0, 0

    def add(self, signals):
        """A batch: a tensor [sequences, heads, asked] a layer; queries with a NaN in any of them do not count."""
        z = torch.cat(signals, 1).transpose(1, 2).flatten(0, 1).double()
        z = z[z.isfinite().all(1)]
        self.queries += len(z)
        self.sums = self.sums + z.sum(0)
        self.products = self.products + z.T @ z

    def fields(self):
        """signal_correlation, where there are two heads whose scores vary."""
        if self.queries == 0 or len(self.sums) < 2:
            return {}
        mean = self.sums / self.queries
        covariance = self.products / self.queries - mean[:, None] * mean
        sd = covariance.diagonal().sqrt()
        correlation = covariance / (sd[:, None] * sd)
        pairs = len(sd) * (len(sd) - 1)
        total = float(correlation.sum() - correlation.diagonal().sum())
        # A mean of NaN: the scores of some head do not vary.
        return finite(signal_correlation=total / pairs if math.isfinite(total) else math.nan)
