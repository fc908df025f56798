"""Points from keyword arguments, dicts or a pandas frame."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Union

import pandas as pd

from mobalab.errors import MobalabError, nearest_hint
from mobalab.settings import POINT_NAMES, check_names, word_of

Points = Union[Mapping[str, Any], Iterable[Mapping[str, Any]], pd.DataFrame, None]
"""A dict is the same as keyword arguments: its lists make a grid. A list of dicts or a frame has a point in each row."""


def settings_of(command: str, points: Points, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with the points in them; rows of points are written to a file in `folder`. Raises MobalabError."""
    check_names(command, settings)
    if points is None:
        return dict(settings)
    if isinstance(points, Mapping):
        check_names(command, points)
        twice = [name for name in points if name in settings]
        if twice:
            raise MobalabError(f"{twice[0]}: is in points and a keyword argument too; give it once")
        return {**settings, **points}
    path = folder / "points.csv"
    _write(path, *_rows(points))
    return {**settings, "points": path}


def _rows(points: Any) -> tuple[list[str], list[list[Any]]]:
    """Names of the columns and the rows."""
    if isinstance(points, pd.DataFrame):
        names, rows = list(points.columns), [list(row) for row in points.itertuples(index=False, name=None)]
    else:
        if isinstance(points, (str, bytes)) or not isinstance(points, Iterable):
            raise MobalabError(f"points = {points!r}: must be a dict, a list of dicts or a pandas frame")
        dicts = list(points)
        for row, point in enumerate(dicts):
            if not isinstance(point, Mapping):
                raise MobalabError(f"points, row {row}: {point!r} is no dict; each row names the values of a point")
            if set(point) != set(dicts[0]):
                other = sorted(map(str, set(point) ^ set(dicts[0])))
                raise MobalabError(f"points, row {row}: names other columns than row 0 ({', '.join(other)}); "
                                   "each row names the same")
        names, rows = list(dicts[0]) if dicts else [], [list(point.values()) for point in
                                                         ({name: point[name] for name in dicts[0]} for point in dicts)]
    for name in names:
        if name not in POINT_NAMES:
            hint = nearest_hint(str(name), sorted(POINT_NAMES))
            raise MobalabError(f"points: the column {name} is none of a point{hint or '; it has ' + ', '.join(sorted(POINT_NAMES))}")
    if not rows:
        raise MobalabError("points: there is no row; give one point at least")
    return [str(name) for name in names], rows


def _write(path: Path, names: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            writer.writerow([word_of(name, value) for name, value in zip(names, row)])
