"""Hit probability, linear axis: theory as lines, simulation and kernel as points with intervals."""

import numpy as np

from notebooks_export import style
from notebooks_export.figures.curves import FEW_MARKS, CurveFigure, arms, counted, kernel_differs, write_values
from notebooks_export.study import known_miss

OWN_LINE = 0.003
"""Difference of two hit probabilities that an eye can see."""

FOUND = {"each": "P(needle's block is routed)", "any": "P(some needle's block is routed)",
         "all": "P(every needle's block is routed)"}


def draw(study):
    """Hit probability along the swept axis."""
    picture = CurveFigure(study, information, "Does the router find the needle's block?", own_line)
    for axis, line, x, rows in picture.curves():
        _curve(axis, line, x, rows, picture)
    for axis in picture.axes:
        axis.set_ylim(-0.03, 1.03)
    picture.name_y(f"hit probability  {_found(picture.layout.rows)}".rstrip())
    return picture.drawing()


def information(rows):
    """How much exact miss probabilities show on a linear axis: their spread and how many are not 0 or 1."""
    miss = known_miss(rows)
    return float(np.ptp(miss) + 0.5 * np.mean((miss > 0.02) & (miss < 0.98)))


def own_line(rows):
    return kernel_differs(rows, lambda kernel, last: np.abs(kernel - last) > OWN_LINE)


def _found(rows):
    if "goal" not in rows or (rows["needles"] == 1).all():
        return FOUND["each"]
    goals = rows["goal"].unique()
    if len(goals) > 1:
        return ""
    return "(expected share of the needles)" if goals[0] == "each" else FOUND[goals[0]]


def _curve(axis, line, x, rows, picture):
    _exact(axis, line, x, rows["miss_probability"].to_numpy(), "-", picture)
    if own_line(rows):
        _exact(axis, line, x, rows["kernel_expected_miss"].to_numpy(), ":", picture)
    for prefix, options, known in counted(rows):
        value, low, high = (1.0 - rows[f"{prefix}_{name}"].to_numpy()[known] for name in ("miss", "miss_high", "miss_low"))
        axis.errorbar(x[known], value, yerr=arms(value, low, high), color=line["color"], **options)
    if picture.few():
        write_values(axis, x, 1.0 - known_miss(rows), line["color"])


def _exact(axis, line, x, miss, dashes, picture):
    known = np.isfinite(miss)
    x, miss = x[known], miss[known]
    if len(x) == 0:
        return
    if picture.x.lone or len(x) == 1:
        axis.plot(x, 1.0 - miss, "_", color=line["color"], ms=14, mew=2)
        return
    axis.plot(*style.smooth_hits(x, miss, log=picture.x.log), dashes, **line)
    if not picture.has_counts() and len(x) <= FEW_MARKS:
        axis.plot(x, 1.0 - miss, ".", color=line["color"], ms=6)
