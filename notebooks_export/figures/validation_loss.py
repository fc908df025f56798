"""Validation loss of language models, arm by arm, and how far it lies above dense attention's."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.drawing import Drawing
from notebooks_export.figures.curves import arms
from notebooks_export.layout import in_order
from notebooks_export.trained_tables import at_shortest, count_of_models, known, lengths_in_words, rows_of

COLOURS = {"dense": style.BLACK, "moba": style.BLUE, "local": style.GREY}

ABOVE = "loss_above_dense"


def last_steps(rows):
    """The rows of each run's last step, at its shortest length."""
    return at_shortest(rows[rows["step"] == rows.groupby(["file", "run"])["step"].transform("max")])


def draw(study):
    rows = last_steps(rows_of(study, "training_validation"))
    names = in_order(rows["arm"])
    both = bool(known(rows, [ABOVE]))
    figure, axes = style.new_figure(2 if both else 1, width=4.6 + (4.4 if both else 3.0), sharey=True,
                                    height=1.8 + 0.36 * len(names))
    held = f"{count_of_models(rows)}, {lengths_in_words(rows)}"
    style.headline(figure, "Is MoBA within the noise of dense attention?", held)
    places = {name: place for place, name in enumerate(names)}
    dense = rows[rows["attention"] == "dense"]
    _losses(axes[0], rows, places, dense)
    if both:
        _differences(axes[1], rows, places, dense)
    axes[0].set_yticks(list(places.values()), list(places))
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    handles = [matplotlib.lines.Line2D([], [], ls="", marker="o", color=COLOURS[attention], label=attention)
               for attention in COLOURS if (rows["attention"] == attention).any()]
    if len(dense):
        handles.append(matplotlib.patches.Patch(color=style.GREY, alpha=0.25, label="dense, all seeds"))
    style.outside_legend(axes[-1], handles=handles)
    return Drawing(figure, f"Drawn: {held}; an arm a line, a dot for each seed; each run at its last step and shortest length."
                   f"{captions.selected(study, 'rows', 'training_validation')}",
                   "The band spans the dense seeds: the noise between trainings, as far as so many show it. Bars on the right "
                   "are intervals of the difference on the same sequences; they say nothing of the seed." if both else
                   "The band spans the dense seeds.",
                   "" if both else "No difference from dense is in the file.")


def _losses(axis, rows, places, dense):
    if len(dense):
        axis.axvspan(dense["loss"].min(), dense["loss"].max(), color=style.GREY, alpha=0.25, lw=0)
    for attention, colour in COLOURS.items():
        part = rows[rows["attention"] == attention]
        axis.plot(part["loss"], part["arm"].map(places), "o", color=colour, ms=5)
    axis.set_xlabel("validation loss, nats a token")


def _differences(axis, rows, places, dense):
    if len(dense):
        middle = dense["loss"].mean()
        axis.axvspan(dense["loss"].min() - middle, dense["loss"].max() - middle, color=style.GREY, alpha=0.25, lw=0)
    axis.axvline(0.0, color=style.BLACK, lw=1.0)
    part = rows.dropna(subset=[ABOVE])
    y = part["arm"].map(places) + _aside(part)
    colours = [COLOURS[attention] for attention in part["attention"]]
    axis.scatter(part[ABOVE], y, s=22, c=colours, zorder=3)
    if known(part, [f"{ABOVE}_low"]):
        value = part[ABOVE].to_numpy(float)
        axis.errorbar(value, y, xerr=arms(value, part[f"{ABOVE}_low"].to_numpy(float), part[f"{ABOVE}_high"].to_numpy(float)),
                      fmt="none", ecolor=colours, elinewidth=1.2, capsize=0)
    axis.set_xlabel("above dense, nats a token")


def _aside(rows):
    """Runs of one arm stand beside each other."""
    place = rows.groupby("arm").cumcount()
    return 0.18 * (place - (rows.groupby("arm")["arm"].transform("size") - 1) / 2)
