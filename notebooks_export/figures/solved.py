"""The answers of `theory --solve`: the value found, along the axis that was swept."""

import re

import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import AXES, BUDGET, BY_NAME, RATIO
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, choose
from notebooks_export.x_axis import XAxis, is_geometric, label_values

SEARCHED_FOR = {"head_dim": "smallest head width d", "block_size": "largest block size B",
                "topk": "smallest number of blocks attended to k", "mu_signal": "smallest affinity of the needle"}


def draw(study):
    """The value that reaches the wanted hit probability, or comes nearest, at each point."""
    solved, wanted = question(study)
    points = study.points[study.points["reached"].notna()]
    hidden = {solved, BUDGET, RATIO} if solved.name in ("topk", "block_size", "head_dim") else {solved}
    axes = tuple(axis for axis in AXES if axis not in hidden and axis.name != "candidates")
    layout = choose(points, study.view, lambda rows: float(np.ptp(rows[solved.name])), axes)
    panels = layout.panel_list()
    x = XAxis(layout.x, tuple(layout.values(layout.x)), len(layout.colour_list()))
    figure, row = style.new_figure(len(panels), width=5.4 + 3.6 * len(panels))
    missed = int((layout.rows["reached"] == "no").sum())
    style.headline(figure, f"What does a hit probability of {wanted} take?", "; ".join(filter(None, [
        captions.fixed(layout, study, math=True), captions.count(layout)])))
    found = np.unique(layout.rows[solved.name])
    for (values, rows), axis in zip(panels, row):
        axis.set_title(captions.panel_title(layout, values, rows), loc="left")
        x.set_up(axis)
        for place, _, curve in layout.curve_list(rows):
            _curve(axis, x.places(curve, place), curve, solved.name, style.SERIES[place], "" if x.lone else "-")
        label_values(axis.yaxis, axis.set_yscale, found)
    row[0].set_ylabel(SEARCHED_FOR[solved.name])
    _legend(row[-1], layout, missed)
    marks = f"y is the {SEARCHED_FOR[solved.name]} that reaches {wanted}" + (
        f"; no value does at {missed} of {len(layout.rows)} points (crosses: the nearest)." if missed else ".")
    return Drawing(figure, captions.what_is_drawn(layout, study), marks, captions.what_is_left_out(layout), layout)


def question(study):
    """(axis solved for, wanted hit probability in words) of the files; raises NoData when there is none."""
    if study.points is None or "reached" not in study.points:
        raise NoData("no question was solved; mobalab theory --solve asks one")
    asked = set()
    for results in study.files:
        settings = dict(re.findall(r"([\w-]+)=(\S+)", results.attributes.get("settings", "")))
        if "solve" in settings:
            asked.add((settings["solve"].replace("-", "_"), settings.get("wanted-hit", "?")))
    if len(asked) != 1 or next(iter(asked))[0] not in SEARCHED_FOR:
        raise NoData("the files solve for different things; draw them one by one")
    name, wanted = asked.pop()
    return BY_NAME[name], wanted


def _curve(axis, x, rows, column, colour, line):
    y, reached = rows[column].to_numpy(float), (rows["reached"] == "yes").to_numpy()
    axis.plot(x, np.where(reached, y, np.nan), f"o{line}", color=colour, ms=5, lw=1.6)
    axis.plot(x[~reached], y[~reached], "x", color=colour, ms=7, mew=1.6)


def _legend(axis, layout, missed):
    for colour, ((value,), part) in zip(style.SERIES, layout.colour_list()):
        if layout.colour:
            axis.plot([], [], color=colour, lw=4, label=captions.colour_label(layout, value, part))
    if missed:
        axis.plot([], [], "x", color=style.GREY, ms=7, mew=1.6, label="no value reaches it:\nthe nearest")
    if layout.colour or missed:
        style.outside_legend(axis)
