"""Hit and miss probability against d/B: theory as lines, simulation and kernel as points with intervals."""

import matplotlib
import numpy as np

from notebooks_export import style
from notebooks_export.slices import (NoData, evenly, information, kernel_at_last_query, panels_by_cluster_size,
                                     rare_information)

MAX_WIDTHS = 4
"""Head dims drawn in one panel; more would hide each other."""

LOWEST_MISS = 1e-8
"""Below this the line is left to run out of the picture; sampling does not come near."""


def draw_hits(results):
    """Hit probability, linear axis."""
    figure, panels, axes = _panels(results, information, "Does the router find the needle's block?")
    for panel, axis in zip(panels, axes):
        for colour, rows in _curves(panel):
            _hit_curve(axis, colour, rows)
        axis.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("hit probability  P(needle's block is routed)")
    _legend(axes[-1], panels)
    return figure


def draw_misses(results):
    """Miss probability, log axis: the rare events that the linear axis hides."""
    figure, panels, axes = _panels(results, rare_information, "How rare is a miss?")
    floor = max(LOWEST_MISS, 0.3 * min(_lowest(panel.rows) for panel in panels))
    for panel, axis in zip(panels, axes):
        axis.set_yscale("log")
        for colour, rows in _curves(panel):
            _miss_curve(axis, colour, rows)
        axis.set_ylim(floor, 2.0)
        axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(base=10, numticks=9))
        axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes[0].set_ylabel("miss probability  (log scale)")
    _legend(axes[-1], panels, rare=True)
    return figure


def _panels(results, score, question):
    if results.points is None:
        raise NoData("no table with routing points")
    panels, fixed = panels_by_cluster_size(kernel_at_last_query(results), score)
    figure, axes = style.new_figure(len(panels), width=5.4 + 3.6 * len(panels))
    if results.confidence and any(f"{prefix}_miss" in results.points for prefix in ("sim", "kernel")):
        fixed += f"; {results.confidence} intervals"
    style.headline(figure, question, fixed)
    for panel, axis in zip(panels, axes):
        axis.set_title(panel.title, loc="left")
        axis.set_xscale("log", base=2)
        style.log_axis(axis.xaxis)
        axis.set_xlabel("d / B  (head width / block size)")
    return figure, panels, axes


def _widths(panels):
    return evenly(set().union(*(set(panel.rows["head_dim"]) for panel in panels)), MAX_WIDTHS)


def _curves(panel):
    widths = evenly(set(panel.rows["head_dim"]), MAX_WIDTHS)
    for colour, width in zip(style.SERIES, widths):
        rows = panel.rows[panel.rows["head_dim"] == width].sort_values("ratio")
        yield colour, rows


def _hit_curve(axis, colour, rows):
    _theory_hits(axis, colour, rows, "miss_probability", "-")
    if _kernel_has_own_line(rows):
        _theory_hits(axis, colour, rows, "kernel_expected_miss", ":")
    for prefix, options in _point_styles(rows):
        value, low, high = (1.0 - rows[f"{prefix}_{name}"].to_numpy() for name in ("miss", "miss_high", "miss_low"))
        axis.errorbar(rows["ratio"], value, yerr=_arms(value, low, high), color=colour, **options)


def _theory_hits(axis, colour, rows, column, line):
    rows = rows.dropna(subset=[column])
    x, miss = rows["ratio"].to_numpy(), rows[column].to_numpy()
    if len(x) > 1:
        axis.plot(*style.smooth_hits(x, miss), line, color=colour, lw=1.6)
    else:
        axis.plot(x, 1.0 - miss, "_", color=colour, ms=14, mew=2)


def _miss_curve(axis, colour, rows):
    shape = "-" if len(rows) > 1 else "_"
    axis.plot(rows["ratio"], np.exp(rows["log_miss_probability"]), shape, color=colour, lw=1.6, ms=14, mew=2)
    if _kernel_has_own_line(rows):
        axis.plot(rows["ratio"], rows["kernel_expected_miss"], ":", color=colour, lw=1.6)
    for prefix, options in _point_styles(rows):
        seen = rows[rows[f"{prefix}_misses"] > 0]
        value, low, high = (seen[f"{prefix}_{name}"].to_numpy() for name in ("miss", "miss_low", "miss_high"))
        axis.errorbar(seen["ratio"], value, yerr=_arms(value, low, high), color=colour, **options)
        none = rows[(rows[f"{prefix}_misses"] == 0) & (rows[f"{prefix}_trials"] > 0)]
        axis.plot(none["ratio"], none[f"{prefix}_miss_high"], "v", color=colour, mfc="white", ms=5, mew=1.2)


def _point_styles(rows):
    """Open squares under filled circles: both stay visible where they coincide."""
    styles = (("kernel", dict(fmt="s", mfc="white", ms=7.5, mew=1.3, elinewidth=1.1)),
              ("sim", dict(fmt="o", ms=3.6, elinewidth=1.1)))
    return [(prefix, options) for prefix, options in styles if f"{prefix}_miss" in rows]


def _kernel_has_own_line(rows):
    """Counts over probes all along the sequence have another expectation than the last query's: a line of their own."""
    if "kernel_expected_miss" not in rows:
        return False
    return bool(np.any(np.abs(rows["kernel_expected_miss"] - rows["miss_probability"]) > 0.003))


def _arms(value, low, high):
    return np.vstack([np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)])


def _lowest(rows):
    seen = [np.exp(rows["log_miss_probability"])]
    seen += [rows.loc[rows[f"{prefix}_misses"] > 0, f"{prefix}_miss_low"] for prefix in ("sim", "kernel")
             if f"{prefix}_misses" in rows]
    positive = np.concatenate([np.asarray(values)[np.asarray(values) > 0] for values in seen])
    return positive.min() if len(positive) else LOWEST_MISS


def _legend(axis, panels, rare=False):
    line = matplotlib.lines.Line2D
    rows = panels[0].rows
    handles = [line([], [], color=colour, lw=4, label=f"d = {width:g}")
               for colour, width in zip(style.SERIES, _widths(panels))]
    own_line = any(_kernel_has_own_line(panel.rows) for panel in panels)
    if any(panel.rows["miss_probability"].notna().any() for panel in panels):
        handles.append(line([], [], color=style.GREY, label="exact, last query" if own_line else "exact theory"))
    if own_line:
        handles.append(line([], [], color=style.GREY, ls=":", label="exact, mean over all\nprobes of the kernel"))
    if "sim_miss" in rows:
        handles.append(line([], [], color=style.GREY, marker="o", ms=4, ls="", label="simulation"))
    if "kernel_miss" in rows:
        handles.append(line([], [], color=style.GREY, marker="s", mfc="white", ms=7.5, ls="", label="real kernel"))
    if rare and ("sim_miss" in rows or "kernel_miss" in rows):
        handles.append(line([], [], color=style.GREY, marker="v", mfc="white", ms=5, ls="",
                            label="no miss seen:\nupper limit"))
    style.outside_legend(axis, handles=handles)
