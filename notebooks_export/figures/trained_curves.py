"""Loss, accuracy, hits and SNR during training: when the router learns, and whether it leads or follows."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ARM
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, evenly, in_order
from notebooks_export.model_tables import looks
from notebooks_export.trained_tables import count_of_models, known, rows_of

VALUES = {"loss": "loss, nats", "accuracy": "accuracy, batches trained on", "measured_accuracy": "accuracy, longest trained length",
          "hit": "hits of the best layer", "snr": "pairwise SNR of its heads"}

MOST_COLOURS = 8


def draw(study):
    """A panel for each value the table has, a line for each run."""
    rows = rows_of(study, "training_curves")
    if {"signal_mean", "signal_sd"} <= set(rows):
        rows = rows.assign(snr=rows["signal_mean"] / np.sqrt(1.0 + rows["signal_sd"] ** 2))
    values = known(rows, VALUES)
    if not values:
        raise NoData(f"table 'training_curves' has no value in {', '.join(VALUES)}")
    colour = study.view.colour if study.view.colour and study.view.colour.name in rows else ARM
    named = evenly(in_order(rows[colour.name]), MOST_COLOURS)
    shown = rows[rows[colour.name].isin(named)]
    marks = looks(colour, named)
    columns = min(len(values), 3)
    figure, axes = style.new_figure(len(values), width=3.8 + 3.8 * columns, columns=columns, sharey=False,
                                    height=1.4 + 3.0 * -(-len(values) // columns))
    held = f"{count_of_models(shown)}, a line each"
    style.headline(figure, "When does the router learn?", held)
    for axis, value in zip(axes, values):
        _panel(axis, shown, value, colour, marks)
    handles = [matplotlib.lines.Line2D([], [], color=look.colour, ls=_dashes(place), label=_said(colour, name))
               for place, (name, look) in enumerate(marks.items())]
    style.outside_legend(axes[columns - 1], handles=handles)
    hidden = [_said(colour, name) for name in in_order(rows[colour.name]) if name not in named]
    return Drawing(figure, f"Drawn: {held}; x is the step, a colour for each {colour.symbol}."
                   f"{captions.selected(study, 'rows', 'training_curves')}",
                   "The SNR is signal_mean / sqrt(1 + signal_sd²), of the pair's block against one other." if "snr" in values
                   else "",
                   " ".join(filter(None, [f"Left out: {'; '.join(hidden)} (choose with --where)." if hidden else "",
                                          *(f"Not in the file: {VALUES[name]}." for name in VALUES if name not in values)])))


def _said(colour, name):
    return str(name) if colour.text else colour.spell(name)


def _dashes(place):
    return "-" if place < len(style.SERIES) else "--"


def _panel(axis, rows, value, colour, marks):
    for place, (name, look) in enumerate(marks.items()):
        for _, run in rows[rows[colour.name] == name].groupby(["file", "run"], sort=False):
            run = run.dropna(subset=[value]).sort_values("step", kind="stable")
            axis.plot(run["step"], run[value], color=look.colour, ls=_dashes(place), lw=1.2, alpha=0.85,
                      marker="." if len(run) == 1 else "")
    axis.set_xlabel("step")
    axis.set_title(VALUES[value], loc="left")
    if value not in ("loss", "snr"):
        axis.set_ylim(-0.03, 1.03)
