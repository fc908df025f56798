"""Predicted against measured, of trained models: every head a dot, or every model at every length."""

from dataclasses import dataclass

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import BY_NAME
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, evenly, in_order
from notebooks_export.model_tables import MOST_ROUTERS, looks
from notebooks_export.trained_tables import count_of_models, known, lengths_in_words, rows_of


@dataclass(frozen=True)
class Scatter:
    """What stands against what. `panels` are {column of predictions: title}; `unit` is what a dot is."""

    table: str
    measured: str
    panels: dict
    question: str
    unit: str
    within: float


HITS = Scatter(
    "training_heads", "hit",
    {"predicted_hit": "exact integral", "uncorrected_hit": "few candidates not corrected for"},
    "Does theory know what each head retrieves?", "a head at a length", 0.03)

ACCURACY = Scatter(
    "training", "accuracy",
    {"predicted_accuracy": "heads independent", "predicted_accuracy_correlated": "heads correlated",
     "predicted_accuracy_retrieval_layer": "retrieval layer alone"},
    "Does theory know what each model answers?", "a model at a length", 0.05)


def draw_hits(study):
    return _draw(study, HITS)


def draw_accuracy(study):
    return _draw(study, ACCURACY)


def _draw(study, scatter):
    rows = rows_of(study, scatter.table)
    predictions = [name for name in known(rows, scatter.panels) if len(rows.dropna(subset=[name, scatter.measured]))]
    if not predictions:
        raise NoData(f"table '{scatter.table}' has no row with {scatter.measured} and {' or '.join(scatter.panels)}")
    colour = study.view.colour if study.view.colour and study.view.colour.name in rows else BY_NAME["block_size"]
    pairs = rows.dropna(subset=[predictions[0], scatter.measured])
    named = evenly(in_order(pairs[colour.name]), MOST_ROUTERS)
    shown = pairs[pairs[colour.name].isin(named)]
    marks = looks(colour, named)
    figure, axes = style.new_figure(len(predictions), width=3.4 + 4.3 * len(predictions), height=5.3)
    said = f"{count_of_models(shown)}, {len(shown)} dots ({scatter.unit}), {lengths_in_words(shown)}"
    style.headline(figure, scatter.question, said)
    for axis, name in zip(axes, predictions):
        _panel(axis, shown, scatter, name, colour, marks)
    axes[0].set_ylabel(f"measured {scatter.measured}")
    _legend(axes[-1], shown, scatter, predictions, colour, marks)
    hidden = [str(name) for name in in_order(pairs[colour.name]) if name not in named]
    missing = len(rows) - len(pairs)
    return Drawing(figure, f"Drawn: {said}; a colour for each {colour.symbol}."
                   f"{captions.selected(study, 'rows', scatter.table)}",
                   f"The line is equality, the band {scatter.within:g} to either side, bars are the intervals of what was "
                   "measured. In the legend the mean absolute errors in the order of the panels.",
                   " ".join(filter(None, [
                       f"Left out: {colour.symbol} = {', '.join(hidden)}." if hidden else "",
                       f"{missing} rows have no prediction: attention that does not route, or no statistics." if missing
                       else ""])))


def error(rows, measured, predicted):
    """Mean absolute error; NaN without a pair."""
    return float((rows[measured] - rows[predicted]).abs().mean())


def _panel(axis, rows, scatter, predicted, colour, marks):
    pairs = rows.dropna(subset=[predicted])
    band = scatter.within
    axis.fill_between([0.0, 1.0], [-band, 1.0 - band], [band, 1.0 + band], color=style.GREY, alpha=0.15, lw=0)
    axis.plot([0.0, 1.0], [0.0, 1.0], "-", color=style.BLACK, lw=1.0)
    for name, look in marks.items():
        part = pairs[pairs[colour.name] == name]
        _bars(axis, part, scatter.measured, predicted, look.colour)
        axis.plot(part[predicted], part[scatter.measured], look.mark, color=look.colour, mfc=look.fill, ms=3.5, mew=0.8,
                  alpha=0.75, rasterized=style.too_many(pairs))
    apart = (pairs[scatter.measured] - pairs[predicted]).to_numpy()
    axis.text(0.03, 0.97, f"mean |error| {np.mean(np.abs(apart)):.3f}\nmeasured − predicted {np.mean(apart):+.3f}\n"
              f"{100.0 * np.mean(np.abs(apart) <= band):.0f} % within {band:g}", transform=axis.transAxes, va="top",
              bbox=dict(facecolor="white", alpha=0.75, lw=0, pad=1.5))
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="predicted", aspect="equal")
    axis.set_title(scatter.panels[predicted], loc="left")


def _bars(axis, rows, measured, predicted, colour):
    if f"{measured}_low" in rows:
        axis.vlines(rows[predicted], rows[f"{measured}_low"], rows[f"{measured}_high"], color=colour, alpha=0.25, lw=0.8,
                    rasterized=style.too_many(rows))


def _legend(axis, rows, scatter, predictions, colour, marks):
    handles = []
    for name, look in marks.items():
        part = rows[rows[colour.name] == name]
        errors = " / ".join(f"{error(part, scatter.measured, predicted):.3f}" if part[predicted].notna().any() else "−"
                            for predicted in predictions)
        said = str(name) if colour.text else colour.spell(name)
        handles.append(matplotlib.lines.Line2D([], [], ls="", marker=look.mark, color=look.colour, mfc=look.fill,
                                               label=f"{said}  {errors}"))
    style.outside_legend(axis, handles=handles, title="mean |error|, panels in order")
