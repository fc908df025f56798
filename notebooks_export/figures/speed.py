"""Speed: the measurements of benchmark files, as a list for one shape and as curves for a sweep of shapes."""

import dataclasses

import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import BENCH_AXES, BY_NAME
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, choose
from notebooks_export.x_axis import XAxis

MEASUREMENT = BY_NAME["measurement"]

SHAPE = {"file": "", "batch": "batch", "heads": "heads", "head_dim": "d", "block_size": "B", "seq_len": "N", "topk": "k",
         "dtype": "", "threads": "threads"}
"""Columns of a shape and what to call them in a list."""


def draw(study):
    """Seconds of each measurement, median with its range, log axis."""
    if study.bench is None:
        raise NoData("no table 'bench'; it is written by mobalab bench")
    sweeps = any(study.bench[axis.name].nunique() > 1 for axis in BENCH_AXES if axis.name in study.bench and not axis.text)
    return _curves(study) if sweeps else _list(study)


def _curves(study):
    """A panel for each measurement, its time along the swept axis."""
    view = study.view
    if not view.panels and MEASUREMENT not in (view.x, view.colour):
        view = dataclasses.replace(view, panels=(MEASUREMENT,))
    layout = choose(study.bench, view, lambda rows: float(len(rows)), BENCH_AXES)
    panels = layout.panel_list()
    x = XAxis(layout.x, tuple(layout.values(layout.x)), len(layout.colour_list()))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = style.new_figure(len(panels), width=3.0 + 4.0 * columns, height=1.2 + 2.9 * rows, columns=columns,
                                    sharey=False)
    style.headline(figure, "How fast is it?", "; ".join(filter(None, [
        captions.fixed(layout, study), captions.count(layout, "measurements"), "time of one call: median, low to high"])))
    for place, ((_, part), axis) in enumerate(zip(panels, axes)):
        axis.set_title(captions.panel_title(layout, panels[place][0], part).removeprefix("measurement "), loc="left")
        x.set_up(axis)
        axis.set_yscale("log")
        style.seconds_axis(axis.yaxis, part["seconds_low"].min(), part["seconds_high"].max())
        axis.set_xlabel(axis.get_xlabel() if place + columns >= len(axes) else "")
        for colour, _, curve in layout.curve_list(part):
            _timed(axis, x.places(curve, colour), curve, style.SERIES[colour], "o" if x.lone else "o-")
    if layout.colour:
        for colour, ((value,), part) in zip(style.SERIES, layout.colour_list()):
            axes[columns - 1].plot([], [], color=colour, lw=4, label=captions.colour_label(layout, value, part))
        style.outside_legend(axes[columns - 1])
    return Drawing(figure, captions.what_is_drawn(layout, study, "measurements"),
                   left_out=captions.what_is_left_out(layout, "measurements"), layout=layout)


def _timed(axis, x, rows, colour, shape):
    median = rows["seconds_median"].to_numpy()
    arms = np.vstack([median - rows["seconds_low"], rows["seconds_high"] - median])
    axis.errorbar(x, median, yerr=np.maximum(arms, 0.0), fmt=shape, color=colour, ms=4.5, lw=1.4)


def _list(study):
    """A line for each measurement."""
    table = study.bench
    first = {name: place for place, name in reversed(list(enumerate(table["name"])))}
    table = table.sort_values("name", key=lambda names: names.map(first), kind="stable")
    fixed, varying = _shape_columns(table)
    figure, (axis,) = style.new_figure(width=10.4, height=1.4 + 0.3 * len(table))
    style.headline(figure, "How fast is it?", _shape(table.iloc[0], [name for name in fixed if name != "file"]))
    y = np.arange(len(table))[::-1]
    median = table["seconds_median"].to_numpy()
    arms = np.vstack([median - table["seconds_low"], table["seconds_high"] - median])
    axis.errorbar(median, y, xerr=np.maximum(arms, 0.0), fmt="o", color=style.BLUE, ms=6)
    for height, (_, row) in zip(y, table.iterrows()):
        axis.text(1.01, height, _remark(row), transform=axis.get_yaxis_transform(), va="center", fontsize=9.5)
    axis.set_xscale("log")
    style.seconds_axis(axis.xaxis, table["seconds_low"].min(), table["seconds_high"].max())
    axis.set_yticks(y, [",  ".join(filter(None, (row["name"], _shape(row, varying)))) for _, row in table.iterrows()])
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="time of one call  (median, low to high)", ylim=(-0.6, len(table) - 0.4))
    return Drawing(figure, f"Drawn: all {len(table)} measurements.{captions.selected(study, 'measurements')}",
                   "On the right the flop rate and the ratio to the peer measured in the same run.")


def _shape_columns(table):
    """Shape columns the file has: those with one value, those with more."""
    known = [name for name in SHAPE if name in table]
    return [name for name in known if table[name].nunique() == 1], [name for name in known if table[name].nunique() > 1]


def _shape(row, columns):
    return ", ".join(f"{SHAPE[name]} {row[name]}".strip() for name in columns)


def _remark(row):
    parts = []
    if np.isfinite(row.get("gflops", np.nan)) and row["gflops"] > 0:
        parts.append(f"{row['gflops']:.3g} GFLOP/s")
    if np.isfinite(row.get("share_of_peak", np.nan)):
        parts.append(f"{100.0 * row['share_of_peak']:.1f} % of peak")
    if row.get("peer") and np.isfinite(row.get("ratio_to_peer", np.nan)):
        parts.append(f"{row['ratio_to_peer']:.2f} × {row['peer']}")
    return ",  ".join(parts)
