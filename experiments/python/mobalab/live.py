"""iter_simulate: the statistics of a simulation while it runs."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Optional, Unpack

import xarray as xr

from mobalab.commands import command_words
from mobalab.counts import Statistics, rules_of, statistics_of_row
from mobalab.datasets import open_results
from mobalab.points import Points
from mobalab.program import Program
from mobalab.progress import Progress, display_of
from mobalab.settings import SimulateSettings

PERIOD = 0.1
"""Seconds between two looks: of a grid of many points each is finished in less."""


@dataclass(frozen=True)
class LiveStatistics:
    """How far a simulation is."""

    fraction: float
    """of the whole work, in [0, 1]"""
    text: str
    seconds: float
    """since the start of this run"""
    seconds_left: Optional[float]
    """an estimate; None: unknown"""
    points: tuple[Optional[Statistics], ...]
    """what is counted so far at each point; None where the method counts nothing. Sums over what one run yields would
    count trials twice, and are refused"""
    changed: tuple[int, ...]
    """the points that have counted more since the last time"""
    result: Optional[xr.Dataset] = None
    """what simulate() gives, the last time only"""


def iter_simulate(points: Points = None, *, progress: Progress = False,
                  **settings: Unpack[SimulateSettings]) -> Iterator[LiveStatistics]:
    """simulate(), but yields what is counted up to ten times a second, and at last with `result`.

    Points and keyword arguments are those of simulate(). Leaving the loop stops the program in order, as Ctrl-C does; with
    `out` the run can go on with `resume=True`. Nothing is read of what the program draws meanwhile: the counts follow from seed,
    point and stop rule alone. Raises MobalabError.

    >>> for live in mobalab.iter_simulate(trials=1e9, max_misses=1000):
    ...     if live.points[0].interval().high < 0.1:
    ...         break
    """
    with tempfile.TemporaryDirectory(prefix="mobalab-") as folder:
        words, out = command_words("simulate", points, settings, FilePath(folder))
        asked = {**settings, **points} if isinstance(points, Mapping) else settings
        with Program(words) as program, closing(display_of("simulate", progress)) as display:
            rows: list[dict[str, Any]] = []
            counted: list[Optional[Statistics]] = []
            rules: tuple[tuple[str, str], ...] = ()
            live = LiveStatistics(0.0, "", 0.0, None, (), ())
            changed: set[int] = set()
            for event in program.events():
                display.update(event)
                if "rows" in event:
                    rows, rules = event["rows"], rules_of(asked)  # the program has taken the settings: its errors come first
                    counted = [_counted(row, rules) for row in rows]
                    continue
                place = event["point"]
                rows[place].update(trials=event["trials"], misses=event["misses"])
                counted[place] = _counted(rows[place], rules)
                changed.add(place)
                if event["seconds"] - live.seconds < PERIOD:
                    continue
                live = LiveStatistics(event["progress"], event["text"], event["seconds"], event["seconds_left"], tuple(counted),
                                      tuple(sorted(changed)))
                changed.clear()
                yield live
        result = open_results(out)["simulate"]
    final = tuple(_counted(row, rules) for row in _records(result))
    last = (*live.points, *[None] * len(final))
    yield LiveStatistics(1.0, live.text, live.seconds, 0.0, final,
                         tuple(place for place, one in enumerate(final) if one != last[place]), result)


def _counted(row: Mapping[str, Any], rules: tuple[tuple[str, str], ...]) -> Optional[Statistics]:
    misses = row["misses"]
    return None if misses is None or misses != misses else statistics_of_row(row, rules)


def _records(dataset: xr.Dataset) -> list[Any]:
    return list(dataset.reset_coords(drop=True).to_dataframe().to_dict("records"))
