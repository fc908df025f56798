"""Planted pairs that language models answer, by depth and length of the text."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ARM, BY_NAME
from notebooks_export.drawing import Drawing
from notebooks_export.layout import evenly, in_order
from notebooks_export.model_tables import looks
from notebooks_export.trained_tables import count_of_models, lengths_in_words, rows_of

MOST_COLOURS, MOST_PANELS = 12, 4


def draw(study):
    """A panel for each length, a line for each arm, mean over its runs."""
    rows = rows_of(study, "training_needles")
    colour = study.view.colour if study.view.colour and study.view.colour.name in rows else ARM
    named = evenly(in_order(rows[colour.name]), MOST_COLOURS)
    lengths = evenly(in_order(rows["seq_len"]), MOST_PANELS)
    shown = rows[rows[colour.name].isin(named) & rows["seq_len"].isin(lengths)]
    figure, axes = style.new_figure(len(lengths), width=3.6 + 3.6 * len(lengths), height=4.6)
    held = f"{count_of_models(shown)}, {lengths_in_words(shown)}"
    style.headline(figure, "Is a pair planted in the text found?", held)
    marks = looks(colour, named)
    for axis, length in zip(axes, lengths):
        _panel(axis, shown[shown["seq_len"] == length], colour, marks)
        axis.set_title(BY_NAME["seq_len"].spell(length, math=True), loc="left")
    axes[0].set_ylabel("needles answered")
    handles = [matplotlib.lines.Line2D([], [], color=look.colour, marker=look.mark, ms=4,
                                       label=str(name) if colour.text else colour.spell(name)) for name, look in marks.items()]
    style.outside_legend(axes[-1], handles=handles)
    hidden = [str(name) for name in in_order(rows[colour.name]) if name not in named]
    return Drawing(figure, f"Drawn: {held}; x is the depth, a colour for each {colour.symbol}, mean over its runs."
                   f"{captions.selected(study, 'rows', 'training_needles')}",
                   "Bars go from the least lower end to the highest upper end of the runs' intervals.",
                   f"Left out: {', '.join(hidden)} (choose with --where)." if hidden else "")


def _panel(axis, rows, colour, marks):
    for place, (name, look) in enumerate(marks.items()):
        groups = rows[rows[colour.name] == name].groupby("depth")
        if not len(groups):
            continue
        x = np.array(sorted(groups.groups)) + 0.004 * (place - len(marks) / 2)
        axis.plot(x, groups["accuracy"].mean(), color=look.colour, marker=look.mark, ms=4, lw=1.4)
        if {"accuracy_low", "accuracy_high"} <= set(rows):
            axis.vlines(x, groups["accuracy_low"].min(), groups["accuracy_high"].max(), color=look.colour, alpha=0.4, lw=1.0)
    axis.set(ylim=(-0.03, 1.03), xlim=(-0.05, 1.05), xlabel="depth of the needle in the text")
