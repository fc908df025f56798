"""What hits.py and misses.py share: panels of curves, theory as lines, simulation and kernel as points with intervals."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import AXES
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, choose
from notebooks_export.x_axis import XAxis

FEW_MARKS = 40
"""Computed points of one curve up to which each is marked."""

FEW_VALUES = 8
"""Points of a figure up to which their values are written beside them."""

LINE_WIDTH, RIBBON, MOST_RIBBONS = 1.6, 2.4, 3
"""Width of a line, what it gains for each line that lies on it, and for how many of them."""

SAME_TO_THE_EYE = 0.004
"""Difference of probabilities that a line on a linear axis hides."""

COUNTED = ("sim", "kernel")


class CurveFigure:
    """The panels of one figure. `value(miss)` is what stands along y: the hit or the miss probability."""

    def __init__(self, study, score, question, own_line):
        if study.points is None:
            raise NoData("no table with routing points")
        self.study = study
        self.layout = choose(study.points, study.view, score, AXES)
        self.own_line = own_line
        self.panels = self.layout.panel_list()
        shown = self.layout.colour_list()
        self.x = XAxis(self.layout.x, tuple(self.layout.values(self.layout.x)), len(shown))
        self.columns = columns = _columns(self.layout, len(self.panels))
        rows = -(-len(self.panels) // columns)
        self.figure, self.axes = style.new_figure(len(self.panels), width=5.4 + (3.6 if columns < 3 else 3.2) * columns,
                                                  height=1.2 + 3.4 * rows, columns=columns)
        style.headline(self.figure, question, self._held())
        for (values, rows), axis in zip(self.panels, self.axes):
            axis.set_title(captions.panel_title(self.layout, values, rows), loc="left")
            self.x.set_up(axis)
        for place, axis in enumerate(self.axes):
            if place + columns < len(self.axes):
                axis.set_xlabel("")
        self.legend_axis = self.axes[columns - 1]

    def name_y(self, label):
        for axis in self.axes[::self.columns]:
            axis.set_ylabel(label)

    def curves(self):
        """(axes, colour and width of the line, places along x, rows) of each curve."""
        widths = self.widths()
        for (_, rows), axis in zip(self.panels, self.axes):
            for place, _, curve in self.layout.curve_list(rows):
                yield axis, dict(color=style.SERIES[place], lw=widths[place]), self.x.places(curve, place), curve

    def widths(self):
        """Line width of each colour: curves that would hide each other are drawn as ribbons, the first one widest."""
        hidden = {place: 0 for place in range(len(style.SERIES))}
        for _, rows in self.panels:
            curves = [(place, curve) for place, _, curve in self.layout.curve_list(rows)]
            for at, (place, curve) in enumerate(curves):
                over = sum(self._coincide(curve, other) for _, other in curves[at + 1:])
                hidden[place] = max(hidden[place], over)
        return {place: LINE_WIDTH + RIBBON * min(over, MOST_RIBBONS) for place, over in hidden.items()}

    def _coincide(self, one, other):
        """Whether two curves are one to the eye, at all values of x that both have."""
        if self.x.lone:
            return False
        both = one.merge(other, on=self.layout.x.name, suffixes=("", "_other"))
        apart = (both["miss_probability"] - both["miss_probability_other"]).abs().max()
        return len(both) > 0 and bool(apart < SAME_TO_THE_EYE)

    def has_counts(self):
        return any(f"{prefix}_miss" in self.layout.rows and self.layout.rows[f"{prefix}_miss"].notna().any()
                   for prefix in COUNTED)

    def has_own_line(self):
        return any(self.own_line(rows) for _, rows in self.panels)

    def few(self):
        return len(self.layout.rows) <= FEW_VALUES and (self.x.lone or len(self.layout.rows) == 1)

    def drawing(self, rare=False, sentences=()):
        _legend(self, rare)
        return Drawing(self.figure, captions.what_is_drawn(self.layout, self.study),
                       " ".join([*self._series(), *sentences]), captions.what_is_left_out(self.layout), self.layout)

    def _held(self):
        pieces = [captions.fixed(self.layout, self.study, math=True), captions.count(self.layout)]
        if self.study.confidence and self.has_counts():
            pieces.append(f"{self.study.confidence} intervals")
        return "; ".join(filter(None, pieces))

    def _series(self):
        """One sentence on each kind of mark that is there."""
        rows = self.layout.rows
        if rows["miss_probability"].notna().any():
            yield "Lines are the exact probability, computed without any simulation."
        if _has(rows, "sim_miss"):
            yield "Circles are Monte Carlo with its interval."
        if _has(rows, "kernel_miss"):
            yield "Squares are the real kernel on real tensors with its interval."
        if self.has_own_line():
            yield ("Its probes sit all along the sequence, where fewer blocks compete than for the last query: the dotted "
                   "line is the exact mean over them.")


def _has(rows, column):
    return column in rows and rows[column].notna().any()


def _columns(layout, panels):
    """Columns of panels: the values of the last of several axes where they fit, so that each column holds one."""
    last = len(layout.values(layout.panels[-1])) if len(layout.panels) > 1 else 0
    if 2 <= last <= 4 and panels % last == 0:
        return last
    return panels if panels <= 3 else 2 if panels == 4 else 3


def kernel_differs(rows, by):
    """Whether counts over probes all along the sequence have another expectation than the last query's."""
    if "kernel_expected_miss" not in rows:
        return False
    rows = rows.dropna(subset=["kernel_expected_miss", "miss_probability"])
    return bool(np.any(by(rows["kernel_expected_miss"].to_numpy(), rows["miss_probability"].to_numpy())))


def counted(rows):
    """(columns' prefix, style of the marks, rows that have counts) of the simulation and the kernel.

    Open squares under filled circles: both stay visible where they coincide.
    """
    many = len(rows) > FEW_MARKS
    styles = (("kernel", dict(fmt="s", mfc="white", ms=4.0 if many else 7.5, mew=0.8 if many else 1.3, elinewidth=1.1)),
              ("sim", dict(fmt="o", ms=2.0 if many else 3.6, elinewidth=0.8 if many else 1.1)))
    for prefix, options in styles:
        if _has(rows, f"{prefix}_miss"):
            yield prefix, options, rows[f"{prefix}_miss"].notna().to_numpy()


def arms(value, low, high):
    """Lengths of the interval's two arms, as errorbar wants them."""
    return np.vstack([np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)])


def write_values(axis, x, y, colour):
    """The values of a few marks, above them."""
    for place, value in zip(x, y):
        if np.isfinite(value):
            axis.annotate(f"{value:.3g}", (place, value), xytext=(0, 6), textcoords="offset points", ha="center",
                          fontsize=9, color=colour)


def _legend(figure, rare):
    line = matplotlib.lines.Line2D
    layout, rows = figure.layout, figure.layout.rows
    handles = [line([], [], color=colour, lw=4, label=captions.colour_label(layout, value, part))
               for colour, ((value,), part) in zip(style.SERIES, layout.colour_list()) if layout.colour]
    own_line = figure.has_own_line()
    if rows["miss_probability"].notna().any():
        mark = dict(marker="_", ms=12, mew=2, ls="") if figure.x.lone else {}
        handles.append(line([], [], color=style.GREY, label="exact, last query" if own_line else "exact theory", **mark))
    if own_line:
        handles.append(line([], [], color=style.GREY, ls=":", label="exact, mean over all\nprobes of the kernel"))
    if _has(rows, "sim_miss"):
        handles.append(line([], [], color=style.GREY, marker="o", ms=4, ls="", label="simulation"))
    if _has(rows, "kernel_miss"):
        handles.append(line([], [], color=style.GREY, marker="s", mfc="white", ms=7.5, ls="", label="real kernel"))
    if rare:
        handles.append(line([], [], color=style.GREY, marker="v", mfc="white", ms=5, ls="",
                            label="no miss seen:\nupper limit"))
    style.outside_legend(figure.legend_axis, handles=handles)
