"""The paper's pairwise formula and its rule against the exact probability."""

import matplotlib
import numpy as np

from notebooks_export import style
from notebooks_export.slices import NoData, beyond_columns, plain_points


def draw(results):
    """Left: exact hits against SNR beside Phi(SNR). Right: against the distance from the paper's reliability rule."""
    points = results.points
    if points is None:
        raise NoData("no table with routing points")
    whose = "of one needle and independent keys" if beyond_columns(points) else "of the file"
    points = plain_points(points)
    if points.empty:
        raise NoData("no point has one needle and independent keys, which the pairwise formula is about")
    points = points[(points["topk"] >= 2) & (points["topk"] - 1 < points["candidates"])]
    if points.empty:
        raise NoData("every point keeps all of its candidates or routes none, so SNR says nothing")
    crowd = (points["candidates"] / (points["topk"] - 1)).to_numpy(dtype=float)
    hits = 1.0 - points["miss_probability"].to_numpy()
    snr = points["snr"].to_numpy()

    figure, (left, right) = style.new_figure(2, width=11.2, height=5.0)
    style.headline(figure, "Why one pairwise SNR is not enough",
                   f"all {len(points)} points {whose}; exact probability of each")
    shade = dict(c=crowd, norm=matplotlib.colors.LogNorm(*_range(crowd)), cmap="viridis", s=22, lw=0.4,
                 edgecolors="white", rasterized=style.too_many(hits))
    _against_snr(left, snr, hits, shade)
    dots = _against_rule(right, snr - points["reliable_snr"].to_numpy(), hits, shade)
    bar = figure.colorbar(dots, ax=right, pad=0.02, label="candidates per routed block,  c / (k − 1)")
    style.log_axis(bar.ax.yaxis)
    return figure


def _range(values):
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low / 2.0, high * 2.0)


def _against_snr(axis, snr, hits, shade):
    line = np.linspace(0.0, max(4.0, np.quantile(snr, 0.9)), 200)
    axis.plot(line, style.normal_cdf(line), "--", color=style.VERMILION)
    axis.text(0.0, 1.05, "Φ(SNR): probability of beating one given noise block", color=style.VERMILION, va="center")
    axis.scatter(snr, hits, **shade)
    axis.set_title("The pairwise formula promises too much", loc="left")
    axis.set(xlabel=r"SNR $= \Delta\mu_{eff}\,\sqrt{d\,/\,2B}$", ylabel="hit probability  (exact)",
             xlim=(-0.1, line[-1]), ylim=(-0.03, 1.1))


def _against_rule(axis, margin, hits, shade):
    axis.axvline(0.0, color=style.VERMILION, ls="--")
    dots = axis.scatter(margin, hits, **shade)
    near = np.abs(margin) < 0.15
    title = "The rule is no 50 % point, and no guarantee"
    if near.sum() >= 2:
        low, high = hits[near].min(), hits[near].max()
        title = f"At the rule, hits range from {low:.2f} to {high:.2f}"
        axis.plot([0.0, 0.0], [low, high], color=style.VERMILION, lw=5, alpha=0.35, solid_capstyle="butt")
    axis.set_title(title, loc="left")
    axis.set(xlabel=r"SNR $- \Phi^{-1}(1 - \frac{k-1}{c})$   (right of 0: reliable by the paper's rule)",
             xlim=(-3.0, 3.0))
    return dots
