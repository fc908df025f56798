"""Scores that are equal to the bit: small whole numbers, whose sums and means are exact in every format."""

import numpy as np

from .. import reference
from ..case import Case, generator
from ..finding import Finding
from .common import share

NAME = "ties"
QUESTION = "of equal scores, is the higher block kept?"
NEEDS = ("route",)
REPORTS = False


def cases(settings):
    return [_case(settings, "all keys equal", 1), _case(settings, "every third block equal", 3)]


def _case(settings, name, kinds):
    s, rng = settings, generator(settings, NAME, name)
    blocks = reference.block_count(s.seq_len, s.block_size)
    patterns = rng.integers(-2, 3, (kinds, s.heads_k, s.head_dim))
    of_token = patterns[np.arange(blocks) % kinds].repeat(s.block_size, axis=0)[: s.seq_len]
    q = rng.integers(-2, 3, (s.seq_len, s.heads, s.head_dim))
    return Case(NAME, name, settings, {}, {"q": q.astype(np.float32), "k": of_token.astype(np.float32)})


def judge(subject, case):
    s, q, k = case.settings, case.arrays["q"], case.arrays["k"]
    kept, invalid = reference.kept_of(subject.route(q, k, s.block_size, s.topk), s.block_size)
    means, own = reference.means(k, s.block_size), reference.own_blocks(len(q), s.block_size)
    group = s.heads // s.heads_k
    wrong = np.zeros(kept.shape[:2], dtype=bool)
    for h in range(s.heads):
        scores = q[:, h].astype(np.float64) @ means[:, h // group].T
        wanted = reference.top_blocks(scores, own, s.topk - 1)
        found = kept[h] & (np.arange(len(means)) < own[:, None])
        if subject.ties == "any":  # the same scores, whichever blocks have them
            wanted, found = (np.sort(np.where(x, scores, -np.inf), axis=1) for x in (wanted, found))
        wrong[h] = (wanted != found).any(axis=1)
    count = int(wrong.sum())
    head, row = (int(i) for i in np.argwhere(wrong)[0]) if count else (0, 0)
    where = f"head {head}, row {row}: keeps {np.flatnonzero(kept[head, row]).tolist()}" if count else ""
    rule = "the higher block" if subject.ties == "higher" else "any block of the best scores"
    return Finding(
        count + invalid > 0, (count + invalid) / wrong.size, f"{share(count, wrong.size)} rows do not keep {rule}", where
    )
