"""The x axis of a figure: words side by side, a linear axis or a logarithmic one, as the values ask for."""

from dataclasses import dataclass

import matplotlib
import numpy as np

from notebooks_export.axes import number
from notebooks_export.layout import POINT

FEW = 10
"""Up to so many values each gets a tick of its own."""

LEAST_GAP = 0.055
"""Ticks closer than this share of the axis would run into each other."""

MARGIN = 0.04
"""Room on either side of the values, as a share of the axis."""

GROUP_WIDTH = 0.6
"""Share of the room between two words that the colours take up beside each other."""


@dataclass(frozen=True)
class XAxis:
    """Where the values of the axis `axis` stand; `values` are those of all panels, in order."""

    axis: object
    values: tuple
    colours: int

    @property
    def words(self):
        return self.axis.text

    @property
    def log(self):
        return not self.words and is_geometric(self.values)

    @property
    def lone(self):
        """Whether no curve can run along it."""
        return self.words or len(self.values) < 2

    def places(self, rows, colour):
        """x of each row; on an axis of words the colours stand beside each other."""
        if not self.words:
            return rows[self.axis.name].to_numpy(float)
        of = {value: place for place, value in enumerate(self.values)}
        step = GROUP_WIDTH / max(self.colours, 1)
        aside = (colour - (self.colours - 1) / 2) * step
        return np.array([of[value] + aside for value in rows[self.axis.name]], dtype=float)

    def set_up(self, axes):
        """Scale, ticks and name of the x axis of `axes`."""
        axes.set_xlabel("" if self.axis == POINT else self.axis.label)
        if self.words:
            small = dict(fontsize=8.0) if self.axis == POINT or len(self.values) > 6 else {}
            axes.set_xticks(range(len(self.values)), [str(value) for value in self.values], **small)
            axes.set_xlim(-0.6, len(self.values) - 0.4)
            axes.grid(axis="x", visible=False)
        else:
            label_values(axes.xaxis, axes.set_xscale, self.values)
            if len(self.values) > 1:
                axes.set_xlim(*self._ends())

    def _ends(self):
        """Of every panel alike, so that they can be compared."""
        low, high = float(self.values[0]), float(self.values[-1])
        if self.log:
            beside = (high / low) ** MARGIN
            return low / beside, high * beside
        return low - MARGIN * (high - low), high + MARGIN * (high - low)


def label_values(axis, set_scale, values):
    """Scale and ticks of a numeric axis with these values, x or y."""
    if is_geometric(values):
        set_scale("log", base=2)
        _log_ticks(axis, values)
        return
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: number(value)))
    if len(values) <= FEW and _apart(values):
        axis.set_major_locator(matplotlib.ticker.FixedLocator(list(values)))


def is_geometric(values):
    """Whether positive values are spread more evenly by their ratios than by their differences."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or values[0] <= 0.0 or values[-1] < 4.0 * values[0]:
        return False
    if len(values) == 2:
        return True
    return _unevenness(np.log(values)) < _unevenness(values)


def _unevenness(values):
    steps = np.diff(values)
    return float(np.std(steps) / np.mean(steps))


def _apart(values):
    values = np.asarray(values, dtype=float)
    return len(values) == 1 or float(np.min(np.diff(values))) >= LEAST_GAP * float(values[-1] - values[0])


def _log_ticks(axis, values):
    """Ticks of a log axis: at the values where they are few, else at powers of two."""
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())
    if len(values) <= FEW and _apart(np.log(np.asarray(values, dtype=float))):
        axis.set_major_locator(matplotlib.ticker.FixedLocator(list(values)))
    else:
        axis.set_major_locator(matplotlib.ticker.LogLocator(base=2, numticks=12))
