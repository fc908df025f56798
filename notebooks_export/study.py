"""What `export` draws: one or several results files as one set of tables, narrowed by --where, and how to lay it out."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from notebooks_export.axes import AXES, BUDGET, FILE, RATIO, find_axis, same_values
from notebooks_export.model_tables import with_router
from notebooks_export.results import MODEL_TABLES, TRAINING_TABLES, ExportError, open_results
from notebooks_export.trained_tables import with_ratios
from notebooks_export.where import in_table, parse_where, select


@dataclass(frozen=True)
class View:
    """What the user asked to see; what is None (or empty) is chosen by layout.py."""

    x: object = None
    colour: object = None
    panels: tuple = ()
    where: str = None

    def options(self):
        """The view as keyword arguments of `open_study`, those that were given."""
        given = dict(x=self.x and self.x.name, colour=self.colour and self.colour.name,
                     panels=",".join(axis.name for axis in self.panels) or None, where=self.where)
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Study:
    """Results files in memory, as one.

    `points` has one row a routing point, with the columns `file` (a label of `labels`), `point` (what the file's other
    tables call it), `d/B` and `topk*block_size`; `bench` one row a measurement, whose name without its number of trials is `measurement`. Both are None when no file has such a
    table, and hold the rows that --where keeps. `rows_before` counts them all. `measure`, `measure_distance`, `advise` and
    `advise_heads` are the tables about a real model in the same way, with the column `router` (model_tables.py); `trained`
    holds the tables about trained models by name, with `d/B` and `topk*block_size` (trained_tables.py).
    """

    files: tuple
    labels: tuple
    view: View
    points: pd.DataFrame = None
    bench: pd.DataFrame = None
    measure: pd.DataFrame = None
    measure_distance: pd.DataFrame = None
    advise: pd.DataFrame = None
    advise_heads: pd.DataFrame = None
    trained: dict = field(default_factory=dict)
    rows_before: dict = None

    def rows(self, table):
        """The rows of a table that --where keeps, or None."""
        return self.trained.get(table) if table in TRAINING_TABLES else getattr(self, table)

    @property
    def confidence(self):
        """Confidence of the intervals in words ("95 %"), or None when no file says it."""
        known = list(dict.fromkeys(results.confidence for results in self.files if results.confidence))
        return " and ".join(known) or None

    def by_candidates(self):
        """The kernel's counts by number of candidates at the points of `points`, with the column `file`; or None."""
        tables = [results.tables["validate_by_candidates"].assign(file=label)
                  for results, label in zip(self.files, self.labels) if "validate_by_candidates" in results.tables]
        if not tables or self.points is None:
            return None
        return pd.concat(tables, ignore_index=True).merge(self.points[["file", "point"]], on=["file", "point"])

    def comparisons(self):
        """(label, Results) of the files that hold comparisons."""
        return [(label, results) for results, label in zip(self.files, self.labels)
                if "validate_comparisons" in results.tables]


def open_study(paths, *, x=None, colour=None, panels=None, where=None):
    """Reads results files. `paths` is one path or several; the rest is what the options of `export` say.

    Raises ExportError: one line on what is wrong and what would be right.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    parse_where(where)
    _refuse_twice(paths)
    return study_of([open_results(path) for path in paths], file_labels(paths), x=x, colour=colour, panels=panels, where=where)


def study_of(files, labels, *, x=None, colour=None, panels=None, where=None):
    """The same of results in memory; each is called by its label. Raises ExportError."""
    files, labels, conditions = tuple(files), tuple(labels), parse_where(where)
    tables = {"points": _together(files, labels, _points), "bench": _together(files, labels, _bench),
              **{name: _together(files, labels, lambda results, name=name: with_router(results.tables.get(name)))
                 for name in MODEL_TABLES},
              **{name: _together(files, labels, lambda results, name=name: with_ratios(results.tables.get(name)))
                 for name in TRAINING_TABLES}}
    rows_before = {name: len(table) for name, table in tables.items() if table is not None}
    if not any(rows_before.values()):
        raise ExportError(f"{', '.join(str(results.path) for results in files)}: no row to draw; a table of the file must hold one")
    view = _view(x, colour, panels, where, [table for table in tables.values() if table is not None])
    narrowed = _narrowed(tables, conditions)
    trained = {name: narrowed.pop(name) for name in TRAINING_TABLES if name in narrowed}
    return Study(files, labels, view, **narrowed, trained=trained, rows_before=rows_before)


def _view(x, colour, panels, where, tables):
    view = View(x=x if x is None else find_axis("x", x, tables),
                colour=colour if colour is None else find_axis("colour", colour, tables),
                panels=() if panels is None else tuple(find_axis("panels", word, tables) for word in panels.split(",")),
                where=where)
    roles = [("x", view.x), ("colour", view.colour), *(("panels", axis) for axis in view.panels)]
    for place, (role, axis) in enumerate(roles):
        for other, taken in roles[:place]:
            if axis is not None and axis == taken:
                raise ExportError(f"{role} = {axis.name}: {axis.name} is named by --{other} already; name another axis "
                                  f"for one of them, or leave --{role} out")
    return view


def _refuse_twice(paths):
    seen = {}
    for path in paths:
        place = os.path.realpath(path)
        if place in seen:
            raise ExportError(f"{path}: is given twice ({seen[place]} is the same file); name each file once")
        seen[place] = path


def file_labels(paths):
    """The shortest ends of the paths that tell the files apart: run.h5, or a/run.h5 and b/run.h5."""
    parts = [Path(os.path.realpath(path)).parts for path in paths]
    labels = []
    for own in parts:
        length = 1
        while length < len(own) and sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        labels.append(os.fsencode("/".join(own[-length:])).decode("utf-8", "replace"))
    return labels


def _together(files, labels, read):
    tables = [table.assign(file=label) for results, label in zip(files, labels)
              if (table := read(results)) is not None]
    if not tables:
        return None
    together = pd.concat(tables, ignore_index=True, sort=False)
    for axis in AXES:
        if axis.name in together and axis.plain is not None:
            together[axis.name] = together[axis.name].where(together[axis.name].notna(), axis.plain)
    return together


def _points(results):
    points = kernel_at_last_query(results)
    if points is None or points.empty:
        return None
    points = points.assign(point=point_ids(points))
    for axis in AXES:
        if axis.name in points and not axis.text:
            points[axis.name] = same_values(points[axis.name])
    derived = {RATIO.name: points["head_dim"] / points["block_size"], BUDGET.name: points["topk"] * points["block_size"]}
    return points.assign(**derived)


def _bench(results):
    table = results.tables.get("bench")
    if table is None or table.empty:
        return None
    # The number of trials that fill the time of a call differs from shape to shape.
    return table.assign(measurement=table["name"].str.replace(r", \d+ trials$", "", regex=True))


def _narrowed(tables, conditions):
    """The tables after --where. A table without a column that another has is left as it is."""
    narrowed, refusals = {}, []
    for name, table in tables.items():
        if table is None:
            continue
        others = [other for other in tables.values() if other is not None and other is not table]
        asked = [in_table(condition, table) for condition in conditions
                 if in_table(condition, table).column in table
                 or not any(in_table(condition, other).column in other for other in others)]
        try:
            narrowed[name] = select(table, asked)
        except ExportError as refusal:
            refusals.append(refusal)
    if not narrowed:
        raise refusals[0]
    return narrowed


def kernel_at_last_query(results):
    """Points with the kernel's counts of those probes that saw exactly the point's candidates, where the file has them.

    The kernel's totals are over probes all along the sequence; the last bin of validate_by_candidates holds the
    probes of the last block, which answer the same question as theory and simulation do.
    """
    points, bins = results.points, results.tables.get("validate_by_candidates")
    if points is None or bins is None or "kernel_miss" not in points:
        return points
    last = bins[bins["candidates_low"] == bins["candidates_high"]].set_index(["point", "candidates_high"])
    keys = list(zip(point_ids(points), points["candidates"]))
    if last.index.has_duplicates or not all(key in last.index for key in keys):
        return points
    columns = [name for name in last.columns if name.startswith("kernel_")]
    return points.assign(**{name: last.loc[keys, name].to_numpy() for name in columns})


def point_ids(points):
    """What the other tables call `point`: the row number."""
    return points["point"] if "point" in points else points.index


def known_miss(rows):
    """The exact miss probabilities; where there are none (NaN), those that were counted."""
    miss = rows["miss_probability"]
    for column in ("sim_miss", "kernel_miss"):
        miss = miss.fillna(rows[column]) if column in rows else miss
    return np.asarray(miss, dtype=float)
