"""Keyword arguments of the commands: the flags of `mobalab COMMAND --help` with underscores, and how they are written.

A number may be a Python or NumPy number or text as on the command line ("8K", "16:512:x2"). A list makes a grid: the cross
product of all lists. What is None is not given.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Union, get_type_hints

import numpy as np

from mobalab.errors import MobalabError, nearest_hint

Number = Union[int, float, str]
Numbers = Union[Number, Iterable[Number]]
Words = Union[str, Iterable[str]]
Path = Union[str, "os.PathLike[str]"]
Paths = Union[Path, Sequence[Path]]


class GridSettings(TypedDict, total=False):
    """Routing points (analysis/routing_point.h); every one may be a list."""

    model: Words
    """law of the affinities: gaussian, gaussian-fixed, sphere, vector, text"""
    head_dim: Numbers
    """width d of a head"""
    block_size: Numbers
    """keys B of a block"""
    seq_len: Numbers
    """tokens N; the question is asked of the last query"""
    candidates: Numbers
    """instead of seq_len: past blocks that compete, the needle's included"""
    topk: Numbers
    """blocks k a query attends to, its own included"""
    budget: Numbers
    """instead of topk: keys a query attends to"""
    mu_signal: Numbers
    """expected affinity of the needle, a cosine"""
    mu_cluster: Numbers
    """expected affinity of each other token of the needle's cluster"""
    cluster_size: Numbers
    """related tokens m in the needle's block, the needle included"""
    scorer: Words
    """how a query scores a block: mean, quest, max, submean-R, random"""
    skip_impossible: bool
    """leave out combinations that cannot exist; a MobalabWarning says how many"""


class NeedleSettings(TypedDict, total=False):
    mu_noise: Numbers
    """expected affinity of a noise key"""
    needles: Numbers
    """needles, each with a cluster in a block of its own"""
    goal: Words
    """what a hit is with several needles: each, any, all"""


class TextSettings(TypedDict, total=False):
    """Keys that resemble each other, and keys along a text (model text)."""

    key_correlation: Numbers
    """correlation of the random keys of a block; model text: share of the keys' variance that lasts"""
    key_memory: Numbers
    key_mean: Numbers
    query_mean: Numbers
    effective_dim: Numbers
    sink: Numbers


class RunSettings(TypedDict, total=False):
    seed: Number
    """the same seed gives the same counts"""
    confidence: Number
    """of the intervals"""
    device: str
    """cpu, cuda, or auto"""


class OutputSettings(TypedDict, total=False):
    threads: Number
    """worker threads, 0 for all; results do not depend on it"""
    out: Path
    """also keep the results file here; an existing one is refused"""
    force: bool
    """replace what is at out"""


class ResumableSettings(OutputSettings, total=False):
    resume: bool
    """go on with an interrupted run of the same out"""


class TheorySettings(GridSettings, NeedleSettings, TextSettings, OutputSettings, total=False):
    solve: str
    """head-dim, block-size, topk or mu-signal: which value reaches wanted_hit"""
    wanted_hit: Number
    shared_mean: Numbers
    """common mean of all keys, in spreads: adds what rounding of centroids changes"""


class StopSettings(TypedDict, total=False):
    trials: Number
    """trials of a point at most"""
    max_misses: Number
    """a point also stops at so many misses; 0: not a rule"""


class SimulateSettings(GridSettings, NeedleSettings, TextSettings, StopSettings, RunSettings, ResumableSettings, total=False):
    key_conv: Numbers
    key_conv_tap: Numbers
    key_conv_activation: Words
    target_relative_error: Number
    max_seconds: Number
    """counts then depend on the clock"""
    method: str


class RouteSettings(GridSettings, TextSettings, RunSettings, ResumableSettings, total=False):
    dtype: str
    """type of the tensors: fp32, bf16, fp16, auto"""
    probes: Number
    """probes of a point, over all its key sets"""
    key_sets: Number


class TraceSettings(TypedDict, total=False):
    """Which rows of a trace are measured."""

    layer: Numbers
    head: Numbers
    rows: Number
    keep_first: str
    predict: str
    statistics: Path


class ValidateSettings(RouteSettings, TraceSettings, total=False):
    trials: Number
    alpha: Number
    """probability of a false disagreement, over all comparisons"""
    traces: Paths
    """traces of a model instead of planted needles"""
    shared_mean: Number
    """common mean of all keys, in spreads: compares what rounding of centroids changes"""


class MeasureSettings(TraceSettings, RunSettings, ResumableSettings, total=False):
    block_size: Numbers
    topk: Numbers
    budget: Numbers
    scorer: Words
    dtype: str
    centroids: str
    skip_impossible: bool


class MeasureCall(MeasureSettings, total=False):
    traces: Paths


SETTINGS: dict[str, type] = {"theory": TheorySettings, "simulate": SimulateSettings, "route": RouteSettings,
                             "validate": ValidateSettings, "measure": MeasureCall}

POINT_NAMES = frozenset({*GridSettings.__annotations__, *NeedleSettings.__annotations__, *TextSettings.__annotations__,
                         "key_conv", "key_conv_tap", "key_conv_activation"} - {"skip_impossible"})
"""What a column of a frame of points may be called."""


def names_of(command: str) -> list[str]:
    """Keyword arguments of a command."""
    return list(get_type_hints(SETTINGS[command]))


def check_names(command: str, names: Iterable[object]) -> None:
    """Raises MobalabError naming what is no keyword argument of the command."""
    known = names_of(command)
    for name in names:
        if name not in known:
            hint = nearest_hint(str(name), known) or f"; it takes {', '.join(known)}"
            raise MobalabError(f"{name} is no argument of {command}{hint}")


def flags(command: str, settings: Mapping[str, Any]) -> list[str]:
    """The settings as words of a command line. Raises MobalabError."""
    check_names(command, settings)
    kinds = get_type_hints(SETTINGS[command])
    words = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if kinds[name] is bool:
            words += [flag] if switch(name, value) else []
        elif name == "traces":
            words += [f"./{path}" if path.startswith("-") else path for path in paths_of(name, value)]
        else:
            words.append(f"{flag}={text_of(name, value)}")
    return words


def switch(name: str, value: Any) -> bool:
    """True or False, and nothing that is only like them. Raises MobalabError."""
    if not isinstance(value, (bool, np.bool_)):
        raise MobalabError(f"{name} = {value!r}: is a switch, True or False; nearest valid: {bool(value)}")
    return bool(value)


def text_of(name: str, value: Any) -> str:
    """A value, or a list of values, as a flag takes it. Raises MobalabError."""
    if isinstance(value, (str, os.PathLike)) or np.isscalar(value) or np.ndim(value) == 0 and hasattr(value, "item"):
        return word_of(name, value)
    if not isinstance(value, Iterable) or isinstance(value, (Mapping, bytes)):
        raise MobalabError(f"{name} = {value!r}: must be a number, text, or a list of them")
    words = [word_of(name, item) for item in value]
    if not words:
        raise MobalabError(f"{name} = {value!r}: is empty; a list names one value at least")
    return ",".join(words)


def word_of(name: str, value: Any) -> str:
    """One value. Numbers keep every digit. Raises MobalabError."""
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if hasattr(value, "item"):  # NumPy's numbers
        value = value.item()
    if isinstance(value, str) or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 2**53 else repr(value)
    raise MobalabError(f"{name} = {value!r}: must be a number, text, or a list of them")


def paths_of(name: str, value: Any) -> list[str]:
    """One path or several. Raises MobalabError."""
    paths = [value] if isinstance(value, (str, os.PathLike)) else list(value) if isinstance(value, (list, tuple)) else None
    if not paths or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise MobalabError(f"{name} = {value!r}: must be a path or a list of paths")
    return [os.fspath(path) for path in paths]


def path_of(name: str, value: Any) -> str:
    """One path. Raises MobalabError."""
    if not isinstance(value, (str, os.PathLike)):
        raise MobalabError(f"{name} = {value!r}: must be one path")
    return os.fspath(value)
