"""Speed: every measurement of a benchmark file beside its peer."""

import numpy as np

from notebooks_export import style
from notebooks_export.slices import NoData


SHAPE = {"batch": "batch", "heads": "heads", "head_dim": "d", "block_size": "B", "seq_len": "N", "topk": "k", "dtype": "", "threads": "threads"}


def draw(results):
    """Seconds of each measurement, median with its range, log axis."""
    table = results.tables.get("bench")
    if table is None or table.empty:
        raise NoData("no table 'bench'; it is written by mobalab bench")
    first = {name: place for place, name in reversed(list(enumerate(table["name"])))}
    table = table.sort_values("name", key=lambda names: names.map(first), kind="stable")
    fixed, varying = _shape_columns(table)
    figure, (axis,) = style.new_figure(width=10.4, height=1.4 + 0.3 * len(table))
    style.headline(figure, "How fast is it?", _shape(table.iloc[0], fixed))
    y = np.arange(len(table))[::-1]
    median = table["seconds_median"].to_numpy()
    arms = np.vstack([median - table["seconds_low"], table["seconds_high"] - median])
    axis.errorbar(median, y, xerr=np.maximum(arms, 0.0), fmt="o", color=style.BLUE, ms=6)
    for height, (_, row) in zip(y, table.iterrows()):
        axis.text(1.01, height, _remark(row), transform=axis.get_yaxis_transform(), va="center", fontsize=9.5)
    axis.set_xscale("log")
    style.seconds_axis(axis.xaxis, table["seconds_low"].min(), table["seconds_high"].max())
    axis.set_yticks(y, [",  ".join(filter(None, (row["name"], _shape(row, varying)))) for _, row in table.iterrows()])
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="time of one call  (median, low to high)", ylim=(-0.6, len(table) - 0.4))
    return figure


def _shape_columns(table):
    """Shape columns the file has: those with one value, those with more."""
    known = [name for name in SHAPE if name in table]
    return [name for name in known if table[name].nunique() == 1], [name for name in known if table[name].nunique() > 1]


def _shape(row, columns):
    return ", ".join(f"{SHAPE[name]} {row[name]}".strip() for name in columns)


def _remark(row):
    parts = []
    if np.isfinite(row.get("gflops", np.nan)) and row["gflops"] > 0:
        parts.append(f"{row['gflops']:.3g} GFLOP/s")
    if np.isfinite(row.get("share_of_peak", np.nan)):
        parts.append(f"{100.0 * row['share_of_peak']:.1f} % of peak")
    if row.get("peer") and np.isfinite(row.get("ratio_to_peer", np.nan)):
        parts.append(f"{row['ratio_to_peer']:.2f} × {row['peer']}")
    return ",  ".join(parts)
