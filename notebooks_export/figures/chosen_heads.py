"""What the setting that advise chose loses in every head, and which heads should stay dense."""

import matplotlib

from notebooks_export import style
from notebooks_export.drawing import Drawing
from notebooks_export.figures.frontier import setting_words
from notebooks_export.figures.heat_map import BAD, GOOD, HeatMap, share_scale
from notebooks_export.layout import NoData
from notebooks_export.model_tables import LACKING, known_values, with_router

VALUES = {"mass_recall": ("recall of attention mass", GOOD), "lost_mass": ("mass that is lost", BAD),
          "needle_hit": ("needles found", GOOD)}


def draw(results):
    """A map of layers and heads for each value that the table has; heads that should stay dense are framed."""
    rows = results.tables.get("advise_heads")
    if rows is None or rows.empty:
        raise NoData(f"no table 'advise_heads'; {LACKING['advise_heads']}")
    values = known_values(rows, VALUES)
    if not values:
        raise NoData(f"table 'advise_heads' has no value in {', '.join(VALUES)}")
    heat = HeatMap(rows)
    dense = rows[rows["stay_dense"] == 1] if "stay_dense" in rows else rows.iloc[:0]
    figure, axes = style.new_figure(len(values), width=2.2 + max((heat.width + 1.1) * len(values), 7.0),
                                    height=1.7 + heat.height)
    setting = _setting(results)
    said = f"{len(dense)} of {len(rows)} heads should stay dense" if "stay_dense" in rows else f"{len(rows)} heads"
    style.headline(figure, "What does the chosen setting lose, head by head?", "; ".join(filter(None, [setting, said])))
    for axis, value in zip(axes, values):
        name, colours = VALUES[value]
        scale = share_scale(colours, 1.0 if colours == GOOD else float(rows[value].max()))
        heat.draw(axis, rows, value, scale)
        heat.outline(axis, dense, style.VERMILION)
        axis.set_title(name, loc="left")
        axis.set_xlabel("head")
        heat.colour_bar(figure, [axis], scale, "")
    axes[0].set_ylabel("layer")
    if len(dense):
        handle = matplotlib.patches.Patch(fill=False, ec=style.VERMILION, lw=1.8, label="should stay dense")
        figure.legend(handles=[handle], loc="upper right", bbox_to_anchor=(0.995, 0.995))
    missing = [f"Not in the file: {value}." for value in VALUES if value not in values]
    drawn = f"Drawn: {said}{f'; setting: {setting}' if setting else ''}. x is the head, y the layer.{_why(dense)}"
    return Drawing(figure, drawn, " ".join(["Grey: no value.", *_several(rows)]),
                   " ".join([*missing, "Shows the whole file, whatever --where says."]))


def _several(rows):
    if rows.duplicated(["layer", "head"]).any():
        yield "A head in several rows (traces) is drawn as their mean, framed where one of them should stay dense."


def _setting(results):
    """The chosen setting in words; empty where the file does not name it."""
    table = with_router(results.tables.get("advise"))
    chosen = table[table["chosen"] == 1] if table is not None and "chosen" in table else ()
    return setting_words(chosen.iloc[0]) if len(chosen) == 1 else ""


def _why(dense):
    if not len(dense) or "why" not in dense:
        return ""
    reasons = dense["why"].value_counts()
    return f" Why heads stay dense: {'; '.join(f'{reason} ({count})' for reason, count in reasons.items())}."[:600]
