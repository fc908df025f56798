"""The models that the recall experiment compares, the ones that matter most first."""

import difflib
from dataclasses import dataclass
from typing import NamedTuple

from .errors import InputError
from .model import ModelConfig
from .recall_task import VOCABULARY


@dataclass(frozen=True)
class Arm:
    """One model of the comparison; each is trained with several seeds."""

    attention: str
    block_size: int = 0
    topk: int = 0  # the query's own block included
    key_conv: int = 0
    head_dim: int = 64
    scorer: str = ""

    @property
    def name(self):
        """As `moba-B32-k8-conv3-d64-mean`; a dense or local model is named by its head dimension alone."""
        if self.attention != "moba":
            return f"{self.attention}-d{self.head_dim}"
        conv = f"-conv{self.key_conv}" if self.key_conv else ""
        return f"moba-B{self.block_size}-k{self.topk}{conv}-d{self.head_dim}-{self.scorer}"

    def config(self, width, layers):
        return ModelConfig(
            vocabulary=VOCABULARY,
            width=width,
            layers=layers,
            head_dim=self.head_dim,
            attention=self.attention,
            block_size=self.block_size,
            topk=self.topk,
            scorer=self.scorer,
            key_conv=self.key_conv,
        )


class Run(NamedTuple):
    """A model to be trained."""

    arm: Arm
    seed: int

    @property
    def name(self):
        return f"{self.arm.name}-s{self.seed}"


def moba(block_size, budget=256, key_conv=0, head_dim=64, scorer="mean"):
    """A MoBA arm that reads `budget` keys a query: topk = budget / block_size."""
    return Arm("moba", block_size, budget // block_size, key_conv, head_dim, scorer)


BLOCK_SIZES = (32, 128, 16, 64)  # two of them show the trend, so they come first


def _grid(**settings):
    return [moba(block_size, **settings) for block_size in BLOCK_SIZES]


ARMS = [
    Arm("dense"),
    *_grid(),
    Arm("local"),
    *_grid(key_conv=3),
    *(moba(block_size, head_dim=128) for block_size in (32, 128, 16)),
    moba(32, scorer="random"),
    *_grid(budget=512),
    moba(32, scorer="quest"),
    moba(32, scorer="submean-4"),
    *(moba(block_size, head_dim=32) for block_size in (32, 16)),
    *(moba(32, key_conv=3, head_dim=head_dim) for head_dim in (128, 32)),
    *_grid(key_conv=5),
    *_grid(budget=512, key_conv=3),
    *_grid(budget=512, key_conv=5),
    moba(64, head_dim=128),
    *(Arm("dense", head_dim=head_dim) for head_dim in (128, 32)),
]


def chosen(names):
    """The arms of these names, in the order of ARMS; None for all."""
    if names is None:
        return ARMS
    known = [arm.name for arm in ARMS]
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0)[0]
            raise InputError("--arms", name, "the name of an arm (--list shows them)", nearest)
    return [arm for arm in ARMS if arm.name in names]
