"""Needles in text: a mark, a key and a value, which the text later asks for by the mark and the key.

KEY a v ... KEY a -> v. Keys and values are ordinary tokens of the vocabulary, drawn evenly, so that the value is
nowhere to be guessed from: chance is one in the number of values after marks in the sequence for a model that only
looks for marks, and one in the vocabulary without a look. A needle stands at a multiple of SLOT tokens and never
across two blocks of MoBA.
"""

import math

import numpy as np

from ..corpus.store import KEY, SPECIAL

SLOT = 4
NEEDLE = 3  # tokens


def _drawn(generator, pairs, vocabulary):
    """Different keys, and values."""
    ordinary = vocabulary - len(SPECIAL)
    keys = generator.choice(ordinary, pairs, replace=False) + len(SPECIAL)
    return keys, generator.integers(len(SPECIAL), vocabulary, pairs)


def plant(row, pairs, generator, vocabulary):
    """Writes `pairs` needles and their questions over a training sequence, in place.

    The distance between a needle and its question is log-uniform from one slot to the whole sequence: the near ones are
    learned first and teach the far ones.
    """
    slots = len(row) // SLOT
    keys, values = _drawn(generator, pairs, vocabulary)
    taken = set()
    for key, value in zip(keys, values):
        needle, question = _free_slots(slots, taken, generator)
        for slot in (needle, question):
            taken.add(slot)
            row[slot * SLOT : slot * SLOT + NEEDLE] = KEY, key, value


def _free_slots(slots, taken, generator):
    while True:
        question, draw = int(generator.integers(1, slots)), generator.random()
        needle = question - int(math.exp(draw * math.log(slots)))
        if needle >= 0 and needle not in taken and question not in taken:
            return needle, question


def hide(rows, depths, generator, vocabulary):
    """Hides a needle at each depth of each row and asks for all of them at the end, in a random order, in place.

    rows: int64 [sequences, tokens + 1]. depths: fractions of the text before the questions. Returns (at, answers,
    order), int64 [sequences, questions]: the positions of the asked keys, at which the model must say the answers, and
    which depth each asks for.
    """
    tokens = rows.shape[1] - 1
    begin = tokens - NEEDLE * len(depths)
    places = [int(depth * (begin - NEEDLE)) // SLOT * SLOT for depth in depths]
    at = np.tile(begin + NEEDLE * np.arange(len(depths)) + 1, (len(rows), 1))
    order = np.stack([generator.permutation(len(depths)) for _ in rows])
    answers = np.empty_like(order)
    for row, asked, answer in zip(rows, order, answers):
        keys, values = _drawn(generator, len(depths), vocabulary)
        for place, key, value in zip(places, keys, values):
            row[place : place + NEEDLE] = KEY, key, value
        for number, depth in enumerate(asked):
            place = begin + NEEDLE * number
            row[place : place + NEEDLE] = KEY, keys[depth], values[depth]
            answer[number] = values[depth]
    return at, answers, order
