"""Writes a results file as `mobalab training` does, with numbers that no model ever gave: only for tests of the figures."""

import h5py
import numpy as np

from synthetic_results import write_table

BLOCK_SIZES = (16, 32, 128)
LENGTHS = (2048, 8192)
SEEDS = (0, 1, 2)

ARMS = (*(("moba", block, 256 // block, "mean", conv) for conv in (0, 3) for block in BLOCK_SIZES),
        ("moba", 32, 16, "mean", 0), ("moba", 32, 8, "random", 0), ("dense", 0, 0, "none", 0), ("local", 0, 0, "none", 0))
"""(attention, block size, k, scorer, key_conv)"""

LANGUAGE_ARMS = (("dense", 0, 0, "none", 0, 2), ("moba", 512, 2, "mean", 0, 1), ("moba", 32, 32, "mean", 0, 1))
"""And the number of seeds."""


def arm_name(attention, block_size, topk, scorer, key_conv):
    words = [attention] + ([f"B {block_size} k {topk}"] if attention == "moba" else []) + ["d 64"]
    return " ".join(words + ([scorer] if scorer == "random" else []) + ([f"conv {key_conv}"] if key_conv else []))


def run_columns(arm, seed, experiment="recall"):
    attention, block_size, topk, scorer, key_conv = arm
    return dict(run=f"{arm_name(*arm)} s{seed}", experiment=experiment, arm=arm_name(*arm), attention=attention,
                block_size=block_size, topk=topk, scorer=scorer, key_conv=key_conv, head_dim=64, seed=seed, trained_len=2048)


def training(seed=20261201):
    """Rows of table training: as trained at two lengths, and one of a variant."""
    random = np.random.default_rng(seed)
    rows = []
    for arm in ARMS:
        for of_seed in SEEDS:
            for length in LENGTHS:
                value = random.uniform(0.3, 0.9)
                routes = arm[0] == "moba"
                predicted = [np.clip(value + random.normal(0.02, 0.03), 0, 1) if routes else np.nan for _ in range(3)]
                rows.append(dict(run_columns(arm, of_seed), variant="as trained", seq_len=length, accuracy=value,
                                 accuracy_low=value - 0.02, accuracy_high=value + 0.03, predicted_accuracy=predicted[0],
                                 predicted_accuracy_correlated=predicted[1], predicted_accuracy_retrieval_layer=predicted[2]))
    return rows + [dict(row, variant="no-conv", accuracy=0.05, accuracy_low=0.01) for row in rows
                   if row["key_conv"] and row["seq_len"] == LENGTHS[0]]


def heads(seed=20261202):
    random = np.random.default_rng(seed)
    rows = []
    for arm in ARMS[:8]:
        for layer, head, of_seed in ((1, 0, 0), (1, 1, 0), (3, 0, 1)):
            hit = random.uniform(0.1, 0.8)
            known = arm[3] != "random"
            rows.append(dict(run_columns(arm, of_seed), variant="as trained", seq_len=2048, layer=layer, head=head, hit=hit,
                             hit_low=hit - 0.03, hit_high=hit + 0.03, predicted_hit=hit + random.normal(0, 0.02),
                             uncorrected_hit=hit + 0.05 if known else np.nan))
    return rows + [dict(row, variant="gain", hit=0.02, hit_low=0.01) for row in rows if row["key_conv"]]


def curves():
    return [dict(run_columns(arm, seed), step=step, seq_len=512, tokens=step * 100, loss=7.0 * 0.999 ** step + 0.1 * seed,
                 accuracy=step / 2000, measured_accuracy=step / 2500, hit=step / 3000 if arm[0] == "moba" else np.nan,
                 signal_mean=step / 500 if arm[0] == "moba" else np.nan,
                 signal_sd=1.0 if arm[0] == "moba" else np.nan)
            for arm in ARMS for seed in SEEDS for step in (100, 500, 1000)]


def validation():
    rows = []
    for number, (*arm, seeds) in enumerate(LANGUAGE_ARMS):
        for seed in range(seeds):
            for step in (500, 1000):
                loss = 3.0 - step / 1000 + 0.02 * number + 0.01 * seed
                above = 0.02 * number if number else np.nan
                rows.append(dict(run_columns(arm, seed, "language"), seq_len=8192, step=step, loss=loss, loss_low=loss - 0.1,
                                 loss_high=loss + 0.1, loss_above_dense=above, loss_above_dense_low=above - 0.005,
                                 loss_above_dense_high=above + 0.005))
    return rows + [dict(row, seq_len=32768, loss=9.0, loss_high=9.1) for row in rows]


def positions():
    return [dict(run_columns(arm, seed, "language"), seq_len=8192, position_low=low, position_high=high,
                 loss=4.0 - 0.2 * np.log2(high) + 0.05 * number + 0.01 * seed)
            for number, (*arm, seeds) in enumerate(LANGUAGE_ARMS) for seed in range(seeds)
            for low, high in ((0, 64), (64, 512), (512, 8192))]


def needles():
    return [dict(run_columns(arm, seed, "language"), seq_len=length, depth=depth, asked=50, correct=25, accuracy=0.5 - 0.1 * number,
                 accuracy_low=0.4 - 0.1 * number, accuracy_high=0.6 - 0.1 * number)
            for number, (*arm, seeds) in enumerate(LANGUAGE_ARMS) for seed in range(seeds) for length in (8192, 32768)
            for depth in (0.0, 0.5, 1.0)]


def all_tables():
    return dict(training=training(), training_heads=heads(), training_curves=curves(), training_validation=validation(),
                training_positions=positions(), training_needles=needles())


def write(path, **tables):
    """A results file of tables (lists of rows) by their names."""
    with h5py.File(path, "w") as file:
        for name, value in dict(schema="mobalab results", schema_version=2, command="mobalab training r.jsonl",
                                git_commit="0123abcd", build="Release", device="cpu",
                                utc_time="2026-01-01T00:00:00Z").items():
            file.attrs[name] = value
        for name, rows in tables.items():
            columns = {column: _column([row[column] for row in rows]) for column in rows[0]}
            write_table(file, name, columns, "row", {"confidence": 0.95})
    return path


def _column(values):
    return np.array(values, dtype=object if isinstance(values[0], str) else None)
