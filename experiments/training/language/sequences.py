"""Tokens of a split, cut into sequences, and the order in which training reads them."""

import functools

import numpy as np

from ..errors import InputError

ORDER_SEED = 20251114  # the order is one for all arms and all seeds, so that they differ in nothing else


class Sequences:
    """Non-overlapping sequences of seq_len tokens, each with the token behind it, which is the last one's target."""

    def __init__(self, tokens, seq_len):
        self.tokens, self.seq_len = tokens, seq_len
        self.count = (len(tokens) - 1) // seq_len if len(tokens) else 0
        if self.count < 1:
            raise InputError("corpus", f"{len(tokens)} tokens", f"more than {seq_len} in each split", "more packages")

    def rows(self, numbers):
        """int64 [len(numbers), seq_len + 1]."""
        length = self.seq_len
        return np.stack([self.tokens[n * length : (n + 1) * length + 1] for n in numbers]).astype(np.int64)

    def documents(self, ends):
        """The number of the document in which each sequence begins; ends: where each one ends (corpus/store.py)."""
        return np.searchsorted(ends, self.seq_len * np.arange(self.count), side="right").tolist()

    def of_step(self, step, sequences):
        """Numbers of the sequences that a training step reads: each epoch in an order of its own."""
        numbers = range(step * sequences, (step + 1) * sequences)
        return [int(_order(n // self.count, self.count)[n % self.count]) for n in numbers]


@functools.lru_cache(2)  # a step may end one epoch and begin the next
def _order(epoch, count):
    return np.random.default_rng([ORDER_SEED, epoch]).permutation(count)
