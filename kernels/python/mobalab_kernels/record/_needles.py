"""Facts planted in a text, and which row of the model should look at which token for them."""

import json
from typing import NamedTuple

from .._errors import invalid, invalid_type


class Needle(NamedTuple):
    """A fact, by spans [begin, end) of characters of the text.

    The fact says the answer; each span of `asked` is a later place where the text says the answer again. A causal
    model predicts the i-th token of that from the row before it, and finds it at the i-th token of the answer in the
    fact: that row is the query, that token the key. The answer must be the same tokens at each place (so write the
    same characters around it: a blank before a word belongs to its token).
    """

    name: str
    fact: tuple
    answer: tuple
    asked: tuple


def read_needles(path):
    """A list of Needle from JSON: [{"name": "Lyon", "fact": [b, e], "answer": [b, e], "asked": [[b, e], ...]}, ...]."""
    try:
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
    except (OSError, ValueError) as failed:
        raise invalid("needles", str(path), f"a JSON file ({failed})", '[{"name": ..., "fact": ...}]') from failed
    if not isinstance(entries, list):
        raise invalid_type("needles", str(path), "a JSON list of objects", '[{"name": ..., "fact": ...}]')
    needles = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or sorted(entry) != sorted(Needle._fields):
            got = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
            raise invalid(
                "needles", f"entry {i} has {got}", f"an object with {', '.join(Needle._fields)}", "just these"
            )
        if not isinstance(entry["asked"], list):
            raise invalid_type("needles", f"entry {i} asked {entry['asked']}", "a list of spans", "[[begin, end], ...]")
        needles.append(Needle(**entry))
    return needles


def token_needles(needles, text, offsets, token_ids, rows):
    """What the metadata `needles` holds: dicts with name, query and key (as many positions each) and fact [begin, end).

    offsets: (begin, end) in characters of each recorded token of `text`, ascending, as tokenizers give them. rows: the
    range of recorded query positions.
    """
    cover = _Cover(text, offsets)
    names = [n.name for n in needles]
    return [_one(n, names, cover, token_ids, rows) for n in needles]


def _one(needle, names, cover, token_ids, rows):
    name = needle.name
    if not isinstance(name, str) or not name:
        raise invalid("needle name", repr(name), "a non-empty text", "the fact's subject")
    if names.count(name) > 1:
        raise invalid("needle name", repr(name), "given once", f"{name} 2")
    if not needle.asked:
        raise invalid(
            f"needle {name}", "is asked nowhere", "asked at one place or more", "the span of the answer there"
        )
    fact = cover.tokens(name, "fact", needle.fact)
    key = cover.tokens(name, "answer", needle.answer)
    if needle.answer[0] < needle.fact[0] or needle.answer[1] > needle.fact[1]:
        raise invalid(
            f"needle {name}",
            f"answer {list(needle.answer)}",
            f"within the fact {list(needle.fact)}",
            f"{list(needle.fact)}",
        )
    queries, keys = [], []
    for span in needle.asked:
        again = cover.tokens(name, "asked", span)
        if span[0] < needle.fact[1]:
            raise invalid(
                f"needle {name}",
                f"asked {list(span)}",
                f"after its fact, which ends at character {needle.fact[1]}",
                "a later span",
            )
        if [token_ids[i] for i in again] != [token_ids[i] for i in key]:
            raise invalid(
                f"needle {name}",
                f"asked {list(span)} {cover.text[slice(*span)]!r} ({len(again)} tokens)",
                f"the tokens of the answer {list(needle.answer)} {cover.text[slice(*needle.answer)]!r} ({len(key)})",
                "the same characters, with the same before them",
            )
        for i, j in zip(again, key):
            if i - 1 not in rows:
                raise invalid(
                    f"needle {name}",
                    f"is asked from row {i - 1}",
                    f"asked in the recorded rows {rows.start} to {rows.stop - 1}",
                    f"q_start {min(i - 1, rows.start)}",
                )
            queries.append(i - 1)
            keys.append(j)
    return {"name": name, "query": queries, "key": keys, "fact": [fact[0], fact[-1] + 1]}


class _Cover:
    """Which tokens cover a span of characters."""

    def __init__(self, text, offsets):
        self.text, self.offsets = text, offsets
        self.recorded = max((end for _, end in offsets), default=0)

    def tokens(self, name, what, span):
        """The positions of the tokens that hold a character of it, at least one."""
        length = len(self.text)
        if not isinstance(span, (list, tuple)) or len(span) != 2 or any(type(i) is not int for i in span):
            raise invalid_type(f"needle {name}", f"{what} {span}", "two whole numbers of characters", "[begin, end]")
        if not 0 <= span[0] < span[1] <= length:
            raise invalid(
                f"needle {name}",
                f"{what} {list(span)}",
                f"a span of the text's {length} characters",
                f"{[max(0, min(span[0], length - 1)), max(1, min(span[1], length))]}",
            )
        if span[1] > self.recorded:
            raise invalid(
                f"needle {name}",
                f"{what} {list(span)}",
                f"within the recorded tokens, which end at character {self.recorded}",
                "more tokens",
            )
        # Special tokens hold no character: (0, 0).
        found = [i for i, (begin, end) in enumerate(self.offsets) if max(begin, span[0]) < min(end, span[1])]
        if not found:
            raise invalid(f"needle {name}", f"{what} {list(span)}", "characters that are in some token", "a wider span")
        return found
