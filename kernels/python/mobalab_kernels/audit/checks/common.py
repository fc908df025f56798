"""What several checks share: selections against exact scores, and attention beside the rows a subject keeps."""

from typing import NamedTuple

import numpy as np

from .. import reference
from ..formats import round_to

_ROWS = 4096  # of which scores are in memory at once
_FP32 = 2.0**-24


class Judged(NamedTuple):
    """A selection beside exact scores."""

    rows: int  # that have a choice, or are short
    wrong: int  # of them: keep a block that is more than the allowed gap worse than one left out
    short: int  # rows that keep another number of blocks than they must
    invalid: int  # entries that are no candidates
    differing: int  # rows that keep another set than the exact one, whatever the gap
    gap: float  # the largest gap beyond the allowed one, in spreads of the row's scores; 0 where none
    where: str  # of it


def unrounded(subject, k, block_size):
    """(exact centroids, how far a sum in fp32 may be off), float64 [blocks, heads_k, head_dim]: some 4 sqrt(B) 2^-24 of
    the mean magnitude."""
    exact = reference.means(k, block_size)
    slack = 4 * np.sqrt(block_size) * _FP32 * reference.means(np.abs(k), block_size)
    if subject.centroids == "centred":
        return exact - exact[:1], slack + slack[:1]
    return exact, slack


def centroids_of(subject, k, block_size):
    """(centroids, errors) like unrounded(): rounded once to the subject's format, and how far a right one may lie from
    that: where the sum's error reaches the middle between two numbers of the format, either is right."""
    exact, slack = unrounded(subject, k, block_size)
    name = subject.centroid_format
    return round_to(exact, name), round_to(exact + slack, name) - round_to(exact - slack, name)


def judge_selection(selection, q, centroids, errors, block_size, topk):
    """Judged of one sequence. centroids: float64 [blocks, heads_k, head_dim], errors: how far each may be off."""
    kept, invalid = reference.kept_of(selection, block_size)
    heads, tokens, blocks = kept.shape
    group = heads // centroids.shape[1]
    totals = np.zeros(4, dtype=np.int64)
    gap, where = 0.0, ""
    for h in range(heads):
        means, slack = centroids[:, h // group], errors[:, h // group]
        for begin in range(0, tokens, _ROWS):
            rows = np.arange(begin, min(begin + _ROWS, tokens))
            found = _judge_rows(q[rows, h].astype(np.float64), means, slack, kept[h, rows], rows // block_size, topk - 1)
            totals += found[0]
            if found[1] > gap:
                gap, (row, worse, better) = found[1], found[2]
                where = f"head {h}, row {begin + row}: keeps block {worse}, leaves out block {better}"
    return Judged(*totals[:3], invalid, totals[3], gap, where)


def _judge_rows(q, means, slack, kept, own, slots):
    """((rows with a choice or too few blocks, wrong, short, differing), largest gap, (row, kept block, better block))."""
    blocks = np.arange(len(means))
    candidates = blocks < own[:, None]
    kept = kept & candidates
    scores = q @ means.T
    allowed = np.abs(q) @ (2 * (q.shape[1] + 2) * _FP32 * np.abs(means) + slack).T
    counts, wanted = kept.sum(axis=1), np.minimum(slots, own)
    low = np.where(kept, scores + allowed, np.inf)  # the best a kept block may be, the worst that others may be
    high = np.where(candidates & ~kept, scores - allowed, -np.inf)
    excess = high.max(axis=1, initial=-np.inf) - low.min(axis=1, initial=np.inf)
    choice = own > slots
    short = counts != wanted
    wrong = (choice & ~(excess <= 0)) | short
    exact = reference.top_blocks(scores, own, slots)
    totals = np.array([(choice | short).sum(), wrong.sum(), short.sum(), (exact != kept).any(axis=1).sum()])
    plain = np.where(choice & wrong & ~short, excess, 0.0)
    row = int(plain.argmax())
    if plain[row] <= 0:
        return totals, 0.0, None
    spread = scores[row, : own[row]].std() or 1.0
    worse, better = int(low[row].argmin()), int(high[row].argmax())
    return totals, float((scores[row, better] - scores[row, worse]) / spread), (row, worse, better)


def share(part, whole):
    return f"{part} of {whole}" + (f" ({100 * part / whole:.2g} %)" if part and whole else "")


def said(judged):
    """The measurement in words."""
    words = [f"{share(judged.wrong, judged.rows)} rows keep a block that is not among their best"]
    if judged.gap:
        words.append(f"worst by {judged.gap:.3g} spreads of the row's scores")
    if judged.short:
        words.append(f"{judged.short} keep another number of blocks than they must")
    if judged.invalid:
        words.append(f"{judged.invalid} entries are no candidates of their row")
    if judged.differing > judged.wrong:
        words.append(f"{judged.differing - judged.wrong} differ within rounding")
    return "; ".join(words)


def kept_by(subject, case, q, k):
    """(kept, clear): the blocks that the subject attends to, and the rows [heads, tokens] of which that is sure. A
    subject that only attends is taken to keep the exact best; rows whose cut is within rounding are not sure."""
    s = case.settings
    if subject.offers("route"):
        kept, _ = reference.kept_of(subject.route(q, k, s.block_size, s.topk), s.block_size)
        return kept, np.ones(kept.shape[:2], dtype=bool)
    return exact_kept(q, k, s.block_size, s.topk, *centroids_of(subject, k, s.block_size))


def exact_kept(q, k, block_size, topk, means, slack):
    tokens, heads, dim = q.shape
    own = reference.own_blocks(tokens, block_size)
    kept = np.zeros((heads, tokens, len(means)), dtype=bool)
    clear = np.ones((heads, tokens), dtype=bool)
    group = heads // k.shape[1]
    for h in range(heads):
        centre, error = means[:, h // group], slack[:, h // group]
        rows = q[:, h].astype(np.float64)
        scores = rows @ centre.T
        allowed = np.abs(rows) @ (2 * (dim + 2) * _FP32 * np.abs(centre) + error).T
        kept[h] = reference.top_blocks(scores, own, topk - 1)
        candidates = np.arange(len(means)) < own[:, None]
        low = np.where(kept[h], scores - allowed, np.inf).min(axis=1)
        high = np.where(candidates & ~kept[h], scores + allowed, -np.inf).max(axis=1)
        clear[h] = low > high
        kept[h, np.arange(tokens), own] = True
    return kept, clear


def bits(values):
    """Equal where two float64 arrays hold the same numbers, NaN included."""
    return np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)


def first(mask):
    """The first index of a mask, in words, or ''."""
    found = np.argwhere(mask)
    return "" if len(found) == 0 else str(tuple(int(i) for i in found[0]))
