"""The selection beside the exact top-k: float64 scores of exact means rounded once to the format of centroids."""

from ..case import Case, generator, in_format, tensors
from ..finding import Finding
from .common import centroids_of, judge_selection, said

NAME = "top-k"
QUESTION = "does every row keep its best k - 1 candidates, beside exact centroids?"
NEEDS = ("route",)
REPORTS = False


def inputs(settings, check):
    """Normal keys, keys with a shared mean, and blocks of very different lengths of keys."""
    found = []
    for name in ("normal keys", "keys with a shared mean of 5 spreads", "keys of uneven lengths"):
        rng = generator(settings, check, name)
        drawn = tensors(rng, settings, mean=5.0 if "mean" in name else 0.0)
        if "uneven" in name:
            factors = rng.lognormal(0.0, 1.0, (settings.seq_len, settings.heads_k, 1))
            drawn["k"] = in_format(drawn["k"] * factors, settings.dtype)
        found.append(Case(check, name, settings, {}, {"q": drawn["q"], "k": drawn["k"]}))
    return found


def cases(settings):
    return inputs(settings, NAME)


def judge(subject, case):
    return judged(subject, case, *centroids_of(subject, case.arrays["k"], case.settings.block_size))


def judged(subject, case, centroids, errors):
    s, q, k = case.settings, case.arrays["q"], case.arrays["k"]
    found = judge_selection(subject.route(q, k, s.block_size, s.topk), q, centroids, errors, s.block_size, s.topk)
    where = found.where or ("rows that keep another number of blocks" if found.short else "")
    return Finding(
        found.wrong + found.invalid > 0, found.gap + (found.wrong + found.invalid) / max(found.rows, 1), said(found), where
    )
