"""Packed sequences beside each of them alone."""

import numpy as np

from ..case import Case, generator, tensors
from ..finding import Finding
from .causality import moved_outputs, moved_rows
from .common import share

NAME = "sequence borders"
QUESTION = "is every packed sequence treated as if it were alone?"
NEEDS = ("packed",)
REPORTS = False


def cases(settings):
    s, b = settings, settings.block_size
    lengths = [1, b - 1, b, b + 1, (s.topk + 1) * b + b // 2, 2 * b, (s.topk + 2) * b + 1]
    lengths = [n for n in lengths if n > 0]
    drawn = tensors(generator(s, NAME, "lengths around a block"), s, sum(lengths))
    cu = [0, *np.cumsum(lengths).tolist()]
    return [Case(NAME, "lengths around a block", s, {"cu_seqlens": cu}, drawn)]


def judge(subject, case):
    s, a, cu = case.settings, case.arrays, case.numbers["cu_seqlens"]
    said, where, bad = [], "", 0
    for operation, names in (("route", "qk"), ("attention", "qkv")):
        if not subject.offers(operation) or not subject.takes_sequences(operation):
            continue
        call = getattr(subject, operation)
        packed = call(*[a[n] for n in names], s.block_size, s.topk, cu_seqlens=cu)
        moved = rows = 0
        for number, (begin, end) in enumerate(zip(cu[:-1], cu[1:])):
            alone = call(*[a[n][begin:end] for n in names], s.block_size, s.topk, cu_seqlens=[0, end - begin])
            if operation == "route":
                changed = moved_rows(packed[:, begin:end], alone, s.block_size)[0]
            else:
                changed = moved_outputs(packed[begin:end], alone, s.dtype)[0].T
            moved, rows = moved + int(changed.sum()), rows + changed.size
            if changed.any() and not where:
                head, row = np.argwhere(changed)[0]
                where = f"{operation}: sequence {number} of {end - begin} tokens, head {head}, row {row}"
        said.append(f"{operation}: {share(moved, rows)} rows differ from their sequence alone")
        bad += moved
    return Finding(bad > 0, float(bad), "; ".join(said), where)
