#!/usr/bin/env python3
"""How far predictions are off on a model's traces, by layer: |predicted - measured| over heads and settings.

python3 tests/perf/prediction_errors.py PROGRAM TRACES WORK OUT [HEADS]

PROGRAM is mobalab; TRACES holds smollm2_<text>_<length>.safetensors of the texts below, made with the recorder; what each run of
`mobalab measure --predict` prints is kept in WORK and not run again; OUT.csv and OUT.md are written. Every run measures 1024
rows a head (1,4,7: one of each key head, unless HEADS says otherwise) at B 16 to 512 with k = 8 and k B = 1024. Settings that keep
every candidate are left out.

The form of the law and the rule for longer texts were chosen on the first text of each kind; the second is held out.
"""

import csv
import statistics
import subprocess
import sys
from pathlib import Path

KINDS = {"book": ("prose_persuasion", "prose_emma"), "code": ("code_argparse", "code_zipfile"),
         "facts": ("facts_rustfacts", "facts_northangerfacts")}
QUANTITIES = ("needle_hit", "mass_recall")
LAWS = ("one-pass", "standardised", "empirical")


def trace_name(text, length):
    return f"smollm2_{text}_{length}.safetensors"


class Runs:
    def __init__(self, program, traces, work, heads):
        self.program, self.traces, self.work, self.heads = program, Path(traces), Path(work), heads
        self.work.mkdir(parents=True, exist_ok=True)

    def table(self, text, length, law, source=None):
        """Rows by (layer, head, B, k) of the text measured beside the law's prediction from `source` (text, length)."""
        name = f"{text}_{length}.{law}." + ("own" if source is None else f"{source[0]}_{source[1]}") + ".csv"
        path = self.work / name
        if not path.exists():
            command = [self.program, "measure", str(self.traces / trace_name(text, length)), "--block-size", "16:512:x2",
                       "--topk", "8", "--budget", "1024", "--head", self.heads, "--rows", "1024", "--predict", law, "--csv"]
            if source is not None:
                command += ["--statistics", str(self.traces / trace_name(*source))]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            path.with_suffix(".tmp").write_text(printed, encoding="utf-8")
            path.with_suffix(".tmp").rename(path)
        with path.open(encoding="utf-8", newline="") as file:
            rows = {tuple(int(row[c]) for c in ("layer", "head", "block_size", "topk")): row for row in csv.DictReader(file)}
        return {key: row for key, row in rows.items() if key[3] - 1 < (int(row["seq_len"]) - 1) // key[2]}


def number(text):
    return float(text) if text else float("nan")


def errors(rows, quantity, predictions=None):
    """(layer, error, inside its interval) of every setting; None: it cannot be told. `predictions`: measured rows to copy."""
    found = []
    for key, row in rows.items():
        measured = number(row[quantity])
        if measured != measured or (predictions is not None and key not in predictions):
            continue
        value = number(row["predicted_" + quantity] if predictions is None else predictions[key][quantity])
        inside = None
        if predictions is None and value == value and "predicted_" + quantity + "_low" in row:
            inside = number(row[f"predicted_{quantity}_low"]) <= measured <= number(row[f"predicted_{quantity}_high"])
        found.append((key[0], None if value != value else value - measured, inside))
    return found


def summary(found):
    told = [error for _, error, _ in found if error is not None]
    inside = [flag for _, _, flag in found if flag is not None]
    sizes = sorted(abs(error) for error in told)
    return {"settings": len(found), "told": len(told) / len(found), "mean_error": statistics.mean(sizes),
            "bias": statistics.mean(told), "q95": sizes[int(0.95 * len(sizes))], "largest": sizes[-1],
            "covered": sum(inside) / len(inside) if inside else float("nan")}


def comparisons(runs):
    """(section, text, what, {quantity: errors})."""
    for kind, (chosen, held) in KINDS.items():
        for text, label in ((held, "held out"), (chosen, "chosen on")):
            for law in LAWS if text == "prose_emma" else LAWS[:1]:
                rows = runs.table(text, 4096, law)
                yield "other rows of the same text", f"{kind}, {label}", law, {q: errors(rows, q) for q in QUANTITIES}
        rows = runs.table(held, 4096, "one-pass", (chosen, 4096))
        yield "another text of the same length", f"{kind}, held out", "one-pass", {q: errors(rows, q) for q in QUANTITIES}
        copied = runs.table(chosen, 4096, "one-pass")
        rows = runs.table(held, 4096, "one-pass")
        yield ("another text of the same length", f"{kind}, held out", "its measured recall",
               {q: errors(rows, q, copied) for q in QUANTITIES})
    for kind, texts in KINDS.items():
        for text, label in zip(texts, ("chosen on", "held out")):
            rows = runs.table(text, 8192, "one-pass", (text, 4096))
            yield ("8192 tokens from the first 4096" if kind != "facts" else "8192 tokens from a text of 4096 of its kind",
                   f"{kind}, {label}", "one-pass, with its interval", {q: errors(rows, q) for q in QUANTITIES})
        rows = runs.table(texts[1], 8192, "one-pass")
        yield "other rows of the same text, 8192 tokens", f"{kind}, held out", "one-pass", {q: errors(rows, q)
                                                                                           for q in QUANTITIES}


def write(runs, out):
    lines, table = [], []
    layers = []
    for section, text, what, of_quantities in comparisons(runs):
        for quantity, found in of_quantities.items():
            layers = sorted({layer for layer, _, _ in found})
            for layer in ["all", *layers]:
                part = [entry for entry in found if layer in ("all", entry[0])]
                if any(error is not None for _, error, _ in part):
                    table.append({"statistics_of": section, "text": text, "law": what, "quantity": quantity, "layer": layer,
                                  **{name: f"{value:.4f}" if isinstance(value, float) else value
                                     for name, value in summary(part).items()}})
    with Path(out + ".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    for section in dict.fromkeys(row["statistics_of"] for row in table):
        lines += ["", f"## Statistics: {section}", "",
                  "| text | law | | settings | told | mean error | bias | 95 % | largest | in interval | by layer "
                  + ", ".join(map(str, layers)) + " |", "|" + "---|" * 11]
        rows = [row for row in table if row["statistics_of"] == section]
        for row in rows:
            if row["layer"] != "all":
                continue
            of_layers = " ".join(f"{float(other['mean_error']):.3f}"[1:] for other in rows if other["layer"] != "all" and
                                 all(other[c] == row[c] for c in ("text", "law", "quantity")))
            cells = [row["text"], row["law"], row["quantity"], row["settings"], f"{float(row['told']):.2f}",
                     *(f"{float(row[c]):.3f}" for c in ("mean_error", "bias", "q95", "largest")),
                     "" if row["covered"] == "nan" else f"{float(row['covered']):.2f}", of_layers]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main():
    program, traces, work, out = sys.argv[1:5]
    heads = sys.argv[5] if len(sys.argv) > 5 else "1,4,7"
    lines = write(Runs(program, traces, work, heads), out)
    head = ["# How far predictions are off on a real model", "",
            "Absolute errors of predicted needle hits and mass recall over layers, heads and settings, SmolLM2-135M-Instruct (30 layers, 9 query",
            "and 3 key heads, d 64), texts of 4096 tokens (8192 where it says so), queries of the last half. Made by", "", "```sh",
            f"python3 tests/perf/prediction_errors.py build/bin/mobalab TRACES WORK tests/perf/results/prediction_errors {heads}",
            "```", "", f"with heads {heads} of each recorded layer, scorer mean, B 16 to 512, k = 8 and k B = 1024, settings that keep every "
            "candidate left out;", "1024 rows measured. The law's form and the rule for longer texts were chosen on the texts marked so, before the others were "
            "looked at; the intervals of the other",
            "predictions, and the stated errors of `validate`, are read from this table. "
            "Copying (`its measured recall`) needs a measurement of the other text.", "`told`: share of settings that a prediction is made of; `in interval`: measured within low and high of the prediction."]
    Path(out + ".md").write_text("\n".join(head + lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
