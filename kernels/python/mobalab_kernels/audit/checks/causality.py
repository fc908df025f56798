"""Everything from one token on is replaced: no row before it may change."""

import numpy as np

from .. import reference
from ..case import Case, generator, in_format, tensors
from ..finding import Finding
from ..formats import FORWARD_ERROR
from .common import bits, share

NAME = "causality"
QUESTION = "do rows stay as they are when what comes after them changes, and keep candidates only?"
NEEDS = ()
REPORTS = False


def cases(settings):
    s, found = settings, []
    middle = s.seq_len // 2 // s.block_size * s.block_size
    for name, cut in (
        ("cut at the border of a block", middle),
        ("cut behind the first token of a block", middle + 1),
        ("cut inside a block", middle + s.block_size // 2 + 1),
        ("cut before the last token", s.seq_len - 1),
    ):
        rng = generator(s, NAME, name)
        drawn, other = tensors(rng, s), tensors(rng, s)
        # What comes later is larger too, so that it wins wherever it is looked at.
        changed = {f"{x}_changed": _spliced(drawn[x], in_format(other[x] * 4, s.dtype), cut) for x in "qkv"}
        found.append(Case(NAME, name, s, {"cut": cut}, {**drawn, **changed}))
    return found


def _spliced(before, after, cut):
    return np.concatenate([before[:cut], after[cut:]])


def judge(subject, case):
    s, cut, a = case.settings, case.numbers["cut"], case.arrays
    said, where, bad = [], "", 0
    if subject.offers("route"):
        before, after = (
            subject.route(a["q" + x], a["k" + x], s.block_size, s.topk)[:, :cut] for x in ("", "_changed")
        )
        moved, invalid = moved_rows(before, after, s.block_size)
        said.append(f"{share(int(moved.sum()), moved.size)} earlier rows keep other blocks")
        said += [f"{invalid} entries are no candidates of their row"] if invalid else []
        where = where or _where(moved, "selection")
        bad += int(moved.sum()) + invalid
    if subject.offers("attention"):
        before, after = (
            subject.attention(a["q" + x], a["k" + x], a["v" + x], s.block_size, s.topk)[:cut] for x in ("", "_changed")
        )
        moved, other = moved_outputs(before, after, s.dtype)
        said.append(f"{share(int(moved.sum()), moved.size)} earlier outputs change" + _rounding(other))
        where = where or _where(moved.T, "output")
        bad += int(moved.sum())
    return Finding(bad > 0, float(bad), "; ".join(said), where)


def moved_rows(before, after, block_size):
    """(bool [heads, rows] whose kept blocks differ, invalid entries of `before`)."""
    (one, invalid), (two, _) = (reference.kept_of(x, block_size) for x in (before, after))
    return (one != two).any(axis=2), invalid


def moved_outputs(before, after, dtype):
    """(bool [rows, heads] that differ by more than rounding, or in NaN; how many have other bits besides)."""
    finite = np.isfinite(before)
    scale = np.sqrt(np.mean(before[finite] ** 2)) if finite.any() else 1.0
    same = bits(before) == bits(after)
    with np.errstate(invalid="ignore"):
        near = np.abs(before - after) <= 16 * FORWARD_ERROR[dtype] * scale
    moved = ~(near | same).all(axis=2)
    return moved, int((~same.all(axis=2) & ~moved).sum())


def _rounding(rows):
    return f" ({rows} in their last bits)" if rows else ""


def _where(mask, what):
    found = np.argwhere(mask)
    return f"{what} of head {found[0][0]}, row {found[0][1]}" if len(found) else ""
