"""The models that the language experiment compares: the paper's, at one budget of k B = 1024 keys a query."""

import dataclasses
import difflib

from ..arms import Arm, Run, moba
from ..errors import InputError

BUDGET = 1024
BLOCK_SIZES = (512, 32, 128, 64, 256)  # the ends show the trend, so they come first
CONV_WIDTH = 3
NOISE_SEEDS = (0, 1)  # of dense attention: what a seed alone changes

ARMS = [
    Arm("dense"),
    *(moba(block_size, BUDGET, key_conv) for block_size in BLOCK_SIZES for key_conv in (0, CONV_WIDTH)),
]
SMOKE_ARMS = [Arm("dense", head_dim=32), moba(32, 128, CONV_WIDTH, head_dim=32)]


def runs(arms, seeds):
    """Seed 0 of each arm and one seed more of dense attention; seeds: other ones, for all arms."""
    return [
        Run(arm, seed)
        for arm in arms
        for seed in seeds or (NOISE_SEEDS if arm.attention == "dense" else NOISE_SEEDS[:1])
    ]


def chosen(names, arms):
    """Those of these names, in order; None for all."""
    known = [arm.name for arm in arms]
    for name in names or ():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0)[0]
            raise InputError("--arms", name, "the name of an arm (--list shows them)", nearest)
    return [arm for arm in arms if names is None or arm.name in names]


def config(arm, settings, vocabulary):
    """The arm's model at the settings' size."""
    return dataclasses.replace(
        arm.config(settings.width, settings.layers), vocabulary=vocabulary, window=settings.window
    )
