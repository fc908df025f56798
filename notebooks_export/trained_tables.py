"""The tables about trained models as the figures read them: what is left out of an arm without its block size, lengths."""

import numpy as np

from notebooks_export.axes import BUDGET, RATIO, number
from notebooks_export.layout import NoData

AS_TRAINED = "as trained"
"""The variant of a model whose evaluation changed nothing."""

MOBA = "moba"


def with_ratios(table):
    """The table with d/B and k B, where a run routes; None for none or an empty one."""
    if table is None or table.empty or not {"head_dim", "block_size", "topk"} <= set(table):
        return None if table is None or table.empty else table
    routes = table["block_size"].where(table["attention"] == MOBA)
    return table.assign(**{RATIO.name: table["head_dim"] / routes, BUDGET.name: table["topk"] * routes})


def rows_of(study, table):
    """The rows of a table about trained models that --where keeps, of models as trained. Raises NoData."""
    rows = study.rows(table)
    if rows is None and study.rows_before.get(table):
        raise NoData(f"--where keeps no row of table '{table}'")
    if rows is None:
        raise NoData(f"no table '{table}'; it is written by mobalab training where the records have what it holds")
    rows = rows[rows["variant"] == AS_TRAINED] if "variant" in rows else rows
    if rows.empty:
        raise NoData(f"table '{table}' has no row of a model as trained")
    return rows


def known(rows, columns):
    """Those of the columns that have a value in some row."""
    return [name for name in columns if name in rows and rows[name].notna().any()]


def series_of(row):
    """What an arm is without its block size: `d 64, conv 3`; the scorer mean and no convolution are plain."""
    words = [f"d {number(row['head_dim'])}"]
    if row["key_conv"] > 0:
        words.append(f"conv {number(row['key_conv'])}")
    if row["scorer"] != "mean":
        words.append(row["scorer"])
    return ", ".join(words)


def with_series(rows):
    return rows.assign(series=[series_of(row) for _, row in rows.iterrows()])


def at_shortest(rows):
    """The rows at the shortest length of each run, which its training ended with."""
    return rows[rows["seq_len"] == rows.groupby(["file", "run"])["seq_len"].transform("min")]


def spread(values):
    """(mean, least, most)."""
    values = np.asarray(values, dtype=float)
    return values.mean(), values.min(), values.max()


def lengths_in_words(rows):
    lengths = sorted(rows["seq_len"].unique())
    return f"N = {', '.join(number(length) for length in lengths)}"


def count_of_models(rows):
    models = len(rows[["file", "run"]].drop_duplicates())
    return f"{models} trained model{'s' if models != 1 else ''}"
