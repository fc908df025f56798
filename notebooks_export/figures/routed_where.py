"""Where routed blocks lie: near the query, at the beginning, and how much stays in the own block; a bar a router."""

import dataclasses

import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ROUTER, ROUTER_PARTS
from notebooks_export.drawing import Drawing
from notebooks_export.figures.heat_map import two_digits
from notebooks_export.layout import NoData, choose_panels, evenly, in_order
from notebooks_export.model_tables import (MOST_ROUTERS, axes_for, heads_in_words, is_chosen, known_values,
                                           looks, over_heads, panels_of, rows_of)

VALUES = {"window_share": "routed blocks among\nthe latest k − 1", "sink_share": "rows that route block 0",
          "own_share": "mass attended to that is\nin the own block"}

ALONG = "a share"


def draw(study):
    """One row of panels a setting of B and k, one column a share."""
    rows = rows_of(study, "measure")
    values = known_values(rows, VALUES)
    if not values:
        raise NoData(f"table 'measure' has no value in {', '.join(VALUES)}")
    view = panels_of(study.view, (ROUTER, *ROUTER_PARTS))
    axes = axes_for(view, rows)
    chosen = is_chosen(rows, study)
    settings = over_heads(rows.assign(_chosen=chosen.astype(float)), axes, values, ["_chosen"])
    layout = _layout(view, settings, axes, values)
    panels = layout.panel_list()
    names = evenly(in_order(layout.rows[ROUTER.name]), MOST_ROUTERS)
    figure, grid = style.new_figure(len(panels) * len(values), columns=len(values), width=2.6 + 3.0 * len(values),
                                    height=1.5 + (0.5 + 0.28 * len(names)) * len(panels))
    style.headline(figure, "Where do the routed blocks lie?", "; ".join(filter(None, [
        captions.fixed(layout, study, math=True), f"mean over {heads_in_words(layout.rows)}"])))
    marks = looks(ROUTER, names)
    for place, (named, part) in enumerate(panels):
        for column, value in enumerate(values):
            axis = grid[place * len(values) + column]
            _bars(axis, part, value, names, marks)
            title = captions.panel_title(layout, named, part) if column == 0 else ""
            axis.set_title("\n".join(filter(None, [title, VALUES[value] if place == 0 else ""])), loc="left", fontsize=10)
    hidden = [name for name in in_order(layout.rows[ROUTER.name]) if name not in names]
    left = [captions.what_is_left_out(layout, "settings"), f"Routers left out: {', '.join(hidden)}." if hidden else "",
            *(f"Not in the file: {value}." for value in VALUES if value not in values)]
    return Drawing(figure, captions.what_is_drawn(layout, study, "settings", along=ALONG, table="measure"),
                   f"Bars are means over {heads_in_words(layout.rows)}, thin lines go from the 10 % to the 90 % quantile of "
                   "the heads. The three shares are of different wholes (routed blocks, rows, mass) and do not add up.",
                   " ".join(filter(None, left)), layout)


def _layout(view, settings, axes, values):
    """Panels as asked for; of the rest the slice of most routers, with the chosen setting or that tells routers apart."""

    def score(part):
        return len(part) + 0.5 * float(part["_chosen"].max() > 0) + 0.1 * sum(
            float(np.ptp(part[value].dropna())) for value in values if part[value].notna().any())

    layout = choose_panels(settings, view, score, tuple(axis for axis in axes if axis != ROUTER))
    return dataclasses.replace(layout, axes=axes)


def _bars(axis, rows, value, names, marks):
    rows = rows.drop_duplicates(ROUTER.name).set_index(ROUTER.name).reindex(names)
    y = np.arange(len(names))[::-1]
    for height, name in zip(y, names):
        row, look = rows.loc[name], marks[name]
        if not np.isfinite(row[value]):
            axis.text(0.02, height, "no value", va="center", fontsize=8.5, color=style.GREY)
            continue
        axis.barh(height, row[value], height=0.68, color="white" if look.open else look.colour, ec=look.colour,
                  alpha=0.75, lw=1.4)
        spread = [row[f"{value}_{end}"] for end in ("least", "most")]
        for colour, width in (("white", 3.6), (style.BLACK, 1.2)):  # also seen on a black bar
            axis.plot(spread, [height, height], "-", color=colour, lw=width, solid_capstyle="butt")
        axis.text(1.03, height, two_digits(row[value]), va="center", fontsize=9)
    axis.set_yticks(y, names)
    axis.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", ".25", ".5", ".75", "1"])
    axis.set(xlim=(0.0, 1.17), ylim=(-0.6, len(names) - 0.4))
    axis.grid(axis="y", visible=False)
