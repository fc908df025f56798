"""Accuracy of trained models against d/B, with the curve that theory makes of their keys."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import BUDGET, RATIO
from notebooks_export.drawing import Drawing
from notebooks_export.figures.curves import arms
from notebooks_export.layout import NoData, evenly, in_order
from notebooks_export.model_tables import MOST_ROUTERS, looks
from notebooks_export.trained_tables import (MOBA, at_shortest, count_of_models, known, lengths_in_words, rows_of,
                                             with_series)

PREDICTED = {"predicted_accuracy_retrieval_layer": ("-", "predicted, retrieval layer"),
             "predicted_accuracy": (":", "predicted, all heads independent")}

REFERENCES = {"dense": (style.BLACK, "-"), "local": (style.GREY, "--")}
"""Attention that does not route: a line across."""

MOST_PANELS = 6

ASIDE = 0.05
"""Octaves between the marks of two series."""


def draw(study):
    """A panel for each k B (or each value of the first axis of --panels), a colour for each series of block sizes."""
    everything = rows_of(study, "training")
    rows = everything if study.view.where and "seq_len" in study.view.where else at_shortest(everything)
    panel = study.view.panels[0] if study.view.panels and study.view.panels[0].name in rows else BUDGET
    rows = everything if panel.name == "seq_len" else rows
    routed = with_series(rows[rows["attention"] == MOBA])
    if routed.empty:
        raise NoData("table 'training' has no row of attention moba")
    values = evenly(in_order(routed[panel.name]), MOST_PANELS)
    series = evenly(in_order(routed["series"]), MOST_ROUTERS)
    marks = looks(panel, series)
    columns = min(len(values), 3)
    figure, axes = style.new_figure(len(values), width=4.0 + 3.8 * columns, columns=columns,
                                    height=1.6 + 3.4 * -(-len(values) // columns))
    shown = routed[routed[panel.name].isin(values) & routed["series"].isin(series)]
    held = f"{count_of_models(rows)}, {lengths_in_words(rows)}"
    style.headline(figure, "Do smaller blocks retrieve better, and as much as theory says?", held)
    for axis, value in zip(axes, values):
        part = shown[shown[panel.name] == value]
        beside = rows if panel.name != "seq_len" else rows[rows["seq_len"] == value]
        _panel(axis, part, beside, marks)
        axis.set_title(panel.spell(value, math=True), loc="left")
    for axis in axes[::columns]:
        axis.set_ylabel("accuracy")
    _legend(axes[columns - 1], rows, shown, marks)
    hidden = [name for name in in_order(routed["series"]) if name not in series]
    left = [f"{panel.symbol} = {value:g}" for value in in_order(routed[panel.name]) if value not in values]
    other = len(everything) - len(rows)
    return Drawing(figure, f"Drawn: {held}; x is d/B, a panel for each {panel.symbol}, a colour for each series."
                   f"{captions.selected(study, 'rows', 'training')}",
                   "Small dots are models, marks the mean over seeds with the range of the models' intervals. Lines are the "
                   "accuracy predicted from statistics of the models' keys, mean over seeds (a dash where there is one block "
                   "size).",
                   " ".join(filter(None, [f"Left out: {', '.join([*hidden, *left])}." if hidden or left else "",
                                          f"Not drawn: {other} rows at other lengths (--panels seq_len, or --where)."
                                          if other else ""])))


def _panel(axis, rows, all_rows, marks):
    axis.set_xscale("log", base=2)
    style.log_axis(axis.xaxis)
    for attention, (colour, dashes) in REFERENCES.items():
        part = all_rows[all_rows["attention"] == attention]
        if len(part):
            axis.axhline(part["accuracy"].mean(), color=colour, ls=dashes, lw=1.2)
    present = [name for name in marks if (rows["series"] == name).any()]
    for place, name in enumerate(present):
        _series(axis, rows[rows["series"] == name], marks[name], 2.0 ** (ASIDE * (place - (len(present) - 1) / 2)))
    axis.set(ylim=(-0.03, 1.03), xlabel=RATIO.label)


def _series(axis, rows, look, aside):
    groups = rows.groupby(RATIO.name)
    x = np.array(sorted(groups.groups)) * aside
    mean = groups["accuracy"].mean().to_numpy()
    axis.plot(rows[RATIO.name] * aside, rows["accuracy"], ".", color=look.colour, ms=3.0, alpha=0.6)
    axis.plot(x, mean, look.mark, color=look.colour, mfc=look.fill, ms=6)
    if {"accuracy_low", "accuracy_high"} <= set(rows):
        axis.errorbar(x, mean, yerr=arms(mean, groups["accuracy_low"].min().to_numpy(),
                                         groups["accuracy_high"].max().to_numpy()), fmt="none", elinewidth=1.0,
                      capsize=0, ecolor=look.colour)
    for name in known(rows, PREDICTED):
        predicted = groups[name].mean().to_numpy()
        at = np.isfinite(predicted)
        alone = at.sum() < 2
        axis.plot(x[at], predicted[at], ls="none" if alone else PREDICTED[name][0], marker="_" if alone else "", ms=14, mew=2,
                  lw=1.6, color=look.colour, alpha=0.8)


def _legend(axis, rows, shown, marks):
    line = matplotlib.lines.Line2D
    handles = [line([], [], color=look.colour, marker=look.mark, mfc=look.fill, ls="", label=name)
               for name, look in marks.items() if (shown["series"] == name).any()]
    handles += [line([], [], color=colour, ls=dashes, lw=1.2, label=attention)
                for attention, (colour, dashes) in REFERENCES.items() if (rows["attention"] == attention).any()]
    handles += [line([], [], color=style.GREY, lw=1.6, ls=dashes, label=label) for name, (dashes, label) in PREDICTED.items()
                if known(shown, [name])]
    style.outside_legend(axis, handles=handles)
