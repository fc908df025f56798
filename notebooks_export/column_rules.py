"""What the columns of a results file may hold. A file that mobalab wrote always passes; one that another program made or
changed (it has no seal) need not."""

from dataclasses import dataclass
from typing import Optional

import numpy as np


class ColumnError(Exception):
    """One line: the column, the row, the value and the rule."""


@dataclass(frozen=True)
class Numbers:
    """Finite numbers in [low, high]; `whole` ones are counts or sizes. `missing` allows NaN, `infinite` both infinities.

    `slack` forgives the rounding of a probability that another program computed again.
    """

    low: float = -np.inf
    high: float = np.inf
    whole: bool = False
    missing: bool = False
    infinite: bool = False
    slack: float = 0.0

    def words(self):
        kind = "a whole number" if self.whole else "a number"
        if np.isfinite(self.low) and np.isfinite(self.high):
            kind += f" from {self.low:g} to {self.high:g}"
        elif np.isfinite(self.low):
            kind += f" of at least {self.low:g}"
        elif np.isfinite(self.high):
            kind += f" of at most {self.high:g}"
        return kind

    def check(self, name, values):
        if values.dtype.kind not in "iuf":
            raise ColumnError(f"column '{name}' holds {_kind(values)} and must hold numbers")
        good = (values >= self.low - self.slack) & (values <= self.high + self.slack)
        good &= self.infinite | np.isfinite(values)
        if self.whole:
            good &= values == np.floor(values)
        if self.missing:
            good |= np.isnan(values)
        _refuse_first(name, values, good, self.words())


@dataclass(frozen=True)
class Words:
    """Text; of `among` when given."""

    among: Optional[tuple] = None

    def check(self, name, values):
        if values.dtype.kind != "O" or not all(isinstance(value, str) for value in values):
            raise ColumnError(f"column '{name}' holds {_kind(values)} and must hold text")
        if self.among is not None:
            _refuse_first(name, values, np.isin(values.astype(str), self.among), "one of " + ", ".join(self.among))


SIZE = Numbers(low=1, whole=True)
COUNT = Numbers(low=0, whole=True)
AFFINITY = Numbers(low=-1, high=1)
PROBABILITY = Numbers(low=0, high=1, missing=True, slack=1e-9)
TIME = Numbers(low=0)
RATE = Numbers(low=0, missing=True)
SHARE = Numbers(low=0, high=1, missing=True, slack=1e-5)
FLAG = Numbers(low=0, high=1, whole=True)

SHARES = ("mass_recall", "mass_recall_no0", "lost_mass", "needle_hit", "distant_hit", "fact_hit", "rounding_changed",
          "mean_mass_recall", "mean_needle_hit")
"""Measured in fp32 on real queries and keys; each may have its interval, _low and _high."""

RULES = {
    "model": Words(among=("gaussian", "gaussian-fixed", "sphere", "vector", "text")),
    "head_dim": SIZE, "block_size": SIZE, "candidates": SIZE, "topk": SIZE, "cluster_size": SIZE,
    "seq_len": COUNT, "mu_signal": AFFINITY, "mu_noise": AFFINITY, "mu_cluster": AFFINITY,
    "snr": Numbers(missing=True), "reliable_snr": Numbers(missing=True, infinite=True),
    "log_miss_probability": Numbers(high=0, missing=True, infinite=True, slack=1e-9),
    "pairwise_miss": PROBABILITY, "miss_probability": PROBABILITY, "approximate_miss_probability": PROBABILITY, "hit_probability": PROBABILITY,
    "needles": SIZE, "goal": Words(among=("each", "any", "all")), "key_correlation": Numbers(low=0, high=1),
    "key_memory": COUNT, "key_mean": Numbers(low=0, high=1), "query_mean": Numbers(low=-1, high=1),
    "effective_dim": Numbers(low=0), "sink": Numbers(low=0),
    "key_conv": COUNT, "key_conv_tap": Numbers(), "key_conv_activation": Words(),
    "scorer": Words(),
    "candidates_low": SIZE, "candidates_high": SIZE, "kernel_expected_miss": PROBABILITY, "kernel_key_sets": COUNT,
    "kind": Words(), "expected_miss": PROBABILITY, "observed_miss": PROBABILITY,
    "z": Numbers(missing=True, infinite=True), "p_value": PROBABILITY, "adjusted_p": PROBABILITY,
    "name": Words(), "seconds_median": TIME, "seconds_low": TIME, "seconds_high": TIME, "peer": Words(),
    "layer": COUNT, "head": COUNT, "sub_blocks": SIZE, "keep_first": FLAG, "trace": Words(), "text": Words(),
    **{f"{name}{end}": SHARE for name in SHARES for end in ("", "_low", "_high")},
    **{name: SHARE for name in ("own_share", "window_share", "sink_share", "distance_r2", "predicted_mass_recall",
                                "predicted_needle_hit", "worst_head_recall", "routed_share", "mass_share")},
    "distance_low": COUNT, "distance_high": COUNT, "heads": COUNT, "keys_attended": RATE, "milliseconds": RATE,
    "on_frontier": FLAG, "chosen": FLAG, "stay_dense": FLAG, "why": Words(),
    "gflops": RATE, "gbytes_per_second": RATE, "ratio_to_peer": RATE,
}
"""By the column's name, in every table."""

OF_A_MODEL = {"model": Words(), "rope": Words(), "dtype": Words(), "centroids": Words(), "device": Words()}
"""Where a table is about a real model, these take the place of RULES."""

WITH_INTERVALS = ("accuracy", "hit", "any_hit", "loss", "mean_absolute_error")
"""Values of a training that may have their interval."""

OF_A_TRAINING = {
    "block_size": COUNT, "topk": COUNT, "layer": Numbers(low=0, whole=True, missing=True), "device": Words(), "arm": Words(),
    "run": Words(), "attention": Words(among=("dense", "moba", "local")), "experiment": Words(), "variant": Words(),
    "quantity": Words(), "lengths": Words(), "values": COUNT, "seeds": COUNT, "step": COUNT, "depth": Numbers(low=0, high=1),
    "position_low": COUNT, "position_high": COUNT, "offset": Numbers(whole=True), "cosine": Numbers(low=-1, high=1, slack=1e-3),
    **{f"{name}{end}": Numbers(low=0, missing=True) if name == "loss" else SHARE for name in WITH_INTERVALS
       for end in ("", "_low", "_high")},
    **{name: SHARE for name in (
        "own_share", "found_share", "read_out", "answered_unrouted", "independent_any_hit", "predicted_any_hit",
        "predicted_accuracy", "predicted_any_hit_correlated", "predicted_accuracy_correlated", "predicted_accuracy_retrieval_layer",
        "predicted_hit", "uncorrected_hit", "measured_accuracy")},
    "signal_mean": Numbers(missing=True), "signal_sd": Numbers(low=0, missing=True), "mean_error": Numbers(low=-1, high=1),
    **{name: Numbers(low=-1, high=1, missing=True, slack=1e-3) for name in ("mu_signal", "mu_noise", "mu_cluster")},
    "cluster_size": RATE, "loss_above_dense": Numbers(missing=True), "tokens": COUNT,
}
"""Where a table is about trained models, these take the place of RULES."""

COUNTS = ("trials", "misses", "miss", "miss_low", "miss_high")
"""What belongs together behind a prefix (sim_, kernel_)."""

ORDERED = (("candidates_low", "candidates_high"), ("distance_low", "distance_high"),
           *((f"{name}_low", f"{name}_high") for name in (*SHARES, *WITH_INTERVALS, "loss_above_dense", "position")),
           ("seconds_low", "seconds_median"), ("seconds_median", "seconds_high"),
           *((f"{prefix}_{low}", f"{prefix}_{high}") for prefix in ("sim", "kernel")
             for low, high in (("misses", "trials"), ("miss_low", "miss_high"))))
"""In each of these pairs the first is at most the second."""

POINT = "point"
"""The row of the table of points that a row of another table is about; -1: all of them."""


def check_table(columns, fill_values, points, own_rules=()):
    """Raises ColumnError when a column of `columns` (name to array) cannot be what its name says.

    `fill_values` names the columns that mark missing integers; `points` is the number of rows of the table of points
    that the column `point` counts in, or None. `own_rules` of the table take the place of RULES.
    """
    for name, values in columns.items():
        if values.dtype.kind not in "iufO":
            raise ColumnError(f"column '{name}' holds {_kind(values)}; a table holds numbers and text")
        if values.dtype.kind == "O" and not all(isinstance(value, str) for value in values):
            raise ColumnError(f"column '{name}' holds {_kind(values)}; a table holds numbers and text")
        rule = own_rules[name] if name in own_rules else _rule(name, name in fill_values)
        if rule is not None:
            rule.check(name, values)
    for prefix in ("sim", "kernel"):
        missing = [f"{prefix}_{name}" for name in COUNTS if f"{prefix}_{name}" not in columns]
        if 0 < len(missing) < len(COUNTS):
            raise ColumnError(f"{', '.join(missing)} missing beside the other columns of these counts")
    for low, high in ORDERED:
        if low in columns and high in columns:
            good = ~(columns[low] > columns[high] * (1 + 1e-9))
            _refuse_first(low, columns[low], good, f"at most its '{high}'")
    if POINT in columns and points is not None:
        Numbers(low=-1, high=points - 1, whole=True).check(POINT, columns[POINT])


def _rule(name, has_fill_value):
    prefix, _, rest = name.partition("_")
    if prefix in ("sim", "kernel") and rest in COUNTS:
        return Numbers(low=0, whole=True, missing=has_fill_value) if rest in COUNTS[:2] else PROBABILITY
    return RULES.get(name)


def _kind(values):
    kinds = {"V": "compound values", "b": "truth values", "c": "complex numbers", "m": "durations", "M": "times",
             "S": "text", "U": "text", "i": "numbers", "u": "numbers", "f": "numbers"}
    if values.dtype.kind == "O":
        return "text" if all(isinstance(value, str) for value in values) else "arrays or references"
    return kinds.get(values.dtype.kind, f"values of type {values.dtype}")


def _refuse_first(name, values, good, rule):
    if not np.all(good):
        row = int(np.argmin(good))
        raise ColumnError(f"column '{name}' is {values[row]} in row {row} and must be {rule}")
