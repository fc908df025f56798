"""Which axis of a sweep runs along x, which makes the colours, which the panels, and what is then left out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from notebooks_export.axes import BUDGET, BY_NAME, POINT, RATIO

MAX_COLOURS = 6
"""Curves in one panel; more would hide each other."""

MAX_PANELS = 4
"""Panels that are chosen here; who asks for panels gets up to MAX_PANELS_ASKED."""

MAX_PANELS_ASKED = 12

MAX_LISTED_POINTS = 24
"""Points that are listed one by one along x when no two axes would show half of them."""

X_ORDER = ("d/B", "seq_len", "candidates", "topk", "mu_signal", "head_dim", "block_size", "cluster_size", "mu_cluster",
           "needles", "key_correlation", "key_memory", "key_mean", "query_mean", "effective_dim", "sink", "key_conv",
           "key_conv_tap", "mu_noise", "topk*block_size", "batch", "heads", "threads")
"""Numeric axes; of those with equally many values the first runs along x."""


class NoData(Exception):
    """The files do not hold what a figure needs; the text says what is missing."""


@dataclass(frozen=True)
class Layout:
    """Rows to draw and the role of each axis in them.

    `x` is None for figures with an x of their own. `goes_with` maps each axis that varies with others (as B does with
    d/B in a sweep of B) to what fixes it: "x", "colour", "panels" or "all" of them together. `points` are all rows there
    were to choose from, `repeats` how many of them ask a question that another row asks.
    """

    x: object
    colour: object
    panels: tuple
    rows: pd.DataFrame
    points: pd.DataFrame
    axes: tuple
    goes_with: dict
    repeats: int = 0

    def values(self, axis):
        """The values of an axis in the rows drawn, in order."""
        return in_order(self.rows[axis.name])

    def panel_list(self):
        """(values of the panel axes, rows) of each panel, in order."""
        return _groups(self.rows, self.panels)

    def curve_list(self, rows):
        """(place of the colour, its value, rows along x) of each curve of a panel; one curve without a colour axis."""
        places = {value: place for place, (value,) in enumerate(key for key, _ in self.colour_list())}
        for (value,), curve in _groups(rows, (self.colour,)) if self.colour else [((None,), rows)]:
            yield places[value], value, curve if self.x is None else _along(curve, self.x)

    def colour_list(self):
        return _groups(self.rows, (self.colour,)) if self.colour else [((None,), self.rows)]

    def left_out(self):
        """{axis: values that no row drawn has}, for the axes of the question."""
        unseen = {}
        for axis in self.axes:
            if axis in (RATIO, BUDGET) or axis.name not in self.points:
                continue
            shown = set(self.rows[axis.name])
            values = [value for value in in_order(self.points[axis.name]) if value not in shown]
            if values:
                unseen[axis] = values
        return unseen

    def constant(self):
        """Axes with one value in the rows drawn, those of the paper's setting and those without meaning left out."""
        held = []
        for axis in self.axes:
            if axis in (RATIO, self.x, self.colour, *self.panels) or axis.name not in self.rows:
                continue
            value = self.rows[axis.name].iloc[0]
            if axis == BUDGET and not _varies(self.rows, BY_NAME["topk"]):
                continue
            if (self.rows[axis.name] == value).all() and value != axis.plain and not _unused(self.rows, axis).all():
                held.append(axis)
        return held


def choose(points, view, score, axes, own_x=False, most_colours=MAX_COLOURS):
    """The layout of a frame of points: as `view` asks, the rest so that `score(rows)` of what is drawn is largest.

    `own_x`: the figure has an x axis of its own. Raises NoData when the view asks for an axis the frame does not have.
    """
    for axis in filter(None, (view.x, view.colour, *view.panels)):
        if axis.name not in points or axis not in axes:
            raise NoData(f"its table has no axis {axis.name}")
    axes = _with_one_length(points, view, axes)
    x = None if own_x else view.x or _best_x(points, view, axes)
    points, repeats = _without_repeats(points, x, axes)
    layout = _laid_out(points, view, score, axes, x, repeats, most_colours)
    hidden = len(layout.rows) < 0.5 * len(points) and len(points) <= MAX_LISTED_POINTS
    if hidden and x is not None and not (view.x or view.colour or view.panels):
        return _one_by_one(points, axes, repeats)
    return layout


def choose_panels(points, view, score, axes, preferred=()):
    """The layout of a figure of panels without x and colours: as the view asks, or else the first of `preferred` that varies;
    of the rest the slice for which the sum of `score(rows)` over its panels is largest."""
    axes = _with_one_length(points, view, axes)
    asked = tuple(axis for axis in view.panels if axis in axes and axis.name in points)
    panels = asked or tuple(axis for axis in preferred if _varies(points, axis))[:1]
    rest = _open(points, _free_axes(points, None, view, axes), None, panels)
    rows = _best_slice(points, rest, panels, None, score)
    rows = _thinned(rows, panels, MAX_PANELS_ASKED if asked else MAX_PANELS)
    return Layout(None, None, panels, rows, points, axes, _goes_with(rows, axes, None, None, panels))


def _laid_out(points, view, score, axes, x, repeats, most_colours):
    free = _free_axes(points, x, view, axes)
    colour = view.colour or _best_colour(points, free, x, view)
    coloured = [colour] if colour else []
    panels = view.panels or _best_panels(points, free, x, coloured)
    rest = _open(points, free, x, [*coloured, *panels])
    rows = _best_slice(points, rest, panels, x, score)
    rows = _thinned(rows, coloured, most_colours)
    rows = _thinned(rows, panels, MAX_PANELS_ASKED if view.panels else MAX_PANELS)
    return Layout(x, colour, tuple(panels), rows, points, axes, _goes_with(rows, axes, x, colour, panels), repeats)


def _one_by_one(points, axes, repeats):
    """Every point a place of its own along x."""
    varying = [axis for axis in axes if axis not in (RATIO, BUDGET) and _varies(points, axis)]
    names = ["\n".join(axis.spell(row[axis.name]) for axis in varying) for _, row in points.iterrows()]
    rows = points.assign(**{POINT.name: names})
    return Layout(POINT, None, (), rows, rows, axes, {axis: "x" for axis in varying}, repeats)


def in_order(values):
    """Distinct values: numbers sorted, words as they come."""
    distinct = pd.unique(values)
    return list(distinct) if distinct.dtype.kind in "OUS" else sorted(distinct)


def evenly(values, count):
    """At most `count` of the values, first and last included."""
    values = list(values)
    if len(values) <= count:
        return values
    if count == 1:
        return values[-1:]
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def _along(rows, x):
    if not x.text:
        return rows.sort_values(x.name, kind="stable")
    return rows


def _groups(rows, axes):
    """(values, rows) of each combination of the axes' values that some row has."""
    if not axes:
        return [((), rows)]
    groups = [((), rows)]
    for axis in axes:
        order = in_order(rows[axis.name])
        groups = [(values + (value,), part[part[axis.name] == value]) for values, part in groups for value in order]
        groups = [(values, part) for values, part in groups if len(part)]
    return groups


def _varies(points, axis):
    return axis.name in points and points[axis.name].nunique() > 1


def _count(points, axes):
    """How many combinations of values of the axes there are."""
    names = [axis.name for axis in axes]
    return 1 if not names else len(points[names].drop_duplicates())


def _follows(points, axis, others):
    """Whether the values of the others fix that of the axis."""
    return axis in others or _count(points, others) == _count(points, [*others, axis])


def _with_one_length(points, view, axes):
    """Of seq_len and candidates the one that was asked for: N fixes c (given B), and 0 stands for an N not given."""
    asked = [axis.name for axis in filter(None, (view.x, view.colour, *view.panels))]
    by_length = "seq_len" in points and (points["seq_len"] > 0).all()
    dropped = "candidates" if by_length else "seq_len"
    return tuple(axis for axis in axes if axis.name != dropped or axis.name in asked)


def _best_x(points, view, axes):
    """The numeric axis with most values, d/B in place of d and B; without one the words with most values."""
    asked = [axis for axis in (view.colour, *view.panels) if axis]
    names = {axis.name: axis for axis in axes if axis not in asked}
    d_and_b = [names[name] for name in ("head_dim", "block_size") if name in names]
    paired = len(d_and_b) == 2 and all(_varies(points, axis) for axis in d_and_b) and (
        _follows(points, d_and_b[0], d_and_b[1:]) or _follows(points, d_and_b[1], d_and_b[:1]))
    hidden = () if RATIO.name not in names else (RATIO.name,) if paired else ("head_dim", "block_size")
    if BUDGET.name in names and _is_budget(points):
        hidden += ("topk",)  # it was set from B
    order = [names[name] for name in X_ORDER if name in names and name not in (*hidden, BUDGET.name)]
    numeric = [axis for axis in order if axis.name in points and _longest(points, axis, asked) > 1]
    if numeric:
        return max(numeric, key=lambda axis: _longest(points, axis, asked))
    words = [axis for axis in axes if axis.text and axis not in asked and _longest(points, axis, asked) > 1]
    fallback = RATIO if RATIO.name in points else next(axis for axis in axes if axis.name == "seq_len")
    return max(words, key=lambda axis: points[axis.name].nunique(), default=fallback)


def _longest(points, axis, asked):
    """Most values of an axis on one curve."""
    if axis.name not in points:
        return 0
    return max(part[axis.name].nunique() for _, part in _groups(points, asked))


def _unused(points, axis):
    """Rows in which the axis means nothing."""
    if not axis.unused_if or axis.unused_if[0] not in points:
        return np.zeros(len(points), dtype=bool)
    return (points[axis.unused_if[0]] == axis.unused_if[1]).to_numpy()


def _without_repeats(points, x, axes):
    """One row of those that differ only in axes without meaning there (mu_cluster of a needle alone)."""
    points = points.copy()
    for axis in axes:
        unused = _unused(points, axis)
        apart = x is None or x.name not in (axis.name, *axis.unused_if[:1])  # along x each curve has its own
        if apart and axis.name in points and unused.any():
            nothing = axis.plain if axis.plain is not None else 0.0
            points[axis.name] = points[axis.name].where(~unused, nothing)
    names = [axis.name for axis in axes if axis.name in points]
    kept = points.drop_duplicates(names) if any(axis.unused_if for axis in axes) else points
    return kept, len(points) - len(kept)


def _free_axes(points, x, view, axes):
    """Axes that vary, without those that d/B or a budget of keys already tells."""
    asked = [axis for axis in (view.x, view.colour, *view.panels) if axis]
    free = [axis for axis in axes if _varies(points, axis) and (axis not in (RATIO, BUDGET) or axis in asked)]
    by_name = {axis.name: axis for axis in free}
    pair = [by_name.get("block_size"), by_name.get("topk")]
    if all(pair) and BUDGET in axes and BUDGET not in free and _is_budget(points):
        paid = pair[0] if x in (pair[1], None) else pair[1]
        if paid not in asked:
            free[free.index(paid)] = BUDGET
    return free


def _is_budget(points):
    """Whether k was set from B: the pairs are no cross product and have fewer products than there are k."""
    pairs = points[["block_size", "topk"]].drop_duplicates()
    crossed = pairs["block_size"].nunique() * pairs["topk"].nunique()
    products = (pairs["block_size"] * pairs["topk"]).nunique()
    return len(pairs) < crossed and products < pairs["topk"].nunique()


def _open(points, free, x, chosen):
    """Axes still without a role. Files are never joined by a curve, even where x tells them apart."""
    along = [x] if x else []
    return [axis for axis in free if axis not in (x, *chosen)
            and not _follows(points, axis, chosen if axis.name == "file" else [*along, *chosen])]


def _best_colour(points, free, x, view):
    """Files first, then d where d/B is x, then the axis with most values that still can be told apart."""
    left = _distinct(points, _open(points, free, x, view.panels))
    if not left:
        return None
    by_name = {axis.name: axis for axis in left}
    for name in ("file", "head_dim" if x in (RATIO, None) else None):
        if name in by_name:
            return by_name[name]
    few = [axis for axis in left if points[axis.name].nunique() <= MAX_COLOURS]
    if few:
        return max(few, key=lambda axis: points[axis.name].nunique())
    return min(left, key=lambda axis: points[axis.name].nunique())


def _distinct(points, axes):
    """The axes without those that another one fixes, a file's name last."""
    kept = []
    for axis in sorted(axes, key=lambda axis: (axis.name == "file", -points[axis.name].nunique())):
        if not any(_follows(points, axis, [other]) for other in kept):
            kept.append(axis)
    return [axis for axis in axes if axis in kept]


def _best_panels(points, free, x, coloured):
    """The axes with fewest values, as many as make MAX_PANELS."""
    panels, product = [], 1
    while True:
        left = _distinct(points, _open(points, free, x, [*coloured, *panels]))
        left = sorted(left, key=lambda axis: points[axis.name].nunique())
        if not left or (panels and product * points[left[0].name].nunique() > MAX_PANELS):
            return tuple(panels)
        panels.append(left[0])
        product *= min(points[left[0].name].nunique(), MAX_PANELS)


def _best_slice(points, rest, panels, x, score):
    """The rows of the combination of `rest` that shows most, summed over its panels."""
    if not rest:
        return points

    def worth(rows):
        parts = [part for _, part in _groups(rows, panels)]
        # A slice along which x varies says more than lone points, whatever their values.
        spread = sum(0.05 * min(part[x.name].nunique(), 12) for part in parts) if x else 0.0
        return sum(float(np.nan_to_num(score(part))) for part in parts) + spread

    return max((rows for _, rows in _groups(points, rest)), key=worth)


def _thinned(rows, axes, most):
    """Rows with at most `most` combinations of values of the axes."""
    counts = {axis: rows[axis.name].nunique() for axis in axes}
    while axes and np.prod(list(counts.values())) > most:
        widest = max(counts, key=counts.get)
        counts[widest] -= 1
    for axis, count in counts.items():
        rows = rows[rows[axis.name].isin(evenly(in_order(rows[axis.name]), count))]
    return rows


def _goes_with(rows, axes, x, colour, panels):
    """What fixes each axis that varies in the rows without a role."""
    fixed_by = {}
    for axis in axes:
        if axis in (RATIO, BUDGET, x, colour, *panels) or not _varies(rows, axis):
            continue
        for name, others in (("panels", list(panels)), ("colour", [colour]), ("x", [x])):
            if all(others) and others and _follows(rows, axis, others):
                fixed_by[axis] = name
                break
        else:
            fixed_by[axis] = "all"
    return fixed_by
