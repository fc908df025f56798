"""What an audit says: a table for the terminal, a results file for programs."""

import json
import shutil
import textwrap

from .finding import FAILED, NOT_OFFERED, PASSED, REPORTED

SCHEMA = "mobalab-audit"
SCHEMA_VERSION = 1


def table(verdicts, worst_files):
    """Lines: status, check, what was measured, and below a failure its worst input and the file that has it."""
    width = max(len(v.check) for v in verdicts)
    columns = max(shutil.get_terminal_size((120, 24)).columns, 80)
    lines = []
    for v in verdicts:
        head = f"{v.status:<11}  {v.check:<{width}}  "
        text = textwrap.wrap(v.said, columns - len(head)) or [""]
        lines += [head + text[0]] + [" " * len(head) + more for more in text[1:]]
        if v.status == FAILED:
            where = f"worst: {v.case.name}" + (f", {v.worst}" if v.worst else "")
            lines += [" " * len(head) + more for more in textwrap.wrap(where, columns - len(head))]
            if v.check in worst_files:
                lines.append(" " * len(head) + f"input: {worst_files[v.check]}")
    return lines


def summary(name, verdicts):
    counts = {s: sum(v.status == s for v in verdicts) for s in (PASSED, FAILED, NOT_OFFERED, REPORTED)}
    return f"{name}: " + ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def record(subject, settings, verdicts, worst_files, versions):
    """The results file: plain JSON, keys in a fixed order."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "subject": subject.name,
        "arrays": subject.arrays.kind,
        "ties": subject.ties,
        "centroid_format": subject.centroid_format,
        **settings._asdict(),
        "versions": versions,
        "checks": [
            {
                "check": v.check,
                "question": v.question,
                "status": v.status,
                "inputs": v.inputs,
                "measured": v.said,
                "worst_input": v.case.name if v.case else "",
                "worst": v.worst,
                "file": worst_files.get(v.check, ""),
                "table": list(v.table),
            }
            for v in verdicts
        ],
    }


def as_json(found):
    return (json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
