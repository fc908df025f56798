"""Records of training runs: JSON lines, which `mobalab training` reads. README.md defines every field.

One object a line, UTF-8. Numbers are finite; a statistic that does not exist is absent.
"""

import json
import math
from pathlib import Path

from .atomic_file import write_bytes
from .errors import InputError

REQUIRED = {
    "run": (
        "experiment attention block_size topk scorer key_conv head_dim heads layers width parameters seed seq_len steps "
        "tokens seconds device torch commit"
    ),
    "accuracy": "seq_len asked correct sequences sequence_correct own_block any_hit",
    "head": "seq_len layer head queries hits sequence_queries sequence_hits own_block candidates",
    "curve": "step seq_len tokens loss seconds",
    "position": "seq_len from to tokens loss",
    "validation": "step seq_len tokens loss sequence_loss",
    "needle": "seq_len depth asked correct",
}
REQUIRED = {kind: ("kind", "run", *names.split()) for kind, names in REQUIRED.items()}


def check(record):
    """The record, if it has what its kind needs and only numbers that JSON knows; AssertionError: a fault of ours."""
    kind = record.get("kind")
    assert kind in REQUIRED, f"kind {kind!r}"
    missing = [name for name in REQUIRED[kind] if name not in record]
    assert not missing, f"record {kind} without {', '.join(missing)}"
    _check_finite(record, kind)
    return record


def _check_finite(value, where):
    if isinstance(value, dict):
        for name, part in value.items():
            _check_finite(part, f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for part in value:
            _check_finite(part, where)
    elif isinstance(value, float):
        assert math.isfinite(value), f"{where} is {value}"
    else:
        assert value is None or isinstance(value, (int, str)), f"{where} is a {type(value).__name__}"


def finite(**numbers):
    """Those that are finite: what a statistic of no data leaves out."""
    return {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}


def write(path, records):
    """Writes all records as one file, atomically."""
    lines = (json.dumps(check(r), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n" for r in records)
    write_bytes(path, "".join(lines).encode())


def read(path):
    """The records of a file; InputError names the line that is none."""
    records = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(check(json.loads(line)))
        except (ValueError, AttributeError, AssertionError) as failed:
            raise InputError(f"{path} line {number}", line[:40], f"a record ({failed})", "remove the file") from failed
    return records
