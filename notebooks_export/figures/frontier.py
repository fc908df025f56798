"""What advise weighed: recall of every setting against its cost, the frontier, the setting that was chosen."""

import matplotlib
import numpy as np

from notebooks_export import captions, style
from notebooks_export.axes import ROUTER, number
from notebooks_export.drawing import Drawing
from notebooks_export.figures.curves import arms
from notebooks_export.layout import NoData, evenly, in_order
from notebooks_export.model_tables import MOST_ROUTERS, known_values, looks, rows_of

COSTS = {"keys_attended": "keys a query attends to", "milliseconds": "milliseconds"}

RECALLS = {"mean_mass_recall": "recall of attention mass, mean over heads", "mean_needle_hit": "needles found"}
"""The first that the table has a value of stands along y; without a trace there is no mass."""

MOST_LABELS = 12
"""Frontier settings that get their B and k written beside them."""

LABEL_ROOM = 0.05
"""Share of a panel's width that is kept free on the left for a label."""

MOST_FILES = 4


def draw(study):
    """A panel for each cost, a row of panels for each file."""
    rows = rows_of(study, "advise")
    costs = known_values(rows, COSTS)
    recall = next(iter(known_values(rows, RECALLS)), None)
    if not costs or recall is None:
        raise NoData(f"table 'advise' has no value in {' and '.join(RECALLS)} or none in {' and '.join(COSTS)}")
    names = evenly(in_order(rows[ROUTER.name]), MOST_ROUTERS)
    files = in_order(rows["file"])[:MOST_FILES]
    marks = looks(ROUTER, names)
    shown = rows[rows[ROUTER.name].isin(names) & rows["file"].isin(files)]
    figure, axes = style.new_figure(len(costs) * len(files), columns=len(costs), width=3.6 + max(4.6 * len(costs), 6.0),
                                    height=1.3 + 3.9 * len(files))
    style.headline(figure, "What does recall cost?", _held(shown))
    joined = []
    for place, file in enumerate(files):
        for column, cost in enumerate(costs):
            axis = axes[place * len(costs) + column]
            part = shown[shown["file"] == file].dropna(subset=[cost, recall])
            _panel(axis, part, cost, recall, marks)
            joined.append(_frontier(axis, part, cost, recall))
            axis.set(xlabel=COSTS[cost], ylim=(-0.03, 1.08), ylabel="" if column else RECALLS[recall])
            axis.set_title(file if len(files) > 1 else "", loc="left")
    _legend(axes[len(costs) - 1], shown, marks, any(joined))
    by = " and by ".join(COSTS[cost] for cost in costs)
    drawn = (f"Drawn: {_plural(len(shown), 'setting')} by {by}; a colour for each router."
             f"{captions.selected(study, table='advise')} {_chosen_words(study, shown, recall)}")
    return Drawing(figure, drawn.rstrip(),
                   " ".join(_marks(shown, any(joined))), " ".join(_left_out(rows, shown, costs, names)))


def _held(rows):
    parts = [f"N = {number(rows['seq_len'].iloc[0])}" if "seq_len" in rows and rows["seq_len"].nunique() == 1 else "",
             f"{rows['heads'].iloc[0]:.0f} heads" if "heads" in rows and rows["heads"].nunique() == 1 else ""]
    return "; ".join(filter(None, parts + [_plural(len(rows), "setting")]))


def _plural(count, what):
    return f"{count} {what}{'s' if count != 1 else ''}"


def _flag(rows, name):
    return (rows[name] == 1).to_numpy() if name in rows else np.zeros(len(rows), dtype=bool)


def _panel(axis, rows, cost, recall, marks):
    axis.set_xscale("log", base=2)
    style.log_axis(axis.xaxis)
    for name, look in marks.items():
        part = rows[rows[ROUTER.name] == name]
        axis.plot(part[cost], part[recall], look.mark, color=look.colour, mfc=look.fill, ms=5, alpha=0.6, mew=1.0,
                  rasterized=style.too_many(part))


def _frontier(axis, rows, cost, recall):
    """The frontier's settings with their intervals, the chosen one ringed; joined only where they are a frontier in this
    cost. Returns whether they are."""
    best = rows[_flag(rows, "on_frontier")].sort_values([cost, recall], kind="stable")
    rising = len(best) > 1 and bool(np.all(np.diff(best[recall]) >= -1e-9))
    if rising:
        axis.plot(best[cost], best[recall], "-", color=style.BLACK, lw=1.3, zorder=1.5)
    if len(best) and {f"{recall}_low", f"{recall}_high"} <= set(best):
        value = best[recall].to_numpy(float)
        axis.errorbar(best[cost], value, yerr=arms(value, best[f"{recall}_low"], best[f"{recall}_high"]), fmt="none",
                      ecolor=style.BLACK, elinewidth=0.9)
    if "worst_head_recall" in best:
        axis.plot(best[cost], best["worst_head_recall"], "v", color=style.GREY, ms=5, mfc="white")
    if rising:
        apart = best.drop_duplicates([cost, "block_size", "topk"])
        for _, row in apart.iloc[evenly(range(len(apart)), MOST_LABELS)].iterrows():
            axis.annotate(f"{row['block_size']:.0f}/{row['topk']:.0f}", (row[cost], row[recall]), xytext=(-3, 6), fontsize=8,
                          textcoords="offset points", ha="right", color=style.GREY)
    chosen = rows[_flag(rows, "chosen")]
    low, high = axis.get_xlim()
    axis.set_xlim(low / (high / low) ** LABEL_ROOM, high)
    axis.plot(chosen[cost], chosen[recall], "o", mfc="none", mec=style.VERMILION, ms=14, mew=2.2)
    return rising


def _legend(axis, rows, marks, joined):
    line = matplotlib.lines.Line2D
    handles = [line([], [], ls="", marker=look.mark, color=look.colour, mfc=look.fill, label=name)
               for name, look in marks.items() if (rows[ROUTER.name] == name).any()]
    if joined:
        handles.append(line([], [], color=style.BLACK, lw=1.3, label="frontier (B/k), interval"))
    if _flag(rows, "on_frontier").any() and "worst_head_recall" in rows:
        handles.append(line([], [], ls="", marker="v", color=style.GREY, mfc="white", label="the worst head there"))
    if _flag(rows, "chosen").any():
        handles.append(line([], [], ls="", marker="o", mec=style.VERMILION, mfc="none", ms=11, mew=2.2, label="chosen"))
    style.outside_legend(axis, handles=handles)


def _chosen_words(study, rows, recall):
    """The settings that are chosen, and what advise said of them."""
    said = [f"Chosen: {setting_words(row)}, {row[recall]:.3g}{_interval(row, recall)}."
            for _, row in rows[_flag(rows, "chosen")].iterrows()]
    said += [results.group_attributes["advise"]["recommendation"] for results in study.files
             if "recommendation" in results.group_attributes.get("advise", {})]
    return " ".join(said)


def setting_words(row):
    """`quest, B = 32, k = 32`."""
    return f"{row[ROUTER.name]}, B = {number(row['block_size'])}, k = {number(row['topk'])}"


def _interval(row, recall):
    low, high = row.get(f"{recall}_low", np.nan), row.get(f"{recall}_high", np.nan)
    return f" ({low:.3g} to {high:.3g})" if np.isfinite(low) and np.isfinite(high) else ""


def _marks(rows, joined):
    if joined:
        yield "The line joins the settings that no other beats at their cost; written beside them is B/k."
    elif _flag(rows, "on_frontier").any():
        yield "The frontier's settings do not rise with the cost drawn, so they are not joined."
    if "worst_head_recall" in rows and _flag(rows, "on_frontier").any():
        yield "Triangles are the recall of the worst head of those settings."


def _left_out(rows, shown, costs, names):
    if len(shown) < len(rows):
        yield f"Left out: {len(rows) - len(shown)} of {len(rows)} settings (choose with --where)."
    for cost in COSTS:
        if cost not in costs:
            yield f"No setting has a value of {cost}."
        elif (missing := int(shown[cost].isna().sum())) > 0:
            yield f"{_plural(missing, 'setting')} without {cost} {'are' if missing > 1 else 'is'} not in its panel."
    if "on_frontier" not in rows:
        yield "The file does not say which settings are on the frontier."
    if not _flag(rows, "chosen").any():
        yield "No setting is chosen."
