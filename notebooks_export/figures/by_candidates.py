"""Hits of the real kernel at each number of candidates, beside the exact probability there."""

import numpy as np

from notebooks_export import style
from notebooks_export.slices import (NoData, describe_cluster, describe_length, evenly, information, point_ids,
                                     with_length_key)

MAX_CURVES = 4


def draw(results):
    """One curve a head dim; the rest of the point is fixed to the slice with the most to show."""
    rows, points = results.tables.get("validate_by_candidates"), results.points
    if rows is None or points is None:
        raise NoData("no table 'validate_by_candidates'; it is written by mobalab validate")
    rows = rows[rows["kernel_trials"] > 0]
    if rows.empty:
        raise NoData("table 'validate_by_candidates' holds no trial")
    chosen, slice_text, key = _choose(with_length_key(points), rows)
    figure, (axis,) = style.new_figure(width=9.4, height=4.9)
    style.headline(figure, "A query with more past blocks has a harder choice", slice_text)
    for colour, (value, point) in zip(style.SERIES, chosen):
        _curve(axis, colour, f"{'d' if key == 'head_dim' else 'B'} = {value:g}", rows[rows["point"] == point])
    axis.set_xscale("log", base=2)
    style.log_axis(axis.xaxis)
    axis.set(xlabel="candidates c  (blocks in the query's past that compete)", ylabel="hit probability",
             ylim=(-0.03, 1.03))
    axis.plot([], [], "-", color=style.GREY, label="exact, mean over the bin")
    axis.errorbar([], [], yerr=[], fmt="s", color=style.GREY, mfc="white", ms=6, label="real kernel, with interval")
    style.outside_legend(axis)
    return figure


def _choose(points, rows):
    """Varies head_dim when the grid does, block_size otherwise; picks the most telling values of the rest."""
    key = "head_dim" if points["head_dim"].nunique() > 1 or points["block_size"].nunique() == 1 else "block_size"
    other = "block_size" if key == "head_dim" else "head_dim"
    points = points.assign(point=point_ids(points))
    expected = {point: bins["kernel_expected_miss"].to_numpy() for point, bins in rows.groupby("point")}
    points = points[points["point"].isin(expected)]
    fixed = ["model", "length", other, "topk", "cluster_size", "mu_signal", "mu_noise", "mu_cluster"]
    best = max((group for _, group in points.groupby(fixed, sort=True)),
               key=lambda group: _worth([expected[point] for point in group["point"]]))
    first = best.iloc[0]
    values = evenly(best[key].unique(), MAX_CURVES)
    chosen = [(value, best.loc[best[key] == value, "point"].iloc[0]) for value in values]
    name = "B" if other == "block_size" else "d"
    words = (f"model {first['model']}, {describe_length(first)}, {name} = {first[other]:g}, k = {first['topk']:g}, "
             f"$\\mu_{{signal}}$ = {first['mu_signal']:g}, {describe_cluster(first)}")
    return chosen, words, key


def _worth(curves):
    """Curves that bend, many bins long, and apart from each other at their right end."""
    bend = np.mean([information(curve) for curve in curves])
    return bend + 2.0 * np.ptp([curve[-1] for curve in curves]) + 0.05 * max(len(curve) for curve in curves)


def _curve(axis, colour, label, rows):
    rows = rows.sort_values("candidates_low")
    low, high = rows["candidates_low"].to_numpy(float), rows["candidates_high"].to_numpy(float)
    middle = np.sqrt(low * high)
    axis.plot(middle, 1.0 - rows["kernel_expected_miss"], "-", color=colour, lw=1.8, label=label)
    value = 1.0 - rows["kernel_miss"].to_numpy()
    arms = np.vstack([value - (1.0 - rows["kernel_miss_high"]), (1.0 - rows["kernel_miss_low"]) - value])
    axis.errorbar(middle, value, yerr=np.maximum(arms, 0.0), xerr=np.vstack([middle - low, high - middle]), fmt="s",
                  color=colour, mfc="white", ms=6, mew=1.3, elinewidth=1.0, capsize=0)
