"""Speed: every measurement of a benchmark file beside its peer."""

import numpy as np

from notebooks_export import style
from notebooks_export.slices import NoData


def draw(results):
    """Seconds of each measurement, median with its range, log axis."""
    table = results.tables.get("bench")
    if table is None or table.empty:
        raise NoData("no table 'bench'; it is written by mobalab bench")
    figure, (axis,) = style.new_figure(width=9.4, height=1.6 + 0.42 * len(table))
    figure.suptitle("How fast is it?", fontsize=13, fontweight="bold", x=0.01, ha="left")
    y = np.arange(len(table))[::-1]
    median = table["seconds_median"].to_numpy()
    arms = np.vstack([median - table["seconds_low"], table["seconds_high"] - median])
    axis.errorbar(median, y, xerr=np.maximum(arms, 0.0), fmt="o", color=style.BLUE, ms=6)
    for height, (_, row) in zip(y, table.iterrows()):
        axis.text(1.01, height, _remark(row), transform=axis.get_yaxis_transform(), va="center", fontsize=9.5)
    axis.set_xscale("log")
    style.log_axis(axis.xaxis, base=10, subs=(1.0, 2.0, 5.0))
    axis.set_yticks(y, table["name"])
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="seconds  (median, low to high)", ylim=(-0.6, len(table) - 0.4))
    return figure


def _remark(row):
    parts = []
    if np.isfinite(row.get("gflops", np.nan)) and row["gflops"] > 0:
        parts.append(f"{row['gflops']:.3g} GFLOP/s")
    if row.get("peer") and np.isfinite(row.get("ratio_to_peer", np.nan)):
        parts.append(f"{row['ratio_to_peer']:.2f} × {row['peer']}")
    return ",  ".join(parts)
