"""The tables about a real model as the figures read them: routers in one word, means over heads, one look a router."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from notebooks_export import style
from notebooks_export.axes import BUDGET, HEAD, LAYER, MEASURE_AXES, ROUTER, ROUTER_PARTS, TRACE
from notebooks_export.layout import NoData

KEPT_FIRST = " + block 0"
"""Behind the name of a router that always keeps block 0."""

SPREAD = (0.1, 0.9)
"""Quantiles of the heads between which a figure shows their spread."""

LACKING = {"measure": "it is written by mobalab measure", "advise": "it is written by mobalab advise",
           "advise_heads": "it is written by mobalab advise",
           "measure_distance": "it is written by mobalab measure where some scorer routes"}

MOST_ROUTERS = 16
"""Routers in one panel: each has its own colour or mark."""

COLOURS = {"mean": style.BLUE, "quest": style.ORANGE, "max": style.GREEN, "submean": style.PURPLE,
           "cum2": style.VERMILION, "window": style.SKY, "oracle": style.BLACK, "random": style.GREY}
"""A scorer has one colour in every figure."""

MARKS = "osD^vPX*"


@dataclass(frozen=True)
class Look:
    """Of a curve."""

    colour: str
    mark: str
    dashes: object
    open: bool = False

    @property
    def fill(self):
        return "white" if self.open else self.colour


def with_router(table):
    """The table with columns `router` and k B, where it has the columns that say them; None for none or an empty one."""
    if table is None or table.empty or "scorer" not in table:
        return None if table is None or table.empty else table
    parts = [table[axis.name].fillna(axis.plain) if axis.name in table else [axis.plain] * len(table)
             for axis in ROUTER_PARTS]
    known = {key: router_name(*key) for key in set(zip(*parts))}
    return table.assign(**{ROUTER.name: [known[key] for key in zip(*parts)],
                           BUDGET.name: table["topk"] * table["block_size"]})


def router_name(scorer, keep_first, sub_blocks):
    """`mean`, `submean-4`, `mean + block 0`."""
    divided = f"{scorer}-{sub_blocks:.0f}" if sub_blocks > 1 and not scorer.endswith(f"-{sub_blocks:.0f}") else scorer
    return divided + (KEPT_FIRST if keep_first else "")


def rows_of(study, table):
    """The rows of a table about a model that --where keeps. Raises NoData."""
    rows = getattr(study, table)
    if rows is None and study.rows_before.get(table):
        raise NoData(f"--where keeps no row of table '{table}'")
    if rows is None:
        raise NoData(f"no table '{table}'; {LACKING[table]}")
    return rows


def known_values(rows, columns):
    """Those of the columns that the table has with a value."""
    return [name for name in columns if name in rows and rows[name].notna().any()]


def axes_for(view, rows):
    """The axes of a setting: `router` in one word, or its parts when the view names one of them; layer and head when it
    names them. Traces of different heads on one text are one model, others are told apart."""
    asked = [axis for axis in (view.x, view.colour, *view.panels) if axis]
    apart = any(axis in asked for axis in ROUTER_PARTS)
    hidden = {ROUTER} if apart and ROUTER not in asked else set(ROUTER_PARTS) - set(asked)
    hidden |= {LAYER, HEAD} - set(asked)
    if TRACE.name in rows and TRACE not in asked:
        heads = rows[["file", LAYER.name, HEAD.name]]
        one_model = all(name not in rows or rows[name].nunique() == 1 for name in ("model", "text", "rope"))
        if one_model and len(heads.drop_duplicates()) == len(heads.assign(trace=rows[TRACE.name]).drop_duplicates()):
            hidden.add(TRACE)
    return tuple(axis for axis in MEASURE_AXES if axis not in hidden)


def coloured_by_router(view, axes, settings):
    """The view with the router as colour, where it varies and the view has no other place for it and no other colour."""
    free = ROUTER in axes and not view.colour and ROUTER not in (view.x, *view.panels)
    return dataclasses.replace(view, colour=ROUTER) if free and settings[ROUTER.name].nunique() > 1 else view


def panels_of(view, without):
    """The view of a figure whose x and colours are its own: its panels, those of `without` left out."""
    return dataclasses.replace(view, x=None, colour=None, panels=tuple(axis for axis in view.panels if axis not in without))


def over_heads(rows, axes, values, averaged=()):
    """One row a setting of `axes`: `heads` and `layers`, how many it is the mean of, and of each value its mean, the means
    of its interval's ends, NAME_low and NAME_high, and its quantiles SPREAD, NAME_least and NAME_most.

    However the heads depend on each other, the mean's own interval is no wider than the mean of theirs. A mean of
    predicted_NAME is missing unless every head with a value has a prediction. Other columns `averaged` are averaged.
    """
    keys = [axis.name for axis in axes if axis.name in rows]
    groups = rows.groupby(keys, sort=False, dropna=False)
    means = [name for value in values for name in (value, f"{value}_low", f"{value}_high", f"predicted_{value}")
             if name in rows]
    table = groups[[*means, *averaged]].mean()
    for value in values:
        if f"predicted_{value}" in rows:
            lacking = (rows[value].notna() & rows[f"predicted_{value}"].isna()).groupby([rows[key] for key in keys],
                                                                                       sort=False, dropna=False).any()
            table[f"predicted_{value}"] = table[f"predicted_{value}"].mask(lacking.to_numpy())
    heads = rows[keys].assign(_layer=rows[LAYER.name], _head=rows[HEAD.name]).drop_duplicates()
    table["heads"] = heads.groupby(keys, sort=False, dropna=False).size()
    table["layers"] = heads.groupby(keys, sort=False, dropna=False)["_layer"].nunique()
    for value in values:
        for end, quantile in zip(("least", "most"), SPREAD):
            table[f"{value}_{end}"] = groups[value].quantile(quantile)
    return table.reset_index()


def heads_in_words(settings):
    """What the settings of over_heads() are means of: `72 heads of 8 layers`."""
    return " of ".join(_range(settings[name], name) for name in ("heads", "layers"))


def _range(counts, what):
    low, high = int(counts.min()), int(counts.max())
    return f"{low} to {high} {what}" if low < high else f"{high} {what if high > 1 else what.rstrip('s')}"


def confidence(study, table):
    """Of the intervals of a table, in words, or ""."""
    known = dict.fromkeys(f"{100.0 * float(results.group_attributes[table]['confidence']):g} %" for results in study.files
                          if "confidence" in results.group_attributes.get(table, {}))
    return " and ".join(known)


def looks(colour, values):
    """{value: Look} of the values of the axis `colour`: scorers in their own colours, open marks and dashes where block 0
    is kept. Without an axis (None) one look for None."""
    if colour is None:
        return {None: Look(style.BLUE, "o", "-")}
    if colour.name not in (ROUTER.name, "scorer"):
        return {value: Look(_cycled(style.SERIES, place), _cycled(MARKS, place // len(style.SERIES)), "-")
                for place, value in enumerate(values)}
    strangers, shown, used = [], {}, {}
    for value in values:
        scorer = value.removesuffix(KEPT_FIRST)
        base = scorer.split("-")[0]
        if base not in COLOURS and base not in strangers:
            strangers.append(base)
        colour = COLOURS.get(base) or _cycled(style.SERIES, strangers.index(base))
        kept = value.endswith(KEPT_FIRST)
        place = used.setdefault((colour, kept), [])
        place.append(value)
        shown[value] = Look(colour, _cycled(MARKS, len(place) - 1), (0, (5, 2)) if kept else "-", kept)
    return shown


def _cycled(values, place):
    return values[place % len(values)]


def chosen_settings(study):
    """Frame of the settings that `advise` chose, with the columns of the table `advise`; empty where no file has any."""
    tables = [with_router(results.tables["advise"]).assign(file=label) for results, label in zip(study.files, study.labels)
              if "advise" in results.tables and "chosen" in results.tables["advise"]]
    if not tables:
        return pd.DataFrame()
    together = pd.concat(tables, ignore_index=True)
    return together[together["chosen"] == 1]


def is_chosen(rows, study):
    """Which rows have the setting that advise chose."""
    chosen = chosen_settings(study)
    if chosen.empty:
        return np.zeros(len(rows), dtype=bool)
    keys = set(zip(chosen[ROUTER.name], chosen["block_size"], chosen["topk"]))
    return np.array([key in keys for key in zip(rows[ROUTER.name], rows["block_size"], rows["topk"])], dtype=bool)
