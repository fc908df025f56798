"""One key, query or value becomes NaN or infinite: what cannot see it keeps its bits, what attends to it shows it.

Which rows may change is kernels.h's contract: rows at or behind a key; the one row of a query; of a value, rows from the
beginning of its tile of max(block_size, 128) keys on, as values are weighted by exact zeros there.
"""

import numpy as np

from ..case import Case, generator, tensors
from ..finding import Finding
from .causality import moved_outputs, moved_rows
from .common import share

NAME = "NaN and infinity"
QUESTION = "do NaN and infinity stay in the rows that may see them?"
NEEDS = ()
REPORTS = False
_VALUES = {"NaN": np.nan, "+inf": np.inf, "-inf": -np.inf}


def cases(settings):
    s = settings
    place = s.seq_len // 2 // s.block_size * s.block_size + s.block_size // 3
    found = []
    for which, value in (("k", "NaN"), ("k", "+inf"), ("k", "-inf"), ("q", "NaN"), ("q", "+inf"), ("v", "NaN")):
        drawn = tensors(generator(s, NAME, which + value), s)
        changed = drawn[which].copy()
        changed[place, 0, s.head_dim // 2] = _VALUES[value]
        name = {"k": "key", "q": "query", "v": "value"}[which]
        numbers = {"which": which, "place": place, "shows": value == "NaN" and which in "kq"}
        found.append(Case(NAME, f"{name} = {value}", s, numbers, {**drawn, "changed": changed}))
    return found


def _may_change(case):
    """bool [heads, rows]."""
    s, place, which = case.settings, case.numbers["place"], case.numbers["which"]
    mask = np.zeros((s.heads, s.seq_len), dtype=bool)
    if which == "q":
        mask[0, place] = True
    else:
        tile = max(s.block_size, 128)
        begin = place if which == "k" else place // tile * tile
        mask[: s.heads // s.heads_k, begin:] = True
    return mask


def judge(subject, case):
    s, a, may = case.settings, dict(case.arrays), _may_change(case)
    poisoned = {**a, case.numbers["which"]: a["changed"]}
    said, where, bad = [], "", 0
    if subject.offers("route") and case.numbers["which"] != "v":
        pair = [subject.route(x["q"], x["k"], s.block_size, s.topk) for x in (a, poisoned)]
        moved = moved_rows(*pair, s.block_size)[0] & ~may
        said.append(f"{share(int(moved.sum()), int((~may).sum()))} rows that cannot see it keep other blocks")
        bad, where = int(moved.sum()), _where(moved)
    if subject.offers("attention"):
        pair = [subject.attention(x["q"], x["k"], x["v"], s.block_size, s.topk) for x in (a, poisoned)]
        moved = moved_outputs(*pair, s.dtype)[0].T & ~may
        said.append(f"{share(int(moved.sum()), int((~may).sum()))} outputs that cannot see it change")
        hidden = _hidden(case, pair[1]) if case.numbers["shows"] else 0
        said += [f"{hidden} outputs that attend to it are numbers"] if hidden else []
        bad, where = bad + int(moved.sum()) + hidden, where or _where(moved)
    return Finding(bad > 0, float(bad), "; ".join(said), where)


def _hidden(case, out):
    """Rows that must be NaN and are not: of a key those behind it in its own block, of a query its own."""
    s, place = case.settings, case.numbers["place"]
    key = case.numbers["which"] == "k"
    heads = s.heads // s.heads_k if key else 1
    end = min((place // s.block_size + 1) * s.block_size, s.seq_len) if key else place + 1
    return int((~np.isnan(out[place:end, :heads]).all(axis=2)).sum())


def _where(moved):
    found = np.argwhere(moved)
    return f"head {found[0][0]}, row {found[0][1]}" if len(found) else ""
