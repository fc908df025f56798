"""What the records of the language experiment say, as lines of text: one for each model."""

from .. import records

CLUSTERED_ERRORS = 1.96  # standard errors on each side of an estimate


def summary_lines(found):
    """Lines of a table; found: records of one experiment. Losses are at the trained length, differences are to the
    dense model of the lowest seed, on the same sequences, with CLUSTERED_ERRORS standard errors over documents."""
    runs = [record for record in found if record["kind"] == "run"]
    if not runs:
        return []
    last = {run["run"]: _last_validation(found, run) for run in runs}
    dense = min((run for run in runs if run["attention"] == "dense"), key=lambda run: run["seed"], default=None)
    lengths = sorted({record["seq_len"] for record in found if record["kind"] == "needle"})
    heads = ["run", "nats a token", "less dense", "+-", *(f"needles {n}" for n in lengths)]
    rows = [[run["run"], *_cells(found, run, last, dense, lengths)] for run in runs]
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (heads, *rows)]


def _cells(found, run, last, dense, lengths):
    record = last[run["run"]]
    difference = ["", ""]
    if dense is not None and run is not dense:
        difference = [f"{x:.4f}" for x in paired_difference(record, last[dense["run"]])]
    return [f"{record['loss']:.4f}", *difference, *(_needles(found, run["run"], n) for n in lengths)]


def _last_validation(found, run):
    same = [r for r in found if r["kind"] == "validation" and r["run"] == run["run"] and r["seq_len"] == run["seq_len"]]
    return max(same, key=lambda record: record["step"])


def paired_difference(record, other):
    """(mean of record's losses less other's, CLUSTERED_ERRORS times its standard error), both nats a token.

    Two "validation" records of the same sequences. Sequences of one document are one cluster, so the error is that of
    a ratio of sums over documents; infinite where there is only one.
    """
    differences = [a - b for a, b in zip(record["sequence_loss"], other["sequence_loss"], strict=True)]
    mean = sum(differences) / len(differences)
    clusters = {}
    for document, difference in zip(record["sequence_document"], differences, strict=True):
        clusters[document] = clusters.get(document, 0.0) + difference - mean
    if len(clusters) < 2:
        return mean, float("inf")
    square = sum(x * x for x in clusters.values()) * len(clusters) / (len(clusters) - 1)
    return mean, CLUSTERED_ERRORS * square**0.5 / len(differences)


def _needles(found, name, seq_len):
    asked = [r for r in found if r["kind"] == "needle" and r["run"] == name and r["seq_len"] == seq_len]
    return f"{sum(r['correct'] for r in asked)} of {sum(r['asked'] for r in asked)}"


def print_summary(path):
    for line in summary_lines(records.read(path)):
        print(line)
