"""Recall and lost mass of every head: maps of layers and heads, one column a setting."""

import dataclasses

import numpy as np
import pandas as pd

from notebooks_export import captions, style
from notebooks_export.axes import BY_NAME, HEAD, LAYER, ROUTER
from notebooks_export.drawing import Drawing
from notebooks_export.figures.heat_map import BAD, GOOD, HeatMap, share_scale
from notebooks_export.layout import MAX_PANELS, NoData, choose_panels
from notebooks_export.model_tables import axes_for, is_chosen, known_values, panels_of, rows_of

VALUES = {"mass_recall": ("recall of attention mass", GOOD), "lost_mass": ("mass that is lost", BAD)}

FIRST = ("mean", "mean + block 0", "quest", "oracle")
"""Routers that are shown of too many, behind the one that advise chose."""

PREFERRED = (ROUTER, BY_NAME["block_size"], BY_NAME["topk"])

ALONG = "the head, y the layer"


def draw(study):
    """A column of maps for each panel, one value of VALUES a row."""
    rows = rows_of(study, "measure")
    values = known_values(rows, VALUES)
    if not values:
        raise NoData(f"table 'measure' has no value in {' or '.join(VALUES)}")
    layout = _layout(study, rows, values[0])
    panels = layout.panel_list()
    heat = HeatMap(layout.rows)
    columns = min(len(panels), MAX_PANELS)
    lines = -(-len(panels) // columns)
    figure, axes = style.new_figure(lines * columns * len(values), columns=columns,
                                    width=1.8 + max((heat.width + 0.4) * columns, 6.4),
                                    height=1.1 + (heat.height + 0.75) * lines * len(values))
    style.headline(figure, "Which heads does the router serve, and what do they lose?",
                   "; ".join(filter(None, [captions.fixed(layout, study, math=True), captions.count(layout, "rows")])))
    for row, value in enumerate(values):
        beside = {line: [] for line in range(lines)}
        for place in range(lines * columns):
            line = place // columns
            axis = axes[(line * len(values) + row) * columns + place % columns]
            if place >= len(panels):
                axis.remove()
                continue
            beside[line].append(axis)
            axis.set(xlabel="head" if row == len(values) - 1 else "", ylabel="" if place % columns else "layer")
            if row == 0 or lines > 1:
                axis.set_title(captions.panel_title(layout, *panels[place]).removeprefix("router "), loc="left", fontsize=10)
        _maps(figure, heat, value, [part for _, part in panels], beside.values())
    missing = [f"Not in the file: {value}." for value in VALUES if value not in values]
    return Drawing(figure, captions.what_is_drawn(layout, study, "rows", along=ALONG, table="measure"),
                   "Grey: no row." if _gaps(layout, panels, heat) else "",
                   " ".join(filter(None, [captions.what_is_left_out(layout, "rows"), *missing])), layout)


def _maps(figure, heat, value, parts, lines):
    """The maps of one value, on one scale, which stands beside each line of axes."""
    name, colours = VALUES[value]
    scale = share_scale(colours, 1.0 if colours == GOOD else float(pd.concat(parts)[value].max()))
    for axis, part in zip((axis for line in lines for axis in line), parts):
        heat.draw(axis, part, value, scale)
    for line in lines:
        heat.colour_bar(figure, line, scale, name)


def _layout(study, rows, value):
    view = panels_of(study.view, (LAYER, HEAD))
    axes = axes_for(view, rows)
    chosen = is_chosen(rows, study)
    rows = rows.assign(_chosen=chosen)
    shown = rows
    if not view.panels and rows[ROUTER.name].nunique() > MAX_PANELS:
        there = list(dict.fromkeys([*rows[ROUTER.name][chosen], *FIRST, *rows[ROUTER.name]]))
        kept = [name for name in there if (rows[ROUTER.name] == name).any()][:MAX_PANELS]
        shown = rows[rows[ROUTER.name].isin(kept)]

    def score(part):
        """Many heads, then the setting that was chosen, then heads that differ."""
        spread = float(np.ptp(part[value].dropna())) if part[value].notna().any() else 0.0
        return len(part) + 0.5 * bool(part["_chosen"].any()) + 0.1 * spread

    layout = choose_panels(shown, view, score, axes, PREFERRED)
    return dataclasses.replace(layout, points=rows)


def _gaps(layout, panels, heat):
    cells = len(heat.layers) * len(heat.heads)
    return any(len(part[["layer", "head"]].drop_duplicates()) < cells for _, part in panels) or any(
        layout.rows[value].isna().any() for value in VALUES if value in layout.rows)
