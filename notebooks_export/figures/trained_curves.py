"""Loss, accuracy, hits and SNR during training: when the router learns, and whether it leads or follows."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ARM
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, evenly, in_order
from notebooks_export.trained_tables import count_of_models, known, rows_of

LINES = {"loss": ("loss, nats", "-"), "measured_accuracy": ("accuracy, longest trained length", "-"),
         "hit": ("hits of the best layer", "--"), "snr": ("pairwise SNR of its heads", "-")}
"""{column: (what it is, its line)}"""

STRIPS = (("loss",), ("measured_accuracy", "hit"), ("snr",))
"""The columns that share a panel."""

SHARES = ("measured_accuracy", "hit")

MOST_ARMS = 6


def draw(study):
    """A column of panels for each arm, a colour for each of its runs."""
    rows = rows_of(study, "training_curves")
    if {"signal_mean", "signal_sd"} <= set(rows):
        rows = rows.assign(snr=rows["signal_mean"] / np.sqrt(1.0 + rows["signal_sd"] ** 2))
    strips = [found for strip in STRIPS if (found := known(rows, strip))]
    if not strips:
        raise NoData(f"table 'training_curves' has no value in {', '.join(LINES)}")
    axis_of = study.view.colour if study.view.colour and study.view.colour.name in rows else ARM
    measured = _that_retrieve(rows)
    named = evenly(in_order(measured[axis_of.name]), MOST_ARMS)
    shown = measured[measured[axis_of.name].isin(named)]
    figure, axes = style.new_figure(len(strips) * len(named), width=3.2 + 2.6 * len(named), columns=len(named), sharey="row",
                                    height=1.4 + 2.3 * len(strips))
    held = f"{count_of_models(shown)}, a colour each"
    style.headline(figure, "When does the router learn?", held)
    for place, name in enumerate(named):
        column = axes[place::len(named)]
        _column(column, shown[shown[axis_of.name] == name], strips)
        column[0].set_title(str(name) if axis_of.text else axis_of.spell(name), loc="left", fontsize=9)
    for strip, axis in zip(strips, axes[::len(named)]):
        axis.set_ylabel("share" if set(strip) <= set(SHARES) else LINES[strip[0]][0])
        if set(strip) <= set(SHARES):
            axis.set_ylim(-0.03, 1.03)
            _legend(axes[axes.index(axis) + len(named) - 1], strip)
    hidden = [str(name) if axis_of.text else axis_of.spell(name) for name in in_order(rows[axis_of.name]) if name not in named]
    return Drawing(figure, f"Drawn: {held}; x is the step, a column for each {axis_of.symbol}."
                   f"{captions.selected(study, 'rows', 'training_curves')}",
                   "The SNR is signal_mean / sqrt(1 + signal_sd²), of the pair's block against one other." if ["snr"] in strips
                   else "",
                   " ".join(filter(None, [f"Left out: {'; '.join(hidden)} (choose with --where)." if hidden else "",
                                          *(f"Not in the file: {what}." for name, (what, _) in LINES.items()
                                            if not any(name in strip for strip in strips))])))


def _that_retrieve(rows):
    """Those of runs whose hits were measured, or whose accuracy, or all: a loss alone does not say when a router learns."""
    for value in reversed(SHARES):
        if known(rows, [value]):
            return rows[rows.groupby(["file", "run"])[value].transform("count") > 0]
    return rows


def _column(axes, rows, strips):
    for place, (_, run) in enumerate(rows.groupby(["file", "run"], sort=False)):
        for axis, strip in zip(axes, strips):
            for value in strip:
                part = run.dropna(subset=[value]).sort_values("step", kind="stable")
                axis.plot(part["step"], part[value], color=style.SERIES[place % len(style.SERIES)], ls=LINES[value][1], lw=1.2,
                          marker="." if len(part) == 1 else "")
    axes[-1].set_xlabel("step")


def _legend(axis, strip):
    style.outside_legend(axis, handles=[matplotlib.lines.Line2D([], [], color=style.GREY, ls=LINES[value][1],
                                                                label=LINES[value][0]) for value in strip])
