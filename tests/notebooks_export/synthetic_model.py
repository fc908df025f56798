"""Writes a results file as measure and advise do, with numbers that no model ever gave: only for tests of the figures."""

import itertools

import h5py
import numpy as np

from synthetic_results import write_table

ROUTERS = (("mean", 0, 1), ("mean", 1, 1), ("quest", 0, 1), ("submean", 0, 4), ("random", 0, 1), ("oracle", 0, 1))
"""(scorer, keep_first, sub_blocks)"""

SETTINGS = ((16, 8), (32, 8), (64, 8), (128, 8), (16, 64), (32, 32), (64, 16))
"""(block size, k): k = 8 at four block sizes, k B = 1024 at four."""

KEYS = ("layer", "head", "block_size", "topk", "scorer", "keep_first", "sub_blocks")
EDGES = (64, 128, 256, 1024, 4096)


def measure(layers=(0, 5), heads=3, settings=SETTINGS, routers=ROUTERS, seed=20260101):
    """Columns of the table measure; with needles and predictions."""
    random = np.random.default_rng(seed)
    rows = [(layer, head, block, k, *router) for (block, k), router, layer, head in
            itertools.product(settings, routers, layers, range(heads))]
    columns = {name: _column(values) for name, values in zip(KEYS, zip(*rows))}
    size = len(rows)
    columns.update(rows=np.full(size, 512), seq_len=np.full(size, 4096), trace=np.full(size, "a.safetensors", dtype=object),
                   text=np.full(size, "a book", dtype=object))
    for name in ("mass_recall", "lost_mass", "needle_hit"):
        value = random.uniform(0.05, 0.95, size)
        columns.update({name: value, f"{name}_low": value - 0.04, f"{name}_high": value + 0.04})
    for name in ("mass_recall", "needle_hit"):
        columns[f"predicted_{name}"] = np.clip(columns[name] + random.normal(0.0, 0.03, size), 0.0, 1.0)
    for name in ("own_share", "window_share", "sink_share"):
        columns[name] = random.uniform(0.0, 1.0, size)
    return columns


def distances(columns, edges=EDGES, seed=20260102):
    """Columns of measure_distance: each setting's routed blocks and mass in bins of distance."""
    random = np.random.default_rng(seed)
    size, bins = len(columns["layer"]), len(edges) - 1
    table = {name: np.repeat(columns[name], bins) for name in (*KEYS, "trace")}
    table["distance_low"], table["distance_high"] = np.tile(edges[:-1], size), np.tile(edges[1:], size)
    for name in ("routed_share", "mass_share"):
        table[name] = random.dirichlet(np.ones(bins), size).ravel()
    return table


def advise(columns, chosen=0):
    """Columns of the tables advise and advise_heads; the setting in row `chosen` of the first is the chosen one."""
    names = KEYS[2:]
    settings = list(dict.fromkeys(zip(*(columns[name] for name in names))))
    key = list(zip(*(columns[name] for name in names)))
    mean = np.array([np.mean([value for value, of in zip(columns["mass_recall"], key) if of == setting])
                     for setting in settings])
    table = {name: _column(values) for name, values in zip(names, zip(*settings))}
    cost = table["block_size"] * (table["topk"] - 0.5)
    frontier = [not np.any((cost <= cost[row]) & (mean > mean[row])) and not np.any((cost < cost[row]) & (mean == mean[row]))
                for row in range(len(settings))]
    table.update(seq_len=np.full(len(settings), 4096), heads=np.full(len(settings), 6), mean_mass_recall=mean,
                 mean_mass_recall_low=mean - 0.02, mean_mass_recall_high=np.minimum(mean + 0.02, 1.0),
                 worst_head_recall=mean * 0.5, keys_attended=cost,
                 milliseconds=np.where(table["scorer"] == "oracle", np.nan, 0.1 * cost ** 0.9),
                 on_frontier=np.array(frontier, dtype=np.int64),
                 chosen=(np.arange(len(settings)) == chosen).astype(np.int64))
    there = [row for row, of in enumerate(key) if of == settings[chosen]]
    heads = {name: columns[name][there] for name in ("layer", "head", "mass_recall", "lost_mass", "needle_hit")}
    heads["stay_dense"] = (heads["lost_mass"] > 0.5).astype(np.int64)
    heads["why"] = np.array(["loses more than half" if dense else "" for dense in heads["stay_dense"]], dtype=object)
    return table, heads


def write(path, **tables):
    """A results file of tables (dictionaries of columns) by their names."""
    with h5py.File(path, "w") as file:
        for name, value in dict(schema="mobalab results", schema_version=2, command="mobalab measure a.safetensors",
                                seed="1", git_commit="0123abcd", build="Release", device="cpu",
                                utc_time="2026-01-01T00:00:00Z").items():
            file.attrs[name] = value
        for name, columns in tables.items():
            write_table(file, name, columns, "row", {"confidence": 0.95})
    return path


def write_all(path, chosen=0, **grid):
    """Every table about a model."""
    columns = measure(**grid)
    table, heads = advise(columns, chosen)
    return write(path, measure=columns, measure_distance=distances(columns), advise=table, advise_heads=heads)


def _column(values):
    return np.array(values, dtype=object if isinstance(values[0], str) else None)
