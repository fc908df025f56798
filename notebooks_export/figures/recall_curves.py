"""Recall of routers on a real model against block size: mean over heads, its interval, the spread of heads, predictions."""

import dataclasses

import matplotlib
import numpy as np
import pandas as pd

from notebooks_export import captions, style
from notebooks_export.axes import BUDGET, BY_NAME, Axis, number
from notebooks_export.drawing import Drawing
from notebooks_export.figures.curves import arms
from notebooks_export.layout import NoData, choose
from notebooks_export.model_tables import (MOST_ROUTERS, axes_for, coloured_by_router, confidence, heads_in_words,
                                           known_values, looks, over_heads, rows_of)
from notebooks_export.x_axis import XAxis

VALUES = {"mass_recall": "recall of attention mass", "needle_hit": "needles found"}

BLOCK_SIZE, TOPK = BY_NAME["block_size"], BY_NAME["topk"]

HELD = Axis("held", "fixed", "what is held while B varies", text=True)
"""A setting of fixed k and one of fixed k B stand in two panels, also where they are the same setting."""

ASIDE = 0.45
"""Share of the room between two values of x that the colours take up beside each other."""

MOST_COLUMNS = 4


def draw(study):
    """Panels side by side, one value of VALUES a row."""
    rows = rows_of(study, "measure")
    values = known_values(rows, VALUES)
    if not values:
        raise NoData(f"table 'measure' has no value in {' or '.join(VALUES)}")
    axes = axes_for(study.view, rows)
    settings = over_heads(rows, axes, values)
    layout = _layout(study, settings, axes, values[0])
    panels = layout.panel_list()
    x = XAxis(layout.x, tuple(layout.values(layout.x)), len(layout.colour_list()))
    figure, grid = _new_figure(panels, values)
    everything = _undoubled(layout, settings, axes)
    style.headline(figure, "How much of what attention wants does the router keep?", "; ".join(filter(None, [
        captions.fixed(layout, study, math=True), f"mean over {heads_in_words(layout.rows)}",
        f"{confidence(study, 'measure')} intervals" if confidence(study, "measure") else ""])))
    shown = looks(layout.colour, layout.values(layout.colour) if layout.colour else ())
    for place, (named, part) in enumerate(panels):
        for value in values:
            _panel(grid[value, place], layout, x, part, value, shown)
        grid[values[0], place].set_title(captions.panel_title(layout, named, part), loc="left")
    _legend(grid["legend"], layout, shown, values)
    return Drawing(figure, f"{captions.what_is_drawn(everything, study, 'settings', table='measure')} Each is the mean over "
                   f"{heads_in_words(layout.rows)}.", " ".join(_marks(layout.rows, values)),
                   " ".join(filter(None, [captions.what_is_left_out(everything, "settings"),
                                          _other_families(settings, layout), *_missing(layout.rows, values)])), layout)


def _layout(study, settings, axes, value):
    view = coloured_by_router(study.view, axes, settings)

    def score(rows):
        return float(np.ptp(rows[value].dropna())) if rows[value].notna().any() else 0.0

    held = _held(settings, view)
    if held is None:
        asked = (view.x, view.colour, *view.panels)
        axes = tuple(axis for axis in axes if axis != BUDGET or axis in asked)
        return choose(settings, view, score, axes, most_colours=MOST_ROUTERS)
    axes = (HELD, *(axis for axis in axes if axis not in (TOPK, BUDGET)))
    view = dataclasses.replace(view, x=BLOCK_SIZE, panels=(HELD, *view.panels))
    return choose(held, view, score, axes, most_colours=MOST_ROUTERS)


def _held(settings, view):
    """Settings of one k at several B and of one k B at several B, told apart by HELD; None where the view asks for other
    axes or B does not vary so."""
    asked = (view.colour, *view.panels)
    if view.x not in (None, BLOCK_SIZE) or {TOPK, BUDGET, BLOCK_SIZE} & set(asked):
        return None
    families = []
    for axis, name in ((TOPK, "k"), (BUDGET, "k B")):
        value = _longest(settings, axis)
        if value is not None:
            part = settings[settings[axis.name] == value]
            families.append(part.assign(**{HELD.name: f"{name} = {number(value)}"}))
    return pd.concat(families, ignore_index=True) if families else None


def _other_families(settings, layout):
    """The k and the k B that could be held fixed as well."""
    if HELD not in layout.panels:
        return ""
    there = []
    for axis, name in ((TOPK, "k"), (BUDGET, "k B")):
        lengths = settings.groupby(axis.name)["block_size"].nunique()
        drawn = set(layout.rows[HELD.name])
        others = [number(value) for value in lengths[lengths > 1].index]
        others = [value for value in others if f"{name} = {value}" not in drawn]
        there += [f"{name} = {', '.join(others)}"] if others else []
    return f"Not drawn as curves: {'; '.join(there)} (choose with --where)." if there else ""


def _longest(settings, axis):
    """The value of the axis that most block sizes have, of several the one in the middle; None: none has two."""
    lengths = settings.groupby(axis.name)["block_size"].nunique()
    if lengths.max() < 2:
        return None
    longest = sorted(lengths[lengths == lengths.max()].index)
    return longest[len(longest) // 2]


def _undoubled(layout, settings, axes):
    """The layout with every setting once, for sentences on what is drawn and what is not."""
    if HELD not in layout.panels:
        return layout
    names = [axis.name for axis in axes if axis.name in layout.rows]
    panels = tuple(layout.panels)
    return dataclasses.replace(layout, rows=layout.rows.drop_duplicates(names), points=settings, panels=panels,
                               axes=(HELD, *axes))


def _new_figure(panels, values):
    """The figure and {(value, panel): axes}; the panels of one value in a row where they fit, else those of a panel."""
    count = len(panels) * len(values)
    in_rows = len(panels) <= MOST_COLUMNS
    columns = len(panels) if in_rows else MOST_COLUMNS
    figure, axes = style.new_figure(count, width=3.4 + max(3.6 * columns, 4.6), columns=columns,
                                    height=1.3 + 3.1 * -(-count // columns))
    grid = {(value, place): axes[row * len(panels) + place if in_rows else place * len(values) + row]
            for row, value in enumerate(values) for place in range(len(panels))}
    for (value, place), axis in grid.items():
        axis.set_ylim(-0.03, 1.03)
        if place == 0 or not in_rows:
            axis.set_ylabel(VALUES[value])
    return figure, {**grid, "legend": axes[columns - 1]}


def _panel(axis, layout, x, rows, value, shown):
    x.set_up(axis)
    curves = list(layout.curve_list(rows))
    step = _step(x, len(layout.colour_list()))
    for place, name, curve in curves:
        where = _beside(x, curve, place, (place - (len(layout.colour_list()) - 1) / 2) * step)
        _curve(axis, where, curve, value, shown[name], x.lone)
    if step > 0.0:
        (low, high), beside = axis.get_xlim(), 0.5 * step * (len(layout.colour_list()) - 1)
        axis.set_xlim(*((low / 2**beside, high * 2**beside) if x.log else (low - beside, high + beside)))


def _step(x, colours):
    """Room between the marks of two colours: in powers of two on a log axis."""
    if x.words or len(x.values) < 2:
        return 0.0
    values = np.log2(x.values) if x.log else np.asarray(x.values, dtype=float)
    return ASIDE * float(np.min(np.diff(values))) / max(colours, 2)


def _beside(x, rows, place, aside):
    places = x.places(rows, place)
    return places * 2.0 ** aside if x.log else places + (0.0 if x.words else aside)


def _curve(axis, x, rows, value, look, lone):
    mean = rows[value].to_numpy(float)
    known = np.isfinite(mean)
    x, rows, mean = x[known], rows[known], mean[known]
    axis.vlines(x, rows[f"{value}_least"], rows[f"{value}_most"], color=look.colour, alpha=0.3, lw=2.4)
    line = "" if lone else look.dashes
    axis.plot(x, mean, ls=line or "none", marker=look.mark, ms=5, color=look.colour, mfc=look.fill, lw=1.6)
    if f"{value}_low" in rows:
        axis.errorbar(x, mean, yerr=arms(mean, rows[f"{value}_low"], rows[f"{value}_high"]), fmt="none", elinewidth=1.0,
                      capsize=0, ecolor=look.colour)
    if _has_prediction(rows, value):
        predicted = rows[f"predicted_{value}"].to_numpy(float)
        at = np.isfinite(predicted)
        alone = lone or at.sum() < 2
        axis.plot(x[at], predicted[at], ls="none" if alone else ":", marker="_" if alone else "", ms=14, mew=2, lw=2.0,
                  color=look.colour)


def _has_prediction(rows, value):
    return bool(known_values(rows, [f"predicted_{value}"]))


def _legend(axis, layout, shown, values):
    line = matplotlib.lines.Line2D
    handles = [line([], [], color=shown[name].colour, marker=shown[name].mark, mfc=shown[name].fill,
                    ls=shown[name].dashes, label=captions.colour_label(layout, name, part).removeprefix("router "))
               for (name,), part in layout.colour_list() if layout.colour]
    handles += [line([], [], color=style.GREY, alpha=0.4, lw=2.4, label="10 % to 90 % of the heads")]
    if any(f"{value}_low" in layout.rows for value in values):
        handles.append(line([], [], color=style.GREY, marker="|", ls="", ms=9, label="mean over heads, interval"))
    if any(_has_prediction(layout.rows, value) for value in values):
        handles.append(line([], [], color=style.GREY, ls=":", lw=2.0, label="predicted, mean over heads"))
    style.outside_legend(axis, handles=handles)


def _marks(rows, values):
    yield "Marks stand beside each other around their x. Pale bars go from the 10 % to the 90 % quantile of the heads."
    if any(f"{value}_low" in rows for value in values):
        yield ("Intervals of a mean go from the mean of the heads' lower ends to that of their upper ends, wide enough "
               "however the heads depend on each other.")
    if any(_has_prediction(rows, value) for value in values):
        yield "Dotted lines are predictions."


def _missing(rows, values):
    """What a table without some of its columns does not let draw."""
    some = any(_has_prediction(rows, value) for value in values)
    if not some:
        yield "No prediction that all heads of a setting have is in the file."
    for value in VALUES:
        if value not in values:
            yield f"Not in the file: {value}."
        elif some and (not _has_prediction(rows, value) or rows[f"predicted_{value}"].isna().any()):
            yield f"Where some head lacks predicted_{value} none is drawn."
