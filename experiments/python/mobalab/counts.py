"""Counts that add. Counts are all that is merged or kept; every ratio and interval is derived from them."""

import functools
import json
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

import xarray as xr

import mobalab._notebooks_export  # noqa: F401
from mobalab.errors import MobalabError
from mobalab.program import output_of
from mobalab.routers import is_nameless
from mobalab.settings import Number, word_of
from notebooks_export.axes import AXES, number

Value = Union[int, float, str]

RULES_ON_COUNTS = ("max-misses", "target-relative-error")
"""Runs under different ones are not added: what stops a run must not hang on which runs are added."""

MOST_INTERVALS_A_CALL = 2000
"""The operating system limits the length of an argument."""


class Interval(NamedTuple):
    """An estimate of a probability: 0 <= low <= value <= high <= 1; value is NaN where nothing was tried."""

    low: float
    value: float
    high: float


class Stream(NamedTuple):
    """Trials of one seed, from its stream's first on."""

    seed: int
    trials: int
    misses: int


@dataclass(frozen=True)
class Statistics:
    """Misses of independent trials of one routing point.

    `identity` is the point and how it was drawn, sorted by name, without what is plain (empty: anonymous counts);
    `streams` say which trials these are, so that none is added twice (empty: not known). `a + b` and `sum(...)` add
    counts; they raise MobalabError for different points and for the trials of a seed that come twice.
    """

    trials: int
    misses: int
    identity: tuple[tuple[str, Value], ...] = ()
    streams: tuple[Stream, ...] = ()

    def __post_init__(self) -> None:
        for name in ("trials", "misses"):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, operator.index(value))
            except TypeError:
                raise MobalabError(f"{name} = {value!r}: must be a whole number") from None
            if value < 0:
                raise MobalabError(f"{name} = {value}: must be at least 0; nearest valid: 0")
        object.__setattr__(self, "identity", tuple(sorted(self.identity, key=lambda pair: pair[0])))
        if self.misses > self.trials:
            raise MobalabError(f"misses = {self.misses}: must be at most the {self.trials} trials; nearest valid choice: {self.trials}")
        if self.streams and (self.trials, self.misses) != (sum(stream.trials for stream in self.streams),
                                                           sum(stream.misses for stream in self.streams)):
            raise MobalabError(f"trials = {self.trials}, misses = {self.misses}: are not those of the streams")

    @property
    def point(self) -> dict[str, Value]:
        """The identity by name."""
        return dict(self.identity)

    @property
    def miss(self) -> float:
        """misses / trials; NaN where nothing was tried."""
        return self.misses / self.trials if self.trials else math.nan

    def interval(self, confidence: Number = 0.95) -> Interval:
        """Clopper-Pearson of the miss probability, as the program computes it. Raises MobalabError."""
        return intervals([self], confidence)[0]

    def __add__(self, other: "Statistics") -> "Statistics":
        if not isinstance(other, Statistics):
            return NotImplemented
        _refuse_other_point(self, other)
        twice = {stream.seed for stream in self.streams} & {stream.seed for stream in other.streams}
        if twice:
            raise MobalabError(f"seed = {min(twice)}: its trials are in both statistics; add runs of different seeds")
        if bool(self.streams) != bool(other.streams) and self.trials and other.trials:
            raise MobalabError("streams: are known of one of the statistics only, so a seed might come twice")
        streams = tuple(sorted((*self.streams, *other.streams)))
        return Statistics(self.trials + other.trials, self.misses + other.misses, self.identity, streams)

    def __radd__(self, other: object) -> "Statistics":
        return self if other == 0 else NotImplemented  # sum() begins with 0


def _refuse_other_point(one: Statistics, other: Statistics) -> None:
    method = str(one.point.get("method", ""))
    if method.startswith("sampler ") and is_nameless(method):
        raise MobalabError(f"method = {method}: has no name that tells it from another sampler; define it with def")
    if one.identity != other.identity:
        a, b = one.point, other.point
        name = next(name for name in (*a, *b) if a.get(name) != b.get(name))
        raise MobalabError(f"{name} = {a.get(name, 'plain')} and {b.get(name, 'plain')}: are different points, whose counts "
                           "do not add")


def intervals(statistics: Iterable[Statistics], confidence: Number = 0.95) -> list[Interval]:
    """Interval of each, with few calls of the program. Raises MobalabError."""
    counts = [(one.misses, one.trials) for one in statistics]
    found: list[Interval] = []
    for first in range(0, len(counts), MOST_INTERVALS_A_CALL):
        found += _computed(tuple(counts[first:first + MOST_INTERVALS_A_CALL]), word_of("confidence", confidence))
    return found


@functools.lru_cache(maxsize=256)
def _computed(counts: tuple[tuple[int, int], ...], confidence: str) -> tuple[Interval, ...]:
    misses, trials = (",".join(map(str, column)) for column in zip(*counts))
    rows = json.loads(output_of(["interval", f"--misses={misses}", f"--trials={trials}", f"--confidence={confidence}", "--json"]))
    return tuple(Interval(row["low"], math.nan if row["miss"] is None else row["miss"], row["high"]) for row in rows)


def statistics(dataset: xr.Dataset) -> list[Statistics]:
    """Statistics of each row of a dataset of simulate().

    Raises MobalabError for what has no counts that add: weights (method conditional), exact points, probes of route(), which
    share keys, and combinations, whose streams are in their file.
    """
    if dataset.attrs.get("subcommand") != "simulate":
        raise MobalabError(f"a dataset of {dataset.attrs.get('subcommand', 'something else')} has no counts that add: take one "
                           "of simulate")
    rules = rules_of(dict(word.split("=", 1) for word in str(dataset.attrs["settings"]).split(" ") if "=" in word))
    rows: list[Any] = dataset.reset_coords(drop=True).to_dataframe().to_dict("records")
    return [statistics_of_row(row, rules) for row in rows]


def rules_of(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Stop rules that look at counts, by flag, those that are rules. `settings` by flag or keyword argument. Raises
    MobalabError."""
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    values = ((rule, _value_of(rule, named.get(rule))) for rule in RULES_ON_COUNTS)
    return tuple((rule, _written(rule, value)) for rule, value in values if value != 0)


def _written(rule: str, value: float) -> str:
    """As figures write it, or with every digit where that is another number: different rules are never one."""
    text = number(value)
    return text if _value_of(rule, text) == value else repr(value)


def _value_of(rule: str, value: Any) -> float:
    if value is None:
        return 0.0
    text = str(value)
    scale = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
    try:
        return float(text[:-1] if scale > 1 else text) * scale
    except ValueError:
        raise MobalabError(f"{rule.replace('-', '_')} = {value!r}: must be a number, such as 1000 or 8K") from None


def statistics_of_row(row: Mapping[str, Any], rules: tuple[tuple[str, str], ...]) -> Statistics:
    """Statistics of a row of the table of simulate, drawn under these rules. Raises MobalabError."""
    if math.isnan(row["misses"]):
        raise MobalabError(f"method = {row['method']}: keeps weights or the exact value, no counts that add; ask one run for "
                           "more trials")
    trials, misses = int(row["trials"]), int(row["misses"])
    return Statistics(trials, misses, (*identity_of(row), ("method", row["method"]), *rules),
                      (Stream(int(row["seed"]), trials, misses),))


def identity_of(row: Mapping[str, Any]) -> tuple[tuple[str, Value], ...]:
    """The routing point of a row of a table, without what is plain in it."""
    found = []
    for axis in AXES:
        unused = axis.unused_if and row.get(axis.unused_if[0]) == axis.unused_if[1]
        if axis.name in row and not unused and row[axis.name] != axis.plain:
            value = row[axis.name]
            found.append((axis.name, value if isinstance(value, str) else value.item() if hasattr(value, "item") else value))
    return tuple(found)
