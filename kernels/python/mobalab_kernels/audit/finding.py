"""What a check says of one input, and of a subject."""

from typing import NamedTuple

from .case import Case

PASSED, FAILED, NOT_OFFERED, REPORTED = "passed", "failed", "not offered", "reported"


class Finding(NamedTuple):
    """Of one input. `badness` orders findings of a check: the largest one is the worst input."""

    failed: bool
    badness: float
    said: str  # what was measured, beside its limit
    worst: str = ""  # where: head, row, block, element
    table: tuple = ()  # rows of numbers that the page shows: dicts with the same keys


class Verdict(NamedTuple):
    """Of a check on a subject: the worst finding of all its inputs."""

    check: str
    question: str
    status: str
    inputs: int = 0
    said: str = ""
    worst: str = ""
    case: Case = None
    table: tuple = ()


def verdict_of(check, findings):
    """check: a module of checks/; findings: [(Case, Finding)]."""
    case, worst = max(findings, key=lambda pair: (pair[1].failed, pair[1].badness))
    status = FAILED if worst.failed else REPORTED if check.REPORTS else PASSED
    table = tuple(row for _, finding in findings for row in finding.table)
    said = "; ".join(f.said for _, f in findings) if status == REPORTED else worst.said
    return Verdict(check.NAME, check.QUESTION, status, len(findings), said, worst.worst, case, table)
