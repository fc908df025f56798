"""Miss probability, log axis: the rare events that a linear axis hides."""

import numpy as np

from notebooks_export import style
from notebooks_export.figures.curves import COUNTED, FEW_MARKS, CurveFigure, arms, counted, kernel_differs, write_values
from notebooks_export.study import known_miss

DECADES_COUNTED, DECADES = 8.0, 30.0
"""Decades below the highest value that lines are drawn, with counts (which seldom come near the rest) and without."""

OWN_LINE = 0.05
"""Share by which two miss probabilities differ so that an eye can see it."""


def draw(study):
    """Miss probability along the swept axis."""
    picture = CurveFigure(study, rare_information, "How rare is a miss?", own_line)
    limits = False
    for axis in picture.axes:
        axis.set_yscale("log")
    for axis, line, x, rows in picture.curves():
        limits = _curve(axis, line, x, rows, picture) or limits
    floor, top = _range(picture.layout.rows, picture.has_counts())
    for axis in picture.axes:
        axis.set_ylim(floor, top)
        style.probability_axis(axis.yaxis, floor, top)
    picture.name_y("miss probability  (log scale)")
    return picture.drawing(rare=limits, sentences=_sentences(picture.layout.rows, floor, limits))


def rare_information(rows):
    """How much miss probabilities show on a log axis that matters down to 1e-6."""
    decades = np.log10(np.clip(known_miss(rows), 1e-6, 1.0))
    return float(np.ptp(decades) / 6.0 + 0.5 * np.mean((decades > -6.0) & (decades < -0.3)))


def own_line(rows):
    return kernel_differs(rows, lambda kernel, last: np.abs(kernel - last) > OWN_LINE * last)


def exact(rows):
    """Exact miss probabilities, from their logarithms where doubles run out; NaN where there are none or they are 0."""
    miss = np.exp(np.maximum(rows["log_miss_probability"].to_numpy(float), -700.0))
    return np.where(np.isneginf(rows["log_miss_probability"].to_numpy(float)), np.nan, miss)


def _curve(axis, line, x, rows, picture):
    """Draws one curve; returns whether some mark is an upper limit."""
    _line(axis, line, x, exact(rows), "-", picture)
    if own_line(rows):
        _line(axis, line, x, rows["kernel_expected_miss"].to_numpy(), ":", picture)
    limits = False
    for prefix, options, known in counted(rows):
        value, low, high = (rows[f"{prefix}_{name}"].to_numpy() for name in ("miss", "miss_low", "miss_high"))
        seen, none = known & (value > 0.0), known & (value == 0.0)
        axis.errorbar(x[seen], value[seen], yerr=arms(value, low, high)[:, seen], color=line["color"], **options)
        axis.plot(x[none], high[none], "v", color=line["color"], mfc="white", ms=5, mew=1.2)
        limits = limits or none.any()
    if picture.few():
        write_values(axis, x, np.where(known_miss(rows) > 0.0, known_miss(rows), np.nan), line["color"])
    return bool(limits)


def _line(axis, line, x, miss, dashes, picture):
    known = np.isfinite(miss) & (miss > 0.0)
    x, miss = x[known], miss[known]
    if picture.x.lone or len(x) == 1:
        axis.plot(x, miss, "_", color=line["color"], ms=14, mew=2)
        return
    axis.plot(x, miss, dashes, **line)
    if not picture.has_counts() and len(x) <= FEW_MARKS:
        axis.plot(x, miss, ".", color=line["color"], ms=6)


def _range(rows, has_counts):
    """Ends of the axis: every count with its interval, and the lines as far down as can be read."""
    lines, marks = _positive([exact(rows)]), _positive(list(_counts(rows)))
    everything = np.concatenate([lines, marks])
    if len(everything) == 0:
        return 1e-8, 2.0
    top = min(2.0, 3.0 * everything.max())
    lowest_line = max(lines.min(initial=1.0), top * 10.0 ** -(DECADES_COUNTED if has_counts else DECADES))
    floor = min(lowest_line, marks.min(initial=1.0)) / 3.0
    return min(floor, top / 20.0), top


def _counts(rows):
    """Values and intervals of the simulation and the kernel; of points without a miss the upper limit alone."""
    for prefix in COUNTED:
        if f"{prefix}_miss" in rows:
            yield rows[f"{prefix}_miss"].to_numpy(float)
            yield np.where(rows[f"{prefix}_miss"] > 0.0, rows[f"{prefix}_miss_low"], rows[f"{prefix}_miss_high"])
            yield rows[f"{prefix}_miss_high"].to_numpy(float)


def _positive(values):
    values = np.concatenate([np.asarray(part, dtype=float) for part in values] or [np.empty(0)])
    return values[np.isfinite(values) & (values > 0.0)]


def _sentences(rows, floor, limits):
    if limits:
        yield "An open triangle is the upper limit where no miss was seen."
    log_miss = rows["log_miss_probability"].dropna().to_numpy(float)
    zero, below = int(np.isneginf(log_miss).sum()), int((log_miss < np.log(floor)).sum())
    if zero:
        yield f"At {zero} of {len(rows)} points every candidate is routed: a miss is impossible and no line is drawn."
    if below > zero:
        yield f"At {below - zero} of {len(rows)} points the exact probability is below the picture, under {floor:.1g}."
