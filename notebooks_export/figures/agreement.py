"""Do theory, simulation and kernel agree? Sorted z-scores beside what chance alone gives."""

import numpy as np

from notebooks_export import style
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData

FAMILY_ALPHA = 1e-6
"""Family-wise error rate assumed when the file does not name its own."""

WORST_LABELLED = 3

MARKERS = "os^Dv*Pp"

RULE = "-rule"
"""End of the kinds that are exact checks: kept or broken, with no z-score to plot."""


def family_alpha(results):
    """The family-wise error rate of the agreement test that wrote the file."""
    return float(results.group_attributes.get("validate_comparisons", {}).get("family_alpha", FAMILY_ALPHA))


def summary(results):
    """One dictionary a kind of comparison: how many, the largest |z|, the smallest adjusted p, the verdict."""
    table = results.tables.get("validate_comparisons")
    if table is None:
        return []
    alpha = family_alpha(results)
    return [dict(kind=kind, comparisons=len(rows), largest_z=_largest(rows["z"]),
                 smallest_adjusted_p=_smallest(rows["adjusted_p"]),
                 verdict="agrees" if _smallest(rows["adjusted_p"]) >= alpha else "DISAGREES")
            for kind, rows in table.groupby("kind", sort=True)]


def draw(results):
    """A normal quantile plot of the z-scores, one series a kind of comparison."""
    table = results.tables.get("validate_comparisons")
    if table is None or table.empty:
        raise NoData("no table 'validate_comparisons'; it is written by mobalab validate")
    alpha = family_alpha(results)
    limit = -style.STANDARD_NORMAL.inv_cdf(alpha / (2.0 * len(table)))
    figure, (axis,) = style.new_figure(width=9.8, height=5.2)
    rejected = int(np.sum(~(table["adjusted_p"] >= alpha)))
    verdict = "all agree" if rejected == 0 else f"{rejected} of {len(table)} DISAGREE"
    style.headline(figure, f"Theory, simulation and kernel: {verdict}",
                   f"{results.shown_name}: {len(table)} comparisons, family-wise error {alpha:g} (Holm)")
    edge = 1.25 * limit
    is_rule = table["kind"].str.endswith(RULE)
    kinds = list(table[~is_rule].groupby("kind", sort=True))
    for place, (kind, rows) in enumerate(kinds):
        _series(axis, rows, style.SERIES[place % len(style.SERIES)], MARKERS[place % len(MARKERS)], kind, edge)
    for kind, rows in table[is_rule].groupby("kind", sort=True):
        broken = int(np.sum(~(rows["adjusted_p"] >= alpha)))
        axis.plot([], [], ls="", label=f"{kind}: {len(rows)} exact checks, {broken} broken")
    _guides(axis, limit, edge, len(table))
    _label_worst(axis, table)
    style.outside_legend(axis, markerscale=2.0)
    drawn = (f"Drawn: {int((~is_rule).sum())} comparisons as dots, {int(is_rule.sum())} exact checks as counts; "
             f"{rejected} of {len(table)} rejected at family-wise error {alpha:g}.")
    return Drawing(figure, drawn, "Adjusted p-values are about the whole file, so --where does not narrow this figure.")


def _series(axis, rows, colour, marker, kind, edge):
    z = np.sort(np.clip(np.nan_to_num(rows["z"].to_numpy(float), nan=edge), -edge, edge))
    axis.plot(_quantiles(len(z)), z, marker, color=colour, ms=3.5, alpha=0.8, mew=0, label=f"{kind} ({len(z)})",
              rasterized=style.too_many(z))


def _quantiles(count):
    return np.array([style.STANDARD_NORMAL.inv_cdf((i + 0.5) / count) for i in range(count)])


def _guides(axis, limit, edge, count):
    reach = max(3.0, 1.1 * abs(style.STANDARD_NORMAL.inv_cdf(0.5 / count)))
    axis.plot([-reach, reach], [-reach, reach], "-", color=style.BLACK, lw=1.0, label="chance alone")
    for side in (-1.0, 1.0):
        axis.axhline(side * limit, color=style.VERMILION, ls="--", lw=1.4,
                     label=f"first rejection, |z| = {limit:.2f}" if side > 0 else None)
        axis.axhspan(side * limit, side * edge, color=style.VERMILION, alpha=0.08, lw=0)
    axis.set(xlim=(-reach, reach), ylim=(-edge, edge), xlabel="z expected of a standard normal",
             ylabel="z observed  (> 0: more misses than expected)")


def _label_worst(axis, table):
    strength = np.nan_to_num(np.abs(table["z"].to_numpy(float)), nan=np.inf)
    for place, row in enumerate(np.argsort(-strength, kind="stable")[:WORST_LABELLED]):
        entry = table.iloc[row]
        # Listed beside the axes: the worst points lie close together, labels on them would not.
        where = f"point {entry['point']:g}" if entry["point"] >= 0 else "all points"
        axis.text(1.02, 0.34 - 0.12 * place, f"{where}, {entry['kind']}\n"
                  f"z = {entry['z']:+.2f}, p = {entry['p_value']:.2g}", transform=axis.transAxes, fontsize=9, va="top")
    axis.text(1.02, 0.35, "largest |z|", transform=axis.transAxes, fontsize=9.5, fontweight="bold", va="bottom")


def _largest(z):
    return float(np.max(np.nan_to_num(np.abs(z), nan=np.inf)))


def _smallest(p):
    return float(np.min(np.nan_to_num(p, nan=0.0)))
