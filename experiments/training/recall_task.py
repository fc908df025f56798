"""The recall task: a text of random filler hides (key, value) pairs, its end asks for the values of some keys.

Tokens 0 .. KEYS-1 are keys, the next VALUES are values, the rest is filler. A sequence of N tokens holds `pairs` pairs
at random even positions before its tail; its last 2 * asked tokens are a question each: a key, then its value. Keys of
a sequence are distinct and no pair is asked twice, so the value of an asked key stands at one place of the text before
it, that of the pair. As pairs start at even positions, a pair never lies across two blocks of an even block size.
"""

import hashlib
from typing import NamedTuple

import torch

from .errors import InputError

KEYS, VALUES, VOCABULARY = 1024, 1024, 4096


class Text(NamedTuple):
    """A stage's shape: tokens of a sequence, pairs hidden in it, pairs asked at its end."""

    tokens: int
    pairs: int
    asked: int

    def check(self):
        if not 0 < self.asked <= self.pairs <= min(KEYS, (self.tokens - 2 * self.asked) // 2):
            raise InputError(
                "text",
                f"{self.tokens} tokens, {self.pairs} pairs, {self.asked} asked",
                "0 < asked <= pairs <= (tokens - 2 asked) / 2",
                f"{4 * self.pairs} tokens",
            )
        return self


class Batch(NamedTuple):
    """tokens: int64 [sequences, tokens]; at: [sequences, asked], positions of the asked keys, ascending; answers: the
    value tokens that the model must predict there; places: positions of these values in the pairs of the text (the key
    of the pair stands one before)."""

    tokens: torch.Tensor
    at: torch.Tensor
    answers: torch.Tensor
    places: torch.Tensor

    def rows(self, start, stop):
        return Batch(*(x[start:stop] for x in self))


def stream_seed(*purpose):
    """The seed of the random stream of a purpose: what a run draws depends on this alone, never on what came before."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8], "little") >> 1


def draw(text, sequences, device, seed):
    """A Batch of independent sequences, a function of its arguments (and of the kind of device)."""
    generator = torch.Generator(device).manual_seed(seed)
    tokens, pairs, asked = text

    def integers(low, high, width):
        return torch.randint(low, high, (sequences, width), device=device, generator=generator)

    def distinct(of, count):
        return torch.rand((sequences, of), device=device, generator=generator).argsort(1)[:, :count]

    x = integers(KEYS + VALUES, VOCABULARY, tokens)
    keys, values = distinct(KEYS, pairs), integers(KEYS, KEYS + VALUES, pairs)
    slots = 2 * distinct((tokens - 2 * asked) // 2, pairs)
    x.scatter_(1, slots, keys).scatter_(1, slots + 1, values)
    at = (tokens - 2 * asked + 2 * torch.arange(asked, device=device)).expand(sequences, -1)
    picked = distinct(pairs, asked)
    answers = values.gather(1, picked)
    x.scatter_(1, at, keys.gather(1, picked)).scatter_(1, at + 1, answers)
    return Batch(x, at, answers, slots.gather(1, picked) + 1)
