"""Hits of the real kernel at each number of candidates, beside the exact probability there."""

import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import AXES
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData, choose

ALONG = "the number of candidates c"


def draw(study):
    """One curve a colour; the rest of the point is fixed to the slice with the most to show."""
    rows = study.by_candidates()
    if rows is None:
        raise NoData("no table 'validate_by_candidates'; it is written by mobalab validate")
    rows = rows[rows["kernel_trials"] > 0]
    if rows.empty:
        raise NoData("table 'validate_by_candidates' holds no trial at these points")
    bins = {key: part.sort_values("candidates_low") for key, part in rows.groupby(["file", "point"])}
    layout = _layout(study, bins)
    panels = layout.panel_list()
    figure, axes = style.new_figure(len(panels), width=5.4 + 3.6 * len(panels), height=4.9)
    held = [captions.fixed(layout, study, math=True), captions.count(layout),
            f"{study.confidence} intervals" if study.confidence else ""]
    style.headline(figure, "Hits by the number of blocks that compete", "; ".join(filter(None, held)))
    for (values, points), axis in zip(panels, axes):
        axis.set_title(captions.panel_title(layout, values, points), loc="left")
        for place, _, curve in layout.curve_list(points):
            for key in zip(curve["file"], curve["point"]):
                _curve(axis, style.SERIES[place], bins[key])
        axis.set_xscale("log", base=2)
        style.log_axis(axis.xaxis)
        axis.set(xlabel="candidates c  (blocks in the query's past that compete)", ylim=(-0.03, 1.03))
    axes[0].set_ylabel("hit probability")
    _legend(axes[-1], layout)
    return Drawing(figure, captions.what_is_drawn(layout, study, along=ALONG), left_out=captions.what_is_left_out(layout),
                   layout=layout)


def _layout(study, bins):
    points = study.points[[key in bins for key in zip(study.points["file"], study.points["point"])]]
    if study.view.x is not None:
        study_view = type(study.view)(colour=study.view.colour, panels=study.view.panels, where=study.view.where)
    else:
        study_view = study.view
    expected = {key: part["kernel_expected_miss"].to_numpy() for key, part in bins.items()}
    return choose(points, study_view, lambda rows: _worth([expected[key] for key in zip(rows["file"], rows["point"])]),
                  AXES, own_x=True)


def _worth(curves):
    """Curves that bend, many bins long, and apart from each other at their right end."""
    bend = np.mean([np.ptp(curve) + 0.5 * np.mean((curve > 0.02) & (curve < 0.98)) for curve in curves])
    return bend + 2.0 * np.ptp([curve[-1] for curve in curves]) + 0.05 * max(len(curve) for curve in curves)


def _curve(axis, colour, rows):
    low, high = rows["candidates_low"].to_numpy(float), rows["candidates_high"].to_numpy(float)
    middle = np.sqrt(low * high)
    axis.plot(middle, 1.0 - rows["kernel_expected_miss"], "-" if len(rows) > 1 else "_", color=colour, lw=1.8, ms=14,
              mew=2)
    value = 1.0 - rows["kernel_miss"].to_numpy()
    arms = np.vstack([value - (1.0 - rows["kernel_miss_high"]), (1.0 - rows["kernel_miss_low"]) - value])
    axis.errorbar(middle, value, yerr=np.maximum(arms, 0.0), xerr=np.vstack([middle - low, high - middle]), fmt="s",
                  color=colour, mfc="white", ms=6, mew=1.3, elinewidth=1.0, capsize=0)


def _legend(axis, layout):
    for colour, ((value,), part) in zip(style.SERIES, layout.colour_list()):
        if layout.colour:
            axis.plot([], [], color=colour, lw=4, label=captions.colour_label(layout, value, part))
    axis.plot([], [], "-", color=style.GREY, label="exact, mean over the bin")
    axis.errorbar([], [], yerr=[], fmt="s", color=style.GREY, mfc="white", ms=6, label="real kernel, with interval")
    style.outside_legend(axis)
