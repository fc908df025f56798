"""Runs checks on a subject."""

import difflib

from .._errors import invalid
from .checks import CHECKS
from .finding import FAILED, NOT_OFFERED, Finding, Verdict, verdict_of
from .subject import OPERATIONS, Refused


def missing(check, subject):
    """What the subject does not offer and the check needs, in words; '' where nothing is missing."""
    lacking = [need for need in check.NEEDS if not subject.offers(need)]
    if not check.NEEDS and not any(subject.offers(operation) for operation in OPERATIONS[1:3]):
        lacking = ["route or attention"]
    words = {"packed": "cu_seqlens"}
    return ", ".join(words.get(need, need) for need in lacking)


def judged(check, subject, case):
    """The finding of one input; a subject that raises or returns another shape has failed it."""
    try:
        return check.judge(subject, case)
    except Refused as refused:
        return Finding(True, float("inf"), str(refused).splitlines()[0])


def chosen(names):
    """The checks with these names, in the order of CHECKS; all of them for None."""
    known = {check.NAME: check for check in CHECKS}
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)[0]
            raise invalid("only", f"= {name!r}", f"one of {', '.join(known)}", repr(near))
    return tuple(check for name, check in known.items() if names is None or name in names)


def audit(subject, settings, checks=CHECKS, progress=lambda name: None):
    """[Verdict] of every check, in order."""
    verdicts = []
    for check in checks:
        lacking = missing(check, subject)
        if lacking:
            verdicts.append(Verdict(check.NAME, check.QUESTION, NOT_OFFERED, said=f"the subject has no {lacking}"))
            continue
        progress(check.NAME)
        verdicts.append(verdict_of(check, [(case, judged(check, subject, case)) for case in check.cases(settings)]))
    return verdicts


def replay(subject, case):
    """The Verdict of one input that an audit wrote."""
    check = next((c for c in CHECKS if case.check == c.NAME), None)
    if check is None:
        raise Refused(f"no check has the name {case.check!r}")
    lacking = missing(check, subject)
    if lacking:
        return Verdict(check.NAME, check.QUESTION, NOT_OFFERED, said=f"the subject has no {lacking}")
    return verdict_of(check, [(case, judged(check, subject, case))])


def exit_code(verdicts):
    """1 where a check failed, or where none was offered and nothing can be said; else 0."""
    statuses = [verdict.status for verdict in verdicts]
    return int(FAILED in statuses or all(status == NOT_OFFERED for status in statuses))
