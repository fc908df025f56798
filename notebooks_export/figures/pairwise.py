"""The paper's pairwise formula and its rule against the exact probability."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import BY_NAME
from notebooks_export.drawing import Drawing
from notebooks_export.layout import NoData

BEYOND = ("needles", "key_correlation", "key_memory", "key_mean", "query_mean", "effective_dim", "sink", "key_conv",
          "scorer")
"""Axes that the formula knows nothing of."""

NEAR = 0.15
"""Distance from the rule, in units of SNR, up to which a point stands at it."""

FEW_CROWDS = 4
"""Values of c / (k - 1) up to which each has a tick of its own."""

REACH = 3.0
"""Distance from the rule that is drawn on either side."""


def draw(study):
    """Left: exact hits against SNR beside Phi(SNR). Right: against the distance from the paper's reliability rule."""
    if study.points is None:
        raise NoData("no table with routing points")
    points, left_out = _points(study.points)
    crowd = (points["candidates"] / (points["topk"] - 1)).to_numpy(dtype=float)
    hits, snr = 1.0 - points["miss_probability"].to_numpy(), points["snr"].to_numpy()
    margin = snr - points["reliable_snr"].to_numpy()
    figure, (left, right) = style.new_figure(2, width=11.2, height=5.0)
    shade = dict(c=crowd, norm=matplotlib.colors.LogNorm(*_range(crowd)), cmap="viridis", s=22, lw=0.4,
                 edgecolors="white", rasterized=style.too_many(hits))
    far = _against_snr(left, snr, hits, shade)
    dots, beyond = _against_rule(right, margin, hits, shade)
    style.headline(figure, "The pairwise formula beside the exact probability",
                   f"{len(points)} points; one dot for each, at its exact hit probability")
    bar = figure.colorbar(dots, ax=right, pad=0.02, label="candidates per routed block,  c / (k − 1)")
    if len(np.unique(crowd)) <= FEW_CROWDS:
        bar.set_ticks(np.unique(crowd), labels=[f"{value:.3g}" for value in np.unique(crowd)])
        bar.ax.minorticks_off()
    else:
        style.log_axis(bar.ax.yaxis)
    beside = [f"{far} of these lie right of the left picture." if far else "",
              f"{beyond} of these lie more than {REACH:g} from the rule, beyond the right one." if beyond else ""]
    drawn = f"Drawn: {len(points)} of {len(study.points)} points.{captions.selected(study)}"
    return Drawing(figure, drawn, left_out=" ".join(filter(None, [*beside, left_out])))


def _points(points):
    """The points that the formula is about, and a sentence on the others."""
    plain = np.ones(len(points), dtype=bool)
    for name in BEYOND:
        plain &= (points[name] == BY_NAME[name].plain).to_numpy() if name in points else True
    if not plain.any():
        raise NoData("no point has one needle, independent keys and scorer mean, which the pairwise formula is about")
    choice = ((points["topk"] >= 2) & (points["topk"] - 1 < points["candidates"])).to_numpy()
    if not (plain & choice).any():
        raise NoData("every point keeps all of its candidates or routes none, so SNR says nothing")
    known = points["miss_probability"].notna().to_numpy()
    if not (plain & choice & known).any():
        raise NoData("no point that the pairwise formula is about has an exact probability")
    reasons = ((~plain, "have several needles, correlated keys, a convolution or another scorer"),
               (plain & ~choice, "keep all of their candidates or route none"),
               (plain & choice & ~known, "have no exact probability"))
    told = [f"{int(rows.sum())} {words}" for rows, words in reasons if rows.any()]
    kept = points[plain & choice & known]
    left_out = f"Left out: {len(points) - len(kept)} of {len(points)} points: {', '.join(told)}." if told else ""
    return kept, left_out


def _range(values):
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low / 2.0, high * 2.0)


def _against_snr(axis, snr, hits, shade):
    """Draws the left picture; returns how many points lie right of it."""
    line = np.linspace(min(0.0, snr.min()), max(4.0, np.quantile(snr, 0.9)), 200)
    axis.plot(line, style.normal_cdf(line), "--", color=style.VERMILION)
    axis.text(line[0], 1.05, "Φ(SNR): probability of beating one given noise block", color=style.VERMILION, va="center")
    axis.scatter(snr, hits, **shade)
    above = int(np.sum(style.normal_cdf(snr) > hits))
    axis.set_title(f"Φ(SNR) is above the exact value at {above} of {len(hits)} points", loc="left")
    axis.set(xlabel=r"SNR $= \Delta\mu_{eff}\,\sqrt{d\,/\,2B}$", ylabel="hit probability  (exact)",
             xlim=(line[0] - 0.1, line[-1]), ylim=(-0.03, 1.1))
    return int(np.sum(snr > line[-1]))


def _against_rule(axis, margin, hits, shade):
    """Draws the right picture; returns its dots and how many points lie beyond it."""
    axis.axvline(0.0, color=style.VERMILION, ls="--")
    dots = axis.scatter(margin, hits, **shade)
    near = np.abs(margin) < NEAR
    title = "Exact hits by the distance from the paper's rule"
    if near.sum() >= 2:
        low, high = hits[near].min(), hits[near].max()
        title = f"Within {NEAR:g} of the rule, hits range from {low:.2f} to {high:.2f}"
        axis.plot([0.0, 0.0], [low, high], color=style.VERMILION, lw=5, alpha=0.35, solid_capstyle="butt")
    axis.set_title(title, loc="left")
    axis.set(xlabel=r"SNR $- \Phi^{-1}(1 - \frac{k-1}{c})$   (right of 0: reliable by the paper's rule)",
             xlim=(-REACH, REACH))
    return dots, int(np.sum(np.abs(margin) > REACH))
