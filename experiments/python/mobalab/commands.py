"""theory, simulate, route, validate and measure: the commands of the program as functions."""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Optional, Unpack

import xarray as xr

from mobalab.datasets import open_results
from mobalab.errors import MobalabError
from mobalab.points import Points, settings_of
from mobalab.program import Program
from mobalab.progress import Progress, display_of
from mobalab.routers import Router, RouterServer, is_nameless, name_of
from mobalab.settings import (MeasureSettings, Paths, RouteSettings, SimulateSettings, TheorySettings, ValidateSettings,
                              flags, path_of)


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    tables: dict[str, xr.Dataset]
    code: int
    report: str


@dataclass(frozen=True)
class Validation:
    """What `validate` found; true where theory, simulation and kernel agree."""

    agree: bool
    points: xr.Dataset
    """estimates side by side, a row a point; with traces a row a setting"""
    comparisons: xr.Dataset
    """every comparison with its p-value"""
    by_candidates: Optional[xr.Dataset]
    """the kernel's counts by number of candidates; None with traces"""
    report: str
    """what the program prints: the verdict, and the worst comparisons where it is no"""

    def __bool__(self) -> bool:
        return self.agree


@dataclass(frozen=True)
class Measurement:
    """What block routing finds in a model's own queries and keys."""

    settings: xr.Dataset
    """recall, needles, output error, statistics and their intervals, a row for each layer, head and setting"""
    distance: Optional[xr.Dataset]
    """routed blocks and mass by how far back they lie; `setting` is the row of `settings`. None for scorer random"""


def theory(points: Points = None, *, progress: Progress = None, **settings: Unpack[TheorySettings]) -> xr.Dataset:
    """The exact probability of a hit (`hit_probability`, `miss_probability`) beside the paper's formulas, at every point.

    `points` is a dict (the same as keyword arguments), a list of dicts or a pandas frame (a point in each row; what it has
    no column of comes from the keyword arguments). Keyword arguments are the flags of `mobalab theory --help`; lists make a
    grid. `progress` shows a bar, or not, or calls a function (progress.Progress). With `solve` the columns are the answers; `reached` is "no" where none reaches `wanted_hit`. Raises MobalabError.

    >>> mobalab.theory(head_dim=[64, 128], block_size="16:512:x2", cluster_size=4).hit_probability
    """
    return _run("theory", points, progress, settings).tables["theory"]


def simulate(points: Points = None, *, progress: Progress = None, **settings: Unpack[SimulateSettings]) -> xr.Dataset:
    """Monte Carlo at every point: `trials`, `misses`, `miss` and its interval `low`, `high`, beside `miss_probability`.

    Points as for theory(). A point stops at the first of `trials`, `max_misses`, `target_relative_error`, `max_seconds`. The
    same seed gives the same counts. Ctrl-C stops the program in order; with `out` the run goes on with `resume=True`. Raises
    MobalabError.
    """
    return _run("simulate", points, progress, settings).tables["simulate"]


def route(points: Points = None, *, router: Optional[Router] = None, progress: Progress = None,
          **settings: Unpack[RouteSettings]) -> xr.Dataset:
    """Planted needles through the real kernel: `trials`, `misses`, `miss` and its interval, clustered by key set, beside
    `expected_miss`, the exact probability over the same numbers of candidates.

    Points as for theory(). `router` is a function that routes the same keys and queries in the kernel's place
    (routers.Router says what it gets and gives); `expected_miss` is NaN then, `miss_probability` stays that of `scorer`, to
    compare with. What the function raises is raised here. Raises MobalabError, also for a selection that cannot be.
    """
    return _run("route", points, progress, settings, router).tables["route"]


def validate(points: Points = None, *, router: Optional[Router] = None, progress: Progress = None,
             **settings: Unpack[ValidateSettings]) -> Validation:
    """Theory, simulation and the real kernel at the same points: do they agree?

    Points as for theory(); `traces` compares with what is predicted of a model's own heads instead. `router` takes the kernel's
    place as in route(): does it find what `scorer` finds, with the kernels' rule of ties? A disagreement is no exception: `if
    not mobalab.validate(...)`. Raises MobalabError.
    """
    outcome = _run("validate", points, progress, settings, router)
    tables = outcome.tables
    return Validation(outcome.code == 0, tables["validate"], tables["validate_comparisons"],
                      tables.get("validate_by_candidates"), outcome.report)


def measure(traces: Paths, *, progress: Progress = None, **settings: Unpack[MeasureSettings]) -> Measurement:
    """What block routing finds in a model's own queries and keys, from traces that `mobalab_kernels.record` wrote.

    `traces` is a path or several. Raises MobalabError.
    """
    tables = _run("measure", None, progress, {**settings, "traces": traces}).tables
    return Measurement(tables["measure"], tables.get("measure_distance"))


def _run(command: str, points: Points, progress: Progress, settings: Mapping[str, Any],
         router: Optional[Router] = None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="mobalab-") as folder:
        words, out = command_words(command, points, settings, FilePath(folder))
        if "--resume" in words and router is not None and is_nameless(name_of(router)):
            raise MobalabError(f"resume = True: the router {name_of(router)} has no name that tells it from another one; define it "
                               "with def, or begin anew")
        server = None if router is None else RouterServer(router)
        with Program(words if server is None else [*words, f"--router={server.path}"], server) as program, closing(display_of(command, progress)) as display:
            for event in program.events():
                display.update(event)
            return Outcome(open_results(out), program.code(), program.printed())


def command_words(command: str, points: Points, settings: Mapping[str, Any],
                  folder: FilePath) -> tuple[list[str], FilePath]:
    """Words of the command line, and where its results file will be: in `folder` unless the settings say where.

    Raises MobalabError.
    """
    asked = settings_of(command, points, settings, folder)
    rows, out = asked.pop("points", None), asked.pop("out", None)
    if out is None and (asked.get("force") or asked.get("resume")):
        raise MobalabError("force, resume: are about a results file; name it with out")
    path = FilePath(folder / "results.h5" if out is None else path_of("out", out))
    words = [command, *flags(command, asked), f"--out={path}", "--json-progress"]
    return words if rows is None else [*words, f"--points={rows}"], path
