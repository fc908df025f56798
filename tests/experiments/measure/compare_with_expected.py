#!/usr/bin/env python3
"""Compares `mobalab measure` with values that were computed in float64 from the same traces.

Usage: compare_with_expected.py PROGRAM FOLDER [FLAG...]

FOLDER holds traces and expected.csv: file, layer, head, B, k, scorer, mass_recall, mass_recall_no0, lost_mass,
needle_hit, distant_hit, fact_hit. FLAGs go to every call of the program (--device cuda). Masses must agree to 1e-4 and
hits to one row in a thousand, or one row where there are fewer. Exit code 0: they do; 1: they do not.
"""

import csv
import io
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

# expected.csv's scorer: ours, keep_first, whether its summaries are not rounded (of 16-bit keys only means can be)
SCORERS = {"mean": ("mean", 0, True), "mean+sink": ("mean", 1, True), "mean_bf16": ("mean", 0, False),
           "recent": ("window", 0, False), "maxpool": ("max", 0, False), "quest": ("quest", 0, False),
           "cum2": ("cum2", 0, False), "oracle": ("oracle", 0, False), "random": ("random", 0, False)}
MASSES = ("mass_recall", "mass_recall_no0", "lost_mass")
HITS = {"needle_hit": "needle_rows", "distant_hit": "distant_rows", "fact_hit": "fact_pairs"}


def measured(program, path, scorers, flags):
    """Rows by (layer, head, B, k, scorer, keep_first)."""
    command = [program, "measure", path, "--block-size", "16:512:x2", "--budget", "1024", "--topk", "8", "--scorer",
               ",".join(sorted(scorers)), "--csv", *flags]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {tuple(row[name] for name in ("layer", "head", "block_size", "topk", "scorer", "keep_first")): row
            for row in csv.DictReader(io.StringIO(text))}


def differences(expected, row):
    """(quantity, difference, allowed) of one row of expected.csv."""
    for name in (*MASSES, *HITS):
        if (expected[name] == "") != (row[name] == ""):
            yield name, float("inf"), 0.0
        elif expected[name] != "":
            allowed = 1e-4 if name in MASSES else max(1e-3, 1.0 / float(row[HITS[name]])) + 1e-6
            yield name, abs(float(expected[name]) - float(row[name])), allowed


def main(program, folder, flags):
    names = {kind: {ours for ours, _, unrounded in SCORERS.values() if unrounded == kind} for kind in (True, False)}
    by_file = defaultdict(list)
    with open(Path(folder) / "expected.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_file[row["file"]].append(row)
    largest, failures, compared = defaultdict(float), 0, 0
    for name, rows in by_file.items():
        path = str(Path(folder) / name)
        tables = {True: measured(program, path, names[True], ["--keep-first", "both", "--centroids", "fp32", *flags]),
                  False: measured(program, path, names[False], flags)}
        for expected in rows:
            ours, keep_first, unrounded = SCORERS[expected["scorer"]]
            key = (expected["layer"], expected["head"], expected["B"], expected["k"], ours, str(keep_first))
            for quantity, difference, allowed in differences(expected, tables[unrounded][key]):
                compared += 1
                largest[quantity] = max(largest[quantity], difference)
                if not difference <= allowed:
                    failures += 1
                    print(f"{name} {expected['scorer']} {key}: {quantity} differs by {difference:.6f}, more than "
                          f"{allowed:.6f}")
    print(f"{compared} numbers compared, {failures} differ too much; largest differences: "
          + ", ".join(f"{quantity} {value:.1e}" for quantity, value in largest.items()))
    return 1 if failures or not compared else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
