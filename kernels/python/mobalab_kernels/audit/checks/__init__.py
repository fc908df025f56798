"""The checks, one file each. A check has NAME, QUESTION, NEEDS (operations without which it is not offered), REPORTS
(True: it measures a property of a number format and never fails), cases(settings) -> [Case] and judge(subject, case) ->
Finding."""

from . import (
    attention,
    borders,
    causality,
    gradients,
    needles,
    non_finite,
    own_centroids,
    repeats,
    rounding,
    summaries,
    ties,
    top_k,
)

CHECKS = (
    summaries,
    top_k,
    own_centroids,
    ties,
    causality,
    non_finite,
    repeats,
    borders,
    attention,
    gradients,
    needles,
    rounding,
)
