"""One look for every figure, and files that are the same bits for the same data."""

import io
import textwrap
from statistics import NormalDist

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from notebooks_export.axes import number

# Okabe and Ito's palette: told apart with every common kind of colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6B6B6B"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)

RC = {
    "font.family": "DejaVu Sans", "font.size": 10.5, "axes.titlesize": 11, "axes.labelsize": 11,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.edgecolor": "#444444", "grid.color": "#E3E3E3", "grid.linewidth": 0.8, "lines.linewidth": 1.8,
    "legend.frameon": False, "legend.fontsize": 9.5, "legend.title_fontsize": 9.5, "errorbar.capsize": 2.5,
    "svg.hashsalt": "mobalab", "svg.fonttype": "path", "figure.dpi": 110, "path.simplify": False,
}

STANDARD_NORMAL = NormalDist()

CERTAIN = 7.9
"""Probit beyond which a probability is 0 or 1 in double precision."""


def context():
    """Matplotlib settings for drawing and for saving."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC, "backend": "agg"})


def new_figure(panels=1, width=8.6, height=4.6, sharey=True, columns=None):
    """A figure with `panels` axes in rows of `columns` (all in one row without it), row by row.

    Legends placed outside the axes get room of their own.
    """
    columns = columns or panels
    figure = Figure(figsize=(width, height), constrained_layout=True)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(-(-panels // columns), columns, sharey=sharey, squeeze=False).ravel())
    for axis in axes[panels:]:
        axis.remove()
    return figure, axes[:panels]


def headline(figure, title, fixed):
    """The message in bold over the axes and, under it, what is held fixed."""
    lines = textwrap.wrap(fixed, int(13.0 * figure.get_figwidth())) or [""]
    figure.suptitle(title + "\n" * len(lines), fontsize=13, fontweight="bold", x=0.01, ha="left")
    figure.text(0.01, 1.0 - 0.3 / figure.get_figheight(), "\n".join(lines), ha="left", va="top", color=GREY)


def outside_legend(axes, **options):
    """The legend to the right of `axes`, never over the data."""
    return axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, **options)


def log_axis(axis):
    """Log axis of powers of two with plain numbers (0.25, 8, 1K)."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(base=2, numticks=12))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def probability_axis(axis, low, high):
    """Log axis of probabilities: powers of ten, with 0.2 and 0.5 between them where it is short."""
    short = high < 300.0 * low
    axis.set_major_locator(matplotlib.ticker.LogLocator(base=10, subs=(1.0, 2.0, 5.0) if short else (1.0,), numticks=9))
    if short:
        axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def seconds_axis(axis, low, high):
    """Log axis of times: 20 us, 5 ms, 2 s."""
    subs = (1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)
    axis.set_major_locator(matplotlib.ticker.LogLocator(base=10, subs=subs, numticks=12))
    axis.set_major_formatter(matplotlib.ticker.EngFormatter(unit="s"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def probit(miss):
    """Phi^-1(1 - miss), clipped to +-8, where hit probability is 0 or 1 to the eye."""
    clipped = np.clip(np.asarray(miss, dtype=float), 1e-15, 1 - 1e-15)
    return np.array([-STANDARD_NORMAL.inv_cdf(value) for value in clipped])


def normal_cdf(values):
    return np.array([STANDARD_NORMAL.cdf(value) for value in values])


def smooth_hits(x, miss, steps=24, log=True):
    """A line through exact values: straight in (log x or x, probit of hit), where the curves are nearly straight.

    Next to a hit that is certain or impossible, whose probit is infinite, it is straight in the hit probability.
    """
    along = np.log(x) if log else np.asarray(x, dtype=float)
    part = np.arange((len(x) - 1) * steps + 1) / steps
    fine = np.interp(part, np.arange(len(x)), along)
    hits = normal_cdf(np.interp(fine, along, probit(miss)))
    certain = np.abs(probit(miss)) > CERTAIN
    beside = certain[np.floor(part).astype(int)] | certain[np.ceil(part).astype(int)]
    hits = np.where(beside, np.interp(fine, along, 1.0 - np.asarray(miss, dtype=float)), hits)
    return np.exp(fine) if log else fine, hits


def too_many(points):
    """Whether so many marks are better a picture inside the SVG than a megabyte of paths."""
    return len(points) > 1500


def png_bytes(figure, dpi=160):
    return _saved(figure, format="png", dpi=dpi, metadata={"Software": None})


def svg_bytes(figure):
    return _saved(figure, format="svg", dpi=160, metadata={"Date": None, "Creator": None})


def _saved(figure, **options):
    buffer = io.BytesIO()
    with context():
        figure.savefig(buffer, **options)
    return buffer.getvalue()
