"""How many rows keep other blocks because centroids are rounded: a property of their format, reported and not judged.

Rows of the subject beside the exact top-k of exact centroids, and beside what theory expects of the format; for keys
whose channels have a common mean, normal of so many spreads of the keys for each channel and head. Eight heads with keys of their own; the interval is Student's, over
these (95 %).
"""

import numpy as np

from .. import reference
from ..case import Case, generator, tensors
from ..finding import Finding
from ..prediction import changed_rows
from .common import judge_selection

NAME = "rounding"
QUESTION = "how many rows does the format of centroids change?"
NEEDS = ("route",)
REPORTS = True
SHARED_MEANS = (0, 3, 10, 50)
_HEADS = 8
_T_QUANTILE = 2.3646  # of Student's t with 7 degrees of freedom, 0.975


def cases(settings):
    s = settings._replace(heads=_HEADS, heads_k=_HEADS)
    found = []
    for mean in SHARED_MEANS:
        name = f"shared mean of {mean} spreads"
        drawn = tensors(generator(s, NAME, name), s, mean=float(mean))
        found.append(Case(NAME, name, s, {"mean": mean}, {"q": drawn["q"], "k": drawn["k"]}))
    return found


def judge(subject, case):
    s, q, k = case.settings, case.arrays["q"], case.arrays["k"]
    exact = reference.means(k, s.block_size)
    selection = subject.route(q, k, s.block_size, s.topk)
    shares = np.array([_changed(selection[[h]], q[:, [h]], exact[:, [h]], s) for h in range(_HEADS)])
    mean, error = shares.mean(), _T_QUANTILE * shares.std(ddof=1) / np.sqrt(_HEADS)
    # Of centred centroids what is left of the mean is block 0's own: channels of the spread of a centroid.
    mean_left = s.block_size**-0.5 if subject.centroids == "centred" else case.numbers["mean"]
    expected, unknown = changed_rows(s, mean_left, subject.centroid_format)
    row = {
        "shared_mean": case.numbers["mean"],
        "format": subject.centroid_format,
        "rows": q.shape[0] * _HEADS,
        "changed": float(mean),
        "low": float(max(mean - error, 0.0)),
        "high": float(mean + error),
        "predicted": expected,
    }
    beside = f"({100 * expected:.2g} predicted)" if expected is not None else f"({unknown})"
    said = f"mean {row['shared_mean']}: {100 * mean:.2g} % {beside}"
    return Finding(False, float(mean), said, case.name, (row,))


def _changed(selection, q, means, s):
    found = judge_selection(selection, q, means, np.zeros_like(means), s.block_size, s.topk)
    return found.differing / len(q)
