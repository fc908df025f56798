"""A map of layers and heads: what recall_map.py and chosen_heads.py share."""

import textwrap

import matplotlib
import numpy as np

from notebooks_export import style
from notebooks_export.layout import evenly, in_order

MOST_WRITTEN = 12
"""Heads of a map up to which the values are written into it."""

MOST_TICKS = 18

LEAST_END = 0.25
"""Where a scale ends at least: small losses look small."""

NO_VALUE = "#D9D9D9"

GOOD, BAD = "cividis", "YlOrBr"
"""Scales that are ordered in brightness, so that no kind of colour blindness hides them."""


class HeatMap:
    """Maps over all layers and heads of `rows`, so that the maps of a figure can be compared."""

    def __init__(self, rows):
        self.layers, self.heads = in_order(rows["layer"]), in_order(rows["head"])

    @property
    def height(self):
        """Inches that suit its layers."""
        return float(np.clip(0.27 * len(self.layers), 1.3, 7.0))

    @property
    def width(self):
        return float(np.clip(0.36 * len(self.heads), 1.6, 6.0))

    def draw(self, axis, rows, value, scale):
        """Means of `value` by layer and head; `scale` (a ScalarMappable) gives the colours. Returns the means,
        [layers, heads]."""
        table = rows.pivot_table(index="layer", columns="head", values=value, aggfunc="mean", dropna=False)
        values = table.reindex(index=self.layers, columns=self.heads).to_numpy(float)
        axis.set_facecolor(NO_VALUE)
        axis.pcolormesh(np.ma.masked_invalid(values), norm=scale.norm, cmap=scale.cmap,
                        rasterized=style.too_many(values.ravel()))
        if len(self.heads) <= MOST_WRITTEN:
            self._write(axis, values, scale)
        self._ticks(axis)
        return values

    def colour_bar(self, figure, axes, scale, label, **options):
        """Beside `axes`, its label in as many lines as its height asks for."""
        lines = textwrap.wrap(label, max(8, int(13.0 * self.height)))
        bar = figure.colorbar(scale, ax=axes, aspect=8.0 * self.height, pad=0.01, **options)
        bar.set_label("\n".join(lines), fontsize=9)

    def outline(self, axis, rows, colour):
        """A frame around the cells of `rows`."""
        for layer, head in zip(rows["layer"], rows["head"]):
            corner = self.heads.index(head) + 0.06, self.layers.index(layer) + 0.06
            axis.add_patch(matplotlib.patches.Rectangle(corner, 0.88, 0.88, fill=False, ec=colour, lw=1.8))

    def _write(self, axis, values, scale):
        size = 7.5 if len(self.layers) <= 20 else 6.0
        for (layer, head), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = scale.to_rgba(value)
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                axis.text(head + 0.5, layer + 0.5, two_digits(value), ha="center", va="center", fontsize=size,
                          color="white" if dark else "black")

    def _ticks(self, axis):
        for values, ticks in ((self.layers, axis.set_yticks), (self.heads, axis.set_xticks)):
            shown = evenly(range(len(values)), MOST_TICKS)
            ticks([place + 0.5 for place in shown], [f"{values[place]:.0f}" for place in shown], fontsize=8.5)
        axis.set_ylim(len(self.layers), 0)
        axis.grid(visible=False)
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)


def share_scale(name, most=1.0):
    """From 0 to `most`, or to LEAST_END where that is more."""
    return matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0.0, most if most > LEAST_END else LEAST_END), name)


def two_digits(value):
    """.46, 1, 0: a share in the room of a cell."""
    return f"{value:.2f}".lstrip("0").removesuffix(".00").replace("1.00", "1") or "0"
