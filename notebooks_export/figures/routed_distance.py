"""How far back routed blocks lie, beside how far back the attention mass lies."""

import dataclasses

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import BUDGET
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, choose
from notebooks_export.model_tables import (MOST_ROUTERS, axes_for, coloured_by_router, heads_in_words, looks,
                                           over_heads, rows_of)

ALONG = "the distance from the query's block in tokens"

BIN = ["distance_low", "distance_high"]


def draw(study):
    """A histogram a router: the share of its routed blocks in each bin of distances, mean over heads."""
    rows = rows_of(study, "measure_distance")
    if rows["routed_share"].isna().all():
        raise NoData("table 'measure_distance' has no value in routed_share")
    axes = tuple(axis for axis in axes_for(study.view, rows) if axis is not BUDGET)
    has_mass = "mass_share" in rows and rows["mass_share"].notna().any()
    bins = _bins(rows, axes, ["routed_share", *(["mass_share"] if has_mass else [])])
    layout = _layout(study, bins, axes)
    panels = layout.panel_list()
    marks = looks(layout.colour, layout.values(layout.colour) if layout.colour else ())
    figure, grid = style.new_figure(len(panels), width=3.2 + 3.8 * min(len(panels), 3), columns=min(len(panels), 3),
                                    height=1.4 + 3.3 * -(-len(panels) // 3))
    style.headline(figure, "How far back do the routed blocks lie?", "; ".join(filter(None, [
        captions.fixed(layout, study, math=True), f"mean over {heads_in_words(layout.rows)}"])))
    for axis, (named, part) in zip(grid, panels):
        for _, name, curve in layout.curve_list(part):
            _steps(axis, curve, "routed_share", color=marks[name].colour, ls=marks[name].dashes, lw=1.8)
        if has_mass:
            _steps(axis, part, "mass_share", color=style.BLACK, ls=":", lw=2.0)
        axis.set_xscale("log", base=2)
        style.log_axis(axis.xaxis)
        axis.set_ylim(bottom=0.0)
        axis.set_xlabel("tokens back")
        axis.set_title(captions.panel_title(layout, named, part), loc="left")
    grid[0].set_ylabel("share in each bin")
    line = matplotlib.lines.Line2D
    handles = [line([], [], color=marks[name].colour, ls=marks[name].dashes, label=captions.colour_label(
        layout, name, part).removeprefix("router ")) for (name,), part in layout.colour_list() if layout.colour]
    if has_mass:
        handles.append(line([], [], color=style.BLACK, ls=":", lw=2.0, label="attention mass\nof the past blocks"))
    style.outside_legend(grid[min(len(panels), 3) - 1], handles=handles)
    return Drawing(figure, captions.what_is_drawn(layout, study, "settings", along=ALONG, table="measure_distance"),
                   f"Each step is the share of the routed blocks in one bin, mean over {heads_in_words(layout.rows)}"
                   + ("; dotted, where the attention mass of the past blocks lies." if has_mass else "."),
                   " ".join(filter(None, [captions.what_is_left_out(layout, "settings"),
                                          "" if has_mass else "Not in the file: mass_share."])), layout)


def _bins(rows, axes, values):
    """One row a setting, its bins as arrays in columns of lists."""
    keys = [axis.name for axis in axes if axis.name in rows]
    means = rows.groupby([*keys, *BIN], sort=False, dropna=False)[values].mean().reset_index()
    means = means.sort_values(BIN, kind="stable").groupby(keys, dropna=False)[[*BIN, *values]].agg(list).reset_index()
    return over_heads(rows, axes, [])[[*keys, "heads", "layers"]].merge(means, on=keys)


def _layout(study, bins, axes):
    view = coloured_by_router(dataclasses.replace(study.view, x=None), axes, bins)

    def score(part):
        return len(part) + float(np.nan_to_num(max(np.ptp(shares) for shares in part["routed_share"])))

    return choose(bins, view, score, axes, own_x=True, most_colours=MOST_ROUTERS)


def _steps(axis, curve, value, **options):
    """Horizontal pieces over the bins; of the first setting of `curve`, which is the only one of its colour."""
    row = curve.iloc[0]
    low, high = (np.maximum(np.array(row[name], dtype=float), 1.0) for name in BIN)
    axis.plot(np.column_stack([low, high]).ravel(), np.repeat(row[value], 2), **options)
