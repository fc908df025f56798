"""Loss of language models along the text, and what it lies above dense attention's there."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ARM
from notebooks_export.drawing import Drawing
from notebooks_export.layout import evenly, in_order
from notebooks_export.model_tables import looks
from notebooks_export.trained_tables import at_shortest, count_of_models, lengths_in_words, rows_of

RANGE = ["position_low", "position_high"]

MOST_COLOURS = 12


def draw(study):
    """Lines are means over the runs of an arm; on the right less the mean of the dense runs."""
    rows = at_shortest(rows_of(study, "training_positions"))
    colour = study.view.colour if study.view.colour and study.view.colour.name in rows else ARM
    named = evenly(in_order(rows[colour.name]), MOST_COLOURS)
    shown = rows[rows[colour.name].isin(named)]
    dense = rows[rows["attention"] == "dense"].groupby(RANGE)["loss"]
    both = len(dense) > 0
    figure, axes = style.new_figure(2 if both else 1, width=8.0 + (3.6 if both else 0.0), sharey=False, height=4.8)
    held = f"{count_of_models(shown)}, {lengths_in_words(shown)}"
    style.headline(figure, "Where in the text does routing cost?", held)
    marks = looks(colour, named)
    for name, look in marks.items():
        part = shown[shown[colour.name] == name].groupby(RANGE)["loss"].mean()
        _line(axes[0], part, look)
        if both:
            _line(axes[1], part - dense.mean(), look)
    if both:
        _band(axes[1], dense)
        axes[1].set_title("above dense", loc="left")
    for axis in axes:
        axis.set_xscale("log", base=2)
        style.log_axis(axis.xaxis)
        axis.set_xlabel("position in the text, tokens")
    axes[0].set_ylabel("loss, nats a token")
    handles = [matplotlib.lines.Line2D([], [], color=look.colour, marker=look.mark, ms=4,
                                       label=str(name) if colour.text else colour.spell(name)) for name, look in marks.items()]
    style.outside_legend(axes[-1], handles=handles)
    hidden = [str(name) for name in in_order(rows[colour.name]) if name not in named]
    return Drawing(figure, f"Drawn: {held}; x is the position, a colour for each {colour.symbol}, mean over its runs."
                   f"{captions.selected(study, 'rows', 'training_positions')}",
                   "Each mark stands in the middle of its range of positions." + (
                       " The band on the right spans the dense seeds." if both else ""),
                   f"Left out: {', '.join(hidden)} (choose with --where)." if hidden else "")


def _middles(index):
    low, high = (np.asarray(index.get_level_values(name), dtype=float) for name in RANGE)
    return np.sqrt(np.maximum(low, 1.0) * high)


def _line(axis, losses, look):
    losses = losses.dropna().sort_index()
    axis.plot(_middles(losses.index), losses.to_numpy(), color=look.colour, marker=look.mark, ms=4, lw=1.4)


def _band(axis, dense):
    middle = dense.mean()
    axis.fill_between(_middles(middle.index), dense.min() - middle, dense.max() - middle, color=style.GREY, alpha=0.25, lw=0)
