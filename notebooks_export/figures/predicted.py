"""Predicted against measured, every head of every setting a dot."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ROUTER
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, evenly, in_order
from notebooks_export.model_tables import MOST_ROUTERS, looks, rows_of

VALUES = {"mass_recall": "recall of attention mass", "needle_hit": "needles found"}

WITHIN = 0.05
"""Half the width of the band about the diagonal."""


def draw(study):
    """One panel a value that is both measured and predicted."""
    rows = rows_of(study, "measure")
    values = [value for value in VALUES if {value, f"predicted_{value}"} <= set(rows) and len(_pairs(rows, value))]
    if not values:
        wanted = " or ".join(f"{value} and predicted_{value}" for value in VALUES)
        raise NoData(f"table 'measure' has no row with {wanted}")
    colour = study.view.colour if study.view.colour and study.view.colour.name in rows else ROUTER
    named = evenly(in_order(rows[colour.name]), MOST_ROUTERS)
    shown = rows[rows[colour.name].isin(named)]
    marks = looks(colour, named)
    figure, axes = style.new_figure(len(values), width=3.4 + 4.3 * len(values), height=5.3)
    style.headline(figure, "Does the prediction hold, head by head?", _counts(shown, values))
    for axis, value in zip(axes, values):
        _panel(axis, shown, value, colour, marks)
    axes[0].set_ylabel("measured")
    _legend(axes[-1], shown, values, colour, marks)
    hidden = [str(name) for name in in_order(rows[colour.name]) if name not in named]
    return Drawing(figure, f"Drawn: {_counts(shown, values)}; a colour for each {colour.symbol}."
                   f"{captions.selected(study, 'rows', 'measure')}",
                   f"The line is equality, the band {WITHIN:g} to either side. In the legend the mean absolute errors in the "
                   "order of the panels.",
                   " ".join(filter(None, [f"Left out: {colour.symbol} = {', '.join(hidden)}." if hidden else "",
                                          *_missing(shown, values)])))


def _pairs(rows, value):
    return rows.dropna(subset=[value, f"predicted_{value}"])


def error(rows, value):
    """Mean absolute error; NaN without a pair."""
    return float((rows[value] - rows[f"predicted_{value}"]).abs().mean())


def _counts(rows, values):
    return "; ".join(f"{VALUES[value]}: {len(_pairs(rows, value))} of {len(rows)} rows (a head in a setting)"
                     for value in values)


def _panel(axis, rows, value, colour, marks):
    axis.fill_between([0.0, 1.0], [-WITHIN, 1.0 - WITHIN], [WITHIN, 1.0 + WITHIN], color=style.GREY, alpha=0.15, lw=0)
    axis.plot([0.0, 1.0], [0.0, 1.0], "-", color=style.BLACK, lw=1.0)
    pairs = _pairs(rows, value)
    for name, look in marks.items():
        part = pairs[pairs[colour.name] == name]
        axis.plot(part[f"predicted_{value}"], part[value], look.mark, color=look.colour, mfc=look.fill, ms=3.5, mew=0.8,
                  alpha=0.75, rasterized=style.too_many(pairs))
    apart = (pairs[value] - pairs[f"predicted_{value}"]).to_numpy()
    axis.text(0.03, 0.97, f"mean |error| {np.mean(np.abs(apart)):.3f}\nmeasured − predicted {np.mean(apart):+.3f}\n"
              f"{100.0 * np.mean(np.abs(apart) <= WITHIN):.0f} % within {WITHIN:g}", transform=axis.transAxes, va="top")
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="predicted", aspect="equal")
    axis.set_title(VALUES[value], loc="left")


def _legend(axis, rows, values, colour, marks):
    handles = []
    for name, look in marks.items():
        part = rows[rows[colour.name] == name]
        errors = " / ".join(f"{error(part, value):.3f}" if len(_pairs(part, value)) else "−" for value in values)
        said = str(name) if colour.text else colour.spell(name)
        handles.append(matplotlib.lines.Line2D([], [], ls="", marker=look.mark, color=look.colour, mfc=look.fill,
                                               label=f"{said}  {errors}"))
    style.outside_legend(axis, handles=handles, title="mean |error|, panels in order")


def _missing(rows, values):
    for value in VALUES:
        if value not in values:
            yield f"{VALUES[value][0].upper()}{VALUES[value][1:]}: not both measured and predicted in the file."
        elif (missing := len(rows) - len(_pairs(rows, value))) > 0:
            yield f"{missing} rows have no {value} or no prediction of it."
