"""The selection beside the subject's own centroids: its top-k alone, whatever its pooling does."""

import numpy as np

from .top_k import inputs, judged

NAME = "top-k of its own centroids"
QUESTION = "does every row keep the best k - 1 by the centroids that the subject itself computes?"
NEEDS = ("route", "summaries")
REPORTS = False


def cases(settings):
    return inputs(settings, NAME)


def judge(subject, case):
    own, _ = subject.summaries(case.arrays["k"], case.settings.block_size)
    return judged(subject, case, own, np.zeros_like(own))
