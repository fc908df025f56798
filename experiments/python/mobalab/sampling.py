"""A sampler of your own: a Python function draws the trials of routing points, and counts become what simulate() gives."""

import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt
import xarray as xr

from mobalab.commands import theory
from mobalab.counts import Statistics, Stream, identity_of, intervals
from mobalab.errors import MobalabError, nearest_hint
from mobalab.points import Points
from mobalab.progress import Progress, display_of
from mobalab.routers import name_of
from mobalab.settings import Number, names_of

Sampler = Callable[[dict[str, Any], int, np.random.Generator], Union[int, npt.ArrayLike]]
"""sampler(point, trials, random) -> misses

point   the columns of theory(): head_dim, block_size, candidates, topk, mu_signal, ... and miss_probability
trials  how many to draw, independent of each other
random  NumPy's generator; the same seed and point give the same numbers
misses  how many of them missed, or trials booleans (true: missed)
"""


@dataclass(frozen=True)
class _Rules:
    trials: int
    max_misses: int
    batch: int


def sample(sampler: Sampler, points: Points = None, *, trials: Number = 100_000, max_misses: Number = 0, batch: Number = 1024,
           seed: Number = 1, confidence: Number = 0.95, progress: Progress = None, **settings: Any) -> xr.Dataset:
    """What simulate() gives, of trials that `sampler` draws: `trials`, `misses`, `miss`, `low`, `high`, beside theory's columns.

    `points` and keyword arguments are those of theory(). A point stops after `trials`, or at the end of the batch that brings
    it to `max_misses` (0: not a rule). Point and seed alone decide what is drawn: a point of a grid has the counts it has
    alone. `statistics(dataset)` add with other seeds' of the same sampler (one with a name: no lambda), `plot` draws
    it. What the sampler raises is raised here; Raises MobalabError for counts that cannot be.
    """
    rules = _Rules(*(_whole(name, value, least) for name, value, least in (
        ("trials", trials, 1), ("max_misses", max_misses, 0), ("batch", batch, 1))))
    number = _whole("seed", seed, 0)
    if not callable(sampler):
        raise MobalabError(f"sampler = {sampler!r}: must be a function of point, trials and random")
    _check_names(settings)
    intervals([Statistics(0, 0)], confidence)  # a confidence that cannot be is said before all trials are drawn
    found = theory(points, progress=False, **settings)
    rows = [{str(name): value for name, value in row.items()}
            for row in found.reset_coords(drop=True).to_dataframe().to_dict("records")]
    display = display_of("sample", progress)
    counted: list[Statistics] = []
    try:
        for place, row in enumerate(rows):
            for one in _drawn(sampler, row, number, rules):
                display.update({"progress": (place + _share(one, rules)) / len(rows), "seconds_left": None,
                                "text": f"point {place + 1} of {len(rows)}: {one.trials} trials, {one.misses} misses"})
            counted.append(one)
    finally:
        display.close()
    return _dataset(found, sampler, counted, rules, number, confidence)


def _drawn(sampler: Sampler, row: dict[str, Any], seed: int, rules: _Rules) -> Iterator[Statistics]:
    """The statistics of one point after each batch."""
    name = f"sampler {name_of(sampler)}"
    identity = (*identity_of(row), ("method", name), *((("max-misses", str(rules.max_misses)),) if rules.max_misses else ()))
    digest = hashlib.sha256(json.dumps(identity_of(row)).encode()).digest()
    random = np.random.default_rng([seed, *np.frombuffer(digest, np.uint32).tolist()])
    trials = misses = 0
    while trials < rules.trials and not (rules.max_misses and misses >= rules.max_misses):
        now = min(rules.batch, rules.trials - trials)
        misses += _misses(sampler(dict(row), now, random), now, name)
        trials += now
        yield Statistics(trials, misses, identity, (Stream(seed, trials, misses),))


def _misses(found: Any, trials: int, name: str) -> int:
    if np.ndim(found) == 1:
        flags = np.asarray(found)
        if flags.dtype != np.bool_ or len(flags) != trials:
            raise MobalabError(f"{name}: gave {len(flags)} values of {flags.dtype} for {trials} trials; give a boolean for each, or "
                               "the number of misses")
        return int(np.count_nonzero(flags))
    try:
        misses = operator.index(found.item() if hasattr(found, "item") else found)
    except (TypeError, ValueError):
        raise MobalabError(f"{name}: gave {found!r}; give the number of misses, or a boolean for each trial") from None
    if isinstance(found, (bool, np.bool_)) or not 0 <= misses <= trials:
        raise MobalabError(f"{name}: gave {found!r} misses of {trials} trials; they are 0 to {trials}")
    return misses


def _share(one: Statistics, rules: _Rules) -> float:
    return min(1.0, max(one.trials / rules.trials, one.misses / rules.max_misses if rules.max_misses else 0.0))


def _dataset(found: xr.Dataset, sampler: Sampler, counted: list[Statistics], rules: _Rules, seed: int,
             confidence: Number) -> xr.Dataset:
    bounds = intervals(counted, confidence)
    name = name_of(sampler)
    definition = f"Clopper-Pearson interval of misses of trials, confidence {confidence}"
    enough = [bool(rules.max_misses) and one.misses >= rules.max_misses for one in counted]
    columns: list[tuple[str, list[Any], str, Optional[str]]] = [
        ("method", [f"sampler {name}"] * len(counted), "who drew the trials", None),
        ("trials", [one.trials for one in counted], "drawn trials", None),
        ("misses", [one.misses for one in counted], "trials whose signal block was not routed", None),
        ("miss", [bound.value for bound in bounds], "sampled miss probability", "misses / trials"),
        ("low", [bound.low for bound in bounds], "lower end of the interval of miss", definition),
        ("high", [bound.high for bound in bounds], "upper end of the interval of miss", definition),
        ("stop_reason", ["misses" if reached else "trials" for reached in enough], "stop rule that ended the point", None),
        ("seed", [seed] * len(counted), "seed of the random streams", None)]
    dimension = next(iter(found.sizes))
    dataset = found.assign({column: (dimension, np.asarray(values, object if isinstance(values[0], str) else None),
                                     {"long_name": text, **({"definition": meaning} if meaning else {})})
                            for column, values, text, meaning in columns})
    return dataset.assign_attrs(subcommand="simulate", confidence=float(confidence), interval=definition, seed=str(seed),
                                command=f"mobalab.sample({name}, ...)", device=f"sampler {name}",
                                settings=f"{found.attrs['settings']} max-misses={rules.max_misses} trials={rules.trials}")


def _whole(name: str, value: Number, least: int) -> int:
    try:
        whole = int(float(value)) if isinstance(value, (str, float)) else operator.index(value)
        good = whole >= least and (not isinstance(value, (str, float)) or float(value) == whole)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good or isinstance(value, bool):
        raise MobalabError(f"{name} = {value!r}: must be a whole number of at least {least}; nearest valid: {least}")
    return whole


def _check_names(settings: Mapping[str, Any]) -> None:
    """Those of theory that say which points; a sampler's results are kept by the caller."""
    known = [name for name in names_of("theory") if name not in ("out", "force", "solve", "wanted_hit", "shared_mean", "threads")]
    for name in settings:
        if name not in known:
            all_names = [*known, "trials", "max_misses", "batch", "seed", "confidence", "progress"]
            raise MobalabError(f"{name} is no argument of sample{nearest_hint(name, all_names) or '; it takes ' + ', '.join(all_names)}")
