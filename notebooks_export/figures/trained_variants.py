"""What trained models lose when a part of them is changed for the evaluation: answers, and hits of the layer that retrieves."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ARM, VARIANT
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, evenly, in_order
from notebooks_export.model_tables import looks
from notebooks_export.trained_tables import AS_TRAINED, at_shortest, count_of_models

VALUES = {"training": ("accuracy", "accuracy"), "training_heads": ("hit", "hits, mean over the heads of the best layer")}
"""{table: (column, title)}"""

RUN = ["file", "run"]

MOST_ARMS = 20


def draw(study):
    """A panel for each table that has variants, an arm a line: a mark for each variant, the mean over runs, and a dot for
    each run."""
    parts = {table: part for table in VALUES if (part := _changed(study, table)) is not None}
    if not parts:
        raise NoData("no table of trained models has an evaluation of a changed model")
    arms = in_order(np.concatenate([part[ARM.name].to_numpy() for part in parts.values()]))
    named = evenly(arms, MOST_ARMS)
    variants = in_order(np.concatenate([part["variant"].to_numpy() for part in parts.values()]))
    marks = looks(VARIANT, sorted(variants, key=lambda name: (name != AS_TRAINED, name)))
    figure, axes = style.new_figure(len(parts), width=4.4 + 4.2 * len(parts), height=1.8 + 0.34 * len(named))
    models = count_of_models(max(parts.values(), key=len))
    style.headline(figure, "What does retrieval rest on?", f"{models} at the shortest length of each")
    places = {name: place for place, name in enumerate(named)}
    for axis, (table, part) in zip(axes, parts.items()):
        _panel(axis, part[part[ARM.name].isin(named)], VALUES[table][0], places, marks)
        axis.set_xlabel(VALUES[table][1])
    axes[0].set_yticks(list(places.values()), list(places))
    axes[0].set_ylim(len(named) - 0.4, -0.6)
    handles = [matplotlib.lines.Line2D([], [], color=look.colour, marker=look.mark, mfc=look.fill, ls="", label=name)
               for name, look in marks.items()]
    style.outside_legend(axes[-1], handles=handles)
    hidden = [name for name in arms if name not in named]
    selected = captions.selected(study, "rows", next(iter(parts)))
    return Drawing(figure, f"Drawn: {models} at the shortest length of each; an arm a line, a mark for what was changed."
                   f"{selected}",
                   "Small dots are models, marks the mean over seeds. In answers the model runs with the change; hits are those of "
                   "changed keys in a forward pass that is otherwise as trained.",
                   f"Left out: {', '.join(hidden)} (choose with --where)." if hidden else "")


def _changed(study, table):
    """One row a run and variant, of the arms of which something was changed; None where there is none."""
    rows = study.rows(table)
    if rows is None:
        return None
    rows = at_shortest(rows)
    if table == "training_heads":
        rows = _best_layer(rows)
    changed = rows.loc[rows["variant"] != AS_TRAINED, ARM.name].unique()
    return rows[rows[ARM.name].isin(changed)] if len(changed) else None


def _best_layer(rows):
    """Means over the heads of a layer, of the layer that hits most as trained."""
    keys = [*RUN, ARM.name, "variant", "seq_len"]
    layers = rows.dropna(subset=["hit"]).groupby([*keys, "layer"], sort=False)["hit"].mean().reset_index()
    plain = layers[layers["variant"] == AS_TRAINED]
    best = plain.loc[plain.groupby(RUN)["hit"].idxmax(), [*RUN, "layer"]]
    return layers.merge(best, on=[*RUN, "layer"])


def _panel(axis, rows, value, places, marks):
    for name, look in marks.items():
        part = rows[rows["variant"] == name]
        axis.plot(part[value], part[ARM.name].map(places), ".", color=look.colour, ms=3.5, alpha=0.6)
        mean = part.groupby(ARM.name, sort=False)[value].mean()
        axis.plot(mean, mean.index.map(places), ls="", color=look.colour, marker=look.mark, mfc=look.fill, ms=7, zorder=3)
    axis.set_xlim(-0.03, 1.03)
