"""The axes of a routing point: columns that say which question a row answers, their symbols, and values in words."""

from dataclasses import dataclass

import numpy as np

from notebooks_export.results import ExportError


@dataclass(frozen=True)
class Axis:
    """One column of a table of points that a sweep can vary.

    `symbol` is what the program's own tables call it, `math` the same for a picture, `words` what it is. `plain` is
    the value of the paper's setting, which rows without the column have. `alone` says what the value 1 means. `unused_if` is (column, value): where that
    column has this value, the axis means nothing.
    """

    name: str
    symbol: str
    words: str
    math: str = ""
    text: bool = False
    plain: object = None
    unused_if: tuple = ()
    alone: str = ""

    @property
    def label(self):
        """The name of an axis of a picture."""
        return f"{self.words},  {self.math or self.symbol}" if self.symbol != self.words else self.words

    def spell(self, value, math=False):
        """`k = 8`, `model sphere`, `a.h5`; with `math` in matplotlib's notation."""
        symbol = self.math if math and self.math else self.symbol
        if self.name == "file":
            return str(value)
        meaning = f" ({self.alone})" if self.alone and value == 1 else ""
        return f"{symbol} {value}" if self.text else f"{symbol} = {number(value)}{meaning}"


FILE = Axis("file", "file", "results file", text=True)
RATIO = Axis("d/B", "d/B", "head width / block size", math="d / B")
BUDGET = Axis("topk*block_size", "k B", "keys a query attends to", math="k B")

POINT = Axis("point", "point", "points of the file", text=True)

AXES = (
    FILE,
    Axis("model", "model", "model", text=True),
    Axis("head_dim", "d", "head width"),
    Axis("block_size", "B", "block size"),
    Axis("seq_len", "N", "tokens"),
    Axis("candidates", "c", "candidate blocks"),
    Axis("topk", "k", "blocks attended to"),
    Axis("cluster_size", "m", "related tokens in the needle's block", alone="needle alone"),
    Axis("mu_signal", "mu_signal", "affinity of the needle", math=r"$\mu_{signal}$"),
    Axis("mu_noise", "mu_noise", "affinity of a noise key", math=r"$\mu_{noise}$", plain=0.0),
    Axis("mu_cluster", "mu_cluster", "affinity of the cluster's other tokens", math=r"$\mu_{cluster}$",
         unused_if=("cluster_size", 1)),
    Axis("needles", "R", "needles", plain=1),
    Axis("goal", "goal", "goal", text=True, plain="each", unused_if=("needles", 1)),
    Axis("key_correlation", "rho", "correlation of the keys of a block", math=r"$\rho$", plain=0.0),
    Axis("key_memory", "memory", "memory of the keys (tokens)", plain=0),
    Axis("key_mean", "key_mean", "length of the keys' mean", plain=0.0),
    Axis("query_mean", "query_mean", "cosine of query and keys' mean", plain=0.0),
    Axis("effective_dim", "d_eff", "effective dimension of the keys", plain=0.0),
    Axis("sink", "sink", "sink", plain=0.0),
    Axis("shared_mean", "shared_mean", "common mean of the keys (spreads)", plain=0.0),
    Axis("key_conv", "W", "width of the key convolution", plain=0),
    Axis("key_conv_tap", "tap", "weight of the key convolution", plain=1.0, unused_if=("key_conv", 0)),
    Axis("key_conv_activation", "activation", "activation of the key convolution", text=True, plain="silu",
         unused_if=("key_conv", 0)),
    Axis("scorer", "scorer", "scorer", text=True, plain="mean"),
    BUDGET,
    RATIO,
)

BY_POINT = {axis.name: axis for axis in AXES}

BENCH_AXES = (
    FILE,
    Axis("measurement", "measurement", "measurement", text=True),
    *(BY_POINT[name] for name in ("head_dim", "block_size", "seq_len", "topk")),
    Axis("batch", "batch", "sequences"),
    Axis("heads", "heads", "heads"),
    Axis("dtype", "dtype", "element type", text=True),
    Axis("threads", "threads", "threads"),
)

BY_BENCH = {axis.name: axis for axis in BENCH_AXES}

LAYER = Axis("layer", "layer", "layer")
HEAD = Axis("head", "head", "head")
TRACE = Axis("trace", "trace", "trace", text=True)
ROUTER = Axis("router", "router", "router", text=True)

ROUTER_PARTS = (BY_POINT["scorer"], Axis("keep_first", "keep_first", "block 0 always kept", plain=0),
                Axis("sub_blocks", "sub_blocks", "sub-blocks", plain=1))
"""What `router` says in one word."""

MEASURE_AXES = (FILE, BY_POINT["model"], TRACE, BY_BENCH["dtype"],
                Axis("centroids", "centroids", "centroids", text=True, plain="dtype"), LAYER, HEAD,
                BY_POINT["block_size"], BY_POINT["seq_len"], BY_POINT["topk"], ROUTER, *ROUTER_PARTS, BUDGET)
"""Of the tables of real models (measure, advise)."""

ARM = Axis("arm", "arm", "arm", text=True)
VARIANT = Axis("variant", "variant", "variant", text=True)

TRAINING_AXES = (FILE, Axis("experiment", "experiment", "experiment", text=True), ARM,
                 Axis("attention", "attention", "attention", text=True), BY_POINT["head_dim"], BY_POINT["block_size"],
                 BY_POINT["topk"], BUDGET, RATIO, BY_POINT["scorer"], BY_POINT["key_conv"], BY_POINT["seq_len"],
                 VARIANT, LAYER, HEAD, Axis("seed", "seed", "seed of the training"),
                 Axis("run", "run", "trained model", text=True))
"""Of the tables of trained models."""

BY_NAME = {axis.name: axis for axis in AXES + BENCH_AXES + MEASURE_AXES + TRAINING_AXES}

OTHER_SPELLINGS = {**{axis.symbol: axis.name for axis in BY_NAME.values()}, "mu": "mu_signal",
                   "head_dim/block_size": "d/B", "kB": "topk*block_size", "block_size*topk": "topk*block_size"}


def column_name(word):
    """A column as the file spells it: `head-dim`, `d` and `head_dim` are one."""
    word = word.strip()
    return OTHER_SPELLINGS.get(word, word if word in BY_NAME else word.replace("-", "_"))


def find_axis(option, word, tables):
    """The axis that --x, --colour or --panels names, which must be a column of one of the frames. Raises ExportError."""
    name = column_name(word)
    if name in BY_NAME and any(name in table for table in tables):
        return BY_NAME[name]
    there = [axis.name for axis in BY_NAME.values() if any(axis.name in table for table in tables)]
    varying = [column for column in there if any(column in table and table[column].nunique() > 1 for table in tables)]
    what = "is not in the files" if name in BY_NAME else "is no axis of a sweep"
    vary = f"what varies in the files is {', '.join(varying)}" if varying else "nothing varies in the files"
    near = nearest_hint(name, there) or f"; nearest valid: {(varying or there)[0]}"
    raise ExportError(f"{option} = {word or '(nothing)'}: {what}; {vary}{near}")


def nearest_hint(word, choices):
    """"; nearest valid: WORD" when some choice is close, otherwise nothing."""
    import difflib
    near = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; nearest valid: {near[0]}" if near else ""


def number(value):
    """A number as people write it here: 8K, 0.8, 1e-07."""
    if isinstance(value, str):
        return value
    value = float(value)
    if value >= 1024 and value % 1024 == 0:
        millions = value >= 2**20 and value % 2**20 == 0
        return f"{value / 2**20:.0f}M" if millions else f"{value / 1024:.0f}K"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e7 else f"{value:.6g}"


def same_values(values):
    """Numbers that differ in rounding only made equal: 0.30000000000000004 of a range is the 0.3 of a list."""
    values = np.asarray(values)
    if values.dtype.kind not in "fc":
        return values
    return np.array([float(f"{value:.12g}") for value in values.ravel()])
