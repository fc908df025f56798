"""Chooses what to show of a grid: the slice whose hit probabilities vary most, and words for it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


PLAIN = {"needles": 1, "key_correlation": 0.0, "key_conv": 0}
"""What a point of the paper's setting has in the columns beyond it; a file holds those that some point needs."""

BEYOND = {"needles": "R", "goal": "goal", "key_correlation": "$\\rho$", "key_conv": "W", "key_conv_tap": "tap",
          "key_conv_activation": "activation"}
"""Columns beyond the paper's setting and their names in words."""


class NoData(Exception):
    """The file does not hold what a figure needs; the text says what is missing."""


@dataclass(frozen=True)
class Panel:
    """Rows of one panel and the words that name the slice they come from."""

    rows: pd.DataFrame
    title: str


def with_length_key(points):
    """Adds `length`: (seq_len, 0) for points asked for by sequence length, (0, candidates) for the others."""
    by_length = points["seq_len"].to_numpy() > 0
    keys = [(int(n), 0) if known else (0, int(c))
            for known, n, c in zip(by_length, points["seq_len"], points["candidates"])]
    return points.assign(length=keys, ratio=points["head_dim"] / points["block_size"])


def information(miss):
    """How much a set of exact miss probabilities shows on a linear axis: their spread and how many are not 0 or 1."""
    miss = np.asarray(miss, dtype=float)
    return float(np.ptp(miss) + 0.5 * np.mean((miss > 0.02) & (miss < 0.98)))


def rare_information(miss):
    """The same for a log axis that matters down to 1e-6."""
    decades = np.log10(np.clip(np.asarray(miss, dtype=float), 1e-6, 1.0))
    return float(np.ptp(decades) / 6.0 + 0.5 * np.mean((decades > -6.0) & (decades < -0.3)))


def beyond_columns(points):
    return [column for column in BEYOND if column in points]


def plain_points(points):
    """Points with one needle, independent keys and no convolution."""
    for column, value in PLAIN.items():
        if column in points:
            points = points[points[column] == value]
    return points


def known_miss(rows):
    """The exact miss probabilities; where there are none (NaN), those of the simulation."""
    exact = rows["miss_probability"]
    return exact.fillna(rows["sim_miss"]) if "sim_miss" in rows else exact


def panels_by_cluster_size(points, score=information):
    """The most telling slice, as one panel for the smallest and one for the largest cluster size in it.

    A slice holds model, length, topk, affinities and what is beyond the paper's setting fixed; head_dim and block_size vary inside it. Returns the panels
    and the fixed values in words.
    """
    points = with_length_key(points)

    def worth(panels):
        # A slice along which d/B varies says more than lone points, whatever their values.
        return sum(score(known_miss(rows)) + 0.05 * min(rows["ratio"].nunique(), 12) for rows in panels)

    fixed = ["model", "length", "topk", "mu_signal", "mu_noise", *beyond_columns(points)]
    slices = [_extreme_clusters(group, score) for _, group in points.groupby(fixed, sort=True)]
    chosen = max(slices, key=worth)
    panels = [Panel(rows.sort_values(["head_dim", "ratio"]), describe_cluster(rows.iloc[0])) for rows in chosen]
    return panels, describe(chosen[0].iloc[0])


def _extreme_clusters(group, score):
    sizes = sorted(group["cluster_size"].unique())
    picked = []
    for size in sizes[:1] + sizes[1:][-1:]:
        candidates = [rows for _, rows in group[group["cluster_size"] == size].groupby("mu_cluster", sort=True)]
        picked.append(max(candidates, key=lambda rows: (score(known_miss(rows)), len(rows))))
    return picked


def describe_cluster(row):
    if row["cluster_size"] == 1:
        return "needle alone (m = 1)"
    return f"cluster of m = {row['cluster_size']:g}, $\\mu_{{cluster}}$ = {row['mu_cluster']:g}"


def describe_length(row):
    seq_len, candidates = row["length"]
    return f"N = {seq_len}" if seq_len else f"c = {candidates} candidates"


def describe(row):
    """The fixed values of a slice, in the project's symbols."""
    noise = f", $\\mu_{{noise}}$ = {row['mu_noise']:g}" if row["mu_noise"] else ""
    beyond = "".join(f", {BEYOND[column]} = {row[column]}" for column in beyond_columns(row))
    return (f"model {row['model']}, {describe_length(row)}, k = {row['topk']:g}, "
            f"$\\mu_{{signal}}$ = {row['mu_signal']:g}{noise}{beyond}")


def evenly(values, count):
    """At most `count` of the sorted values, first and last included."""
    values = sorted(values)
    if len(values) <= count:
        return values
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def kernel_at_last_query(results):
    """Points with the kernel's counts of those probes that saw exactly the point's candidates, where the file has them.

    The kernel's totals are over probes all along the sequence; the last bin of validate_by_candidates holds the
    probes of the last block, which answer the same question as theory and simulation do.
    """
    points, bins = results.points, results.tables.get("validate_by_candidates")
    if bins is None or "kernel_miss" not in points:
        return points
    last = bins[bins["candidates_low"] == bins["candidates_high"]].set_index(["point", "candidates_high"])
    keys = list(zip(point_ids(points), points["candidates"]))
    if last.index.has_duplicates or not all(key in last.index for key in keys):
        return points
    columns = [name for name in last.columns if name.startswith("kernel_")]
    return points.assign(**{name: last.loc[keys, name].to_numpy() for name in columns})


def point_ids(points):
    """What the other tables call `point`: the row number."""
    return points["point"] if "point" in points else points.index
