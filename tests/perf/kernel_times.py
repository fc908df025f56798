#!/usr/bin/env python3
"""Times of routing and of the whole forward pass for every setting that `mobalab advise --budget-ms` can choose.

    PYTHONPATH=kernels/python MOBALAB_KERNELS_LIBRARY=build/lib/libmobalab_kernels.so \
        python3 tests/perf/kernel_times.py --out experiments/advise/kernel_times_h100.csv

Needs PyTorch with CUDA. Tensors are bf16 and random, so routing is spread evenly, batch 2, causal; a head's width comes
with 2048 channels in all (16 heads of 128, 32 of 64). Medians of CUDA events over rotating inputs after a warm-up, as in
compare_gpu.py; of every setting sampled rows of the output are checked in float64 over their own routing, and that block
0 is routed where it must be, before it is timed. Settings that the kernels refuse are left out and counted. The file is
written again after each length, so that a run cut short leaves what it had; --resume goes on with one.
"""

import argparse
import csv
import pathlib
import subprocess
import sys

import torch

import compare_gpu
import mobalab_kernels as mk

LENGTHS = [2048, 4096, 8192, 16384, 32768, 65536, 131072]
HEADS = {64: 32, 128: 16}  # by width
BLOCK_SIZES = [16, 32, 64, 128, 256, 512]
BUDGETS = [512, 1024, 2048, 4096]  # keys: k = budget / B
EVERY_BLOCK = 8  # k that every block size has
SCORERS = ["mean", "quest", "max"]
MOST_TOPK = 64  # of the CUDA kernels
COLUMNS = ["head_dim", "batch", "heads", "seq_len", "block_size", "topk", "scorer", "keep_first", "route_ms", "forward_ms"]
REFUSED = 2  # MOBALAB_UNSUPPORTED
MOST_ERROR = 4e-3  # relative, of outputs in bf16
SAMPLED_ROWS = 8


def settings(n, scorers):
    for block in BLOCK_SIZES:
        topks = sorted({EVERY_BLOCK, *(budget // block for budget in BUDGETS)})
        for topk in topks:
            if 2 <= topk <= min(MOST_TOPK, n // block):
                for scorer in scorers:
                    yield from ((block, topk, scorer, keep_first) for keep_first in (False, True))


def check(q, k, v, block, topk, options):
    out, _, selection = mk.moba_forward(q, k, v, block, topk, **options)
    rows = compare_gpu.sampled_rows(q, k, selection, block, rows=SAMPLED_ROWS)
    error = compare_gpu.relative_error(
        (out[at[0], at[2], at[1]], compare_gpu.probabilities(q, k, at) @ v[at[0], at[3], at[1]].double()) for at in rows)
    kept = selection.unflatten(1, q.shape[:2])[:, :, block:, 0]
    if not error < MOST_ERROR or (options["keep_first"] and not bool((kept == 0).all())):
        sys.exit(f"wrong results at B {block}, k {topk}, {options}: error {error:.2e}; refusing to time them")


def times(inputs, block, topk, options, repeats):
    check(*inputs[0], block, topk, options)
    route = compare_gpu.median_ms(lambda q, k, v: mk.route(q, k, block, topk, **options), inputs, repeats)
    forward = compare_gpu.median_ms(lambda q, k, v: mk.moba_forward(q, k, v, block, topk, **options), inputs, repeats)
    return {"route_ms": f"{route:.5g}", "forward_ms": f"{forward:.5g}"}


def measure(n, head_dim, scorers, done):
    """Rows of this length and width that are not done; how many settings the kernels refused."""
    heads = HEADS[head_dim]
    inputs = [compare_gpu.make_inputs(n, heads, head_dim, False, seed) for seed in (1, 2)]
    repeats = 20 if n <= 32768 else 7
    rows, refused = [], 0
    for block, topk, scorer, keep_first in settings(n, scorers):
        row = dict(zip(COLUMNS, (head_dim, compare_gpu.BATCH, heads, n, block, topk, scorer, int(keep_first))))
        if tuple(str(value) for value in row.values()) in done:
            continue
        try:
            rows.append(row | times(inputs, block, topk, {"scorer": scorer, "keep_first": keep_first}, repeats))
        except mk.Error as error:
            if error.code != REFUSED:
                raise
            refused += 1
            print(f"refused: d {head_dim}, N {n}, B {block}, k {topk}, {scorer}: {error}", flush=True)
    return rows, refused


def commit():
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def write(path, notes, rows):
    order = sorted(rows, key=lambda row: (int(row["head_dim"]), row["scorer"], int(row["keep_first"]),
                                          int(row["block_size"]), int(row["topk"]), int(row["seq_len"])))
    new = path.with_suffix(".new")
    with new.open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {key}: {value}\n" for key, value in notes.items())
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(order)
    new.replace(path)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--seq-len", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--scorer", nargs="+", default=SCORERS)
    parser.add_argument("--commit", default=commit(), help="of the kernels; by default of the working tree's git")
    parser.add_argument("--resume", action="store_true", help="keep the rows of --out")
    options = parser.parse_args()
    if not options.commit:
        sys.exit("no git here: name the commit of the kernels with --commit")
    notes = {"device": torch.cuda.get_device_name(), "commit": options.commit,
             "command": "python3 tests/perf/kernel_times.py"}
    rows = read(options.out) if options.resume and options.out.exists() else []
    done = {tuple(row[column] for column in COLUMNS[:-2]) for row in rows}
    for n in options.seq_len:
        for head_dim in HEADS:
            more, refused = measure(n, head_dim, options.scorer, done)
            rows += more
            write(options.out, notes, rows)
            print(f"N {n}, d {head_dim}: {len(more)} settings, {refused} refused", flush=True)


if __name__ == "__main__":
    main()
