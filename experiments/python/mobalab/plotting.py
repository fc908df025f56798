"""plot: the figures of `mobalab export`, of results in memory or in files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Optional, Union

import xarray as xr

import mobalab._notebooks_export  # noqa: F401
from mobalab.combining import Combination
from mobalab.commands import Measurement, Validation
from mobalab.datasets import open_results, provenance_of
from mobalab.errors import MobalabError, nearest_hint
from mobalab.settings import Numbers, Path, Words, text_of
from notebooks_export.results import OTHER_TABLES, POINT_TABLES, ExportError, results_of

Result = Union[Path, xr.Dataset, Validation, Measurement, Combination]
Filter = Union[str, Mapping[str, Union[Numbers, Words]], None]

KNOWN = POINT_TABLES + OTHER_TABLES


@dataclass(frozen=True)
class Plot:
    """A figure; a notebook shows picture and caption."""

    name: str
    figure: Any
    """matplotlib's Figure"""
    caption: str
    """which rows are drawn, how to read the marks, what is left out"""

    def png(self) -> bytes:
        """The bytes that `mobalab export` writes."""
        from notebooks_export import style  # matplotlib: only who draws needs it

        return bytes(style.png_bytes(self.figure))

    def svg(self) -> bytes:
        from notebooks_export import style

        return bytes(style.svg_bytes(self.figure))

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        return f"{self.name}: {self.caption}"


def plot(*results: Result, x: Optional[str] = None, colour: Optional[str] = None, panels: Optional[str] = None,
         filter: Filter = None, figure: Optional[str] = None) -> Plot:
    """One of the figures that figures() draws: the first, or the one that `figure` names. Raises MobalabError."""
    drawn = figures(*results, x=x, colour=colour, panels=panels, filter=filter)
    if figure is None:
        return next(iter(drawn.values()))
    if figure not in drawn:
        from notebooks_export.figures import FIGURES

        hint = nearest_hint(figure, list(drawn))
        known = any(figure == spec.name for spec in FIGURES)
        raise MobalabError(f"figure = {figure}: {'cannot be drawn of these results' if known else 'is no figure'}; there are "
                           f"{', '.join(drawn)}{hint}")
    return drawn[figure]


def figures(*results: Result, x: Optional[str] = None, colour: Optional[str] = None, panels: Optional[str] = None,
            filter: Filter = None) -> dict[str, Plot]:
    """Every figure that the results allow, by name: the figures of `mobalab export`.

    Each result is a dataset, what validate(), measure() or combine() gave, or the path of a results file; several are drawn
    together. `x`, `colour` and `panels` name axes ("block_size", "d/B", "topk,cluster_size"; without them they are chosen),
    `filter` which rows: conditions as for `mobalab export --where` ("head_dim = 128 and topk in 4,8") or a dict of values
    ({"head_dim": 128, "topk": [4, 8]}). Raises MobalabError.
    """
    if not results:
        raise MobalabError("results: give a dataset or the path of a results file")
    try:
        from notebooks_export.figures import draw_all  # imports matplotlib, which nothing else needs
        from notebooks_export.study import study_of
    except ModuleNotFoundError as missing:
        raise MobalabError(f"figures need {missing.name}: pip install 'mobalab[experiments]', or the Debian package "
                           f"python3-{missing.name}") from missing
    try:
        labels = _labels(results)
        files = [_in_memory(result, label) for result, label in zip(results, labels)]
        study = study_of(files, labels, x=x, colour=colour, panels=panels, where=_conditions(filter))
        drawn, left_out = draw_all(study)
    except ExportError as error:
        raise MobalabError(str(error)) from None
    if not drawn:
        raise MobalabError(f"{', '.join(labels)}: no figure can be drawn: {'; '.join(dict.fromkeys(left_out.values()))}")
    return {name: Plot(name, drawing.picture, drawing.caption) for name, _, _, drawing in drawn}


def _labels(results: "tuple[Result, ...]") -> list[str]:
    """Files as `export` calls them; others by their command, numbered where one comes twice."""
    from notebooks_export.study import file_labels

    paths = [os.fspath(result) for result in results if isinstance(result, (str, os.PathLike))]
    of_paths = iter(file_labels(paths))
    words = [next(of_paths) if isinstance(result, (str, os.PathLike)) else _tables(result)[0] for result in results]
    return [word if words.count(word) == 1 else f"{word} {words[:place + 1].count(word)}" for place, word in enumerate(words)]


def _tables(result: Any) -> tuple[str, dict[str, xr.Dataset]]:
    """(the command, its tables by name) of a result in memory. Raises MobalabError."""
    if isinstance(result, Validation):
        tables = {"validate": result.points, "validate_comparisons": result.comparisons,
                  "validate_by_candidates": result.by_candidates}
        return "validate", {name: table for name, table in tables.items() if table is not None}
    if isinstance(result, Measurement):
        tables = {"measure": result.settings, "measure_distance": result.distance}
        return "measure", {name: table for name, table in tables.items() if table is not None}
    if isinstance(result, Combination):
        return "combine", {"simulate": result.points}
    if isinstance(result, xr.Dataset) and result.attrs.get("subcommand") in (*POINT_TABLES, "measure"):
        return str(result.attrs["subcommand"]), {str(result.attrs["subcommand"]): result}
    if isinstance(result, xr.Dataset) and result.attrs.get("subcommand") == "combine":
        return "combine", {"simulate": result}
    raise MobalabError(f"results: {type(result).__name__} is no result of mobalab; give a dataset with its attributes or the "
                       "path of a results file")


def _in_memory(result: Result, label: str) -> Any:
    if isinstance(result, (str, os.PathLike)):
        tables = {name: table for name, table in open_results(result).items() if name in KNOWN}
        if not tables:
            raise MobalabError(f"{os.fspath(result)}: holds no table that a figure is drawn of")
        return results_of(FilePath(os.fspath(result)), provenance_of(next(iter(tables.values()))), tables.items())
    tables = _tables(result)[1]
    return results_of(FilePath(label), provenance_of(next(iter(tables.values()))), tables.items())


def _conditions(filter: Filter) -> Optional[str]:
    if filter is None or isinstance(filter, str):
        return filter
    if not isinstance(filter, Mapping):
        raise MobalabError(f"filter = {filter!r}: must be conditions as text or a dict of values")
    return " and ".join(f"{name} in {text_of(str(name), values)}" for name, values in filter.items()) or None
