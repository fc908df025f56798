"""`import with_program` first: the first argument is the program that the package mobalab calls, and the package is found."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = os.path.abspath(sys.argv.pop(1))

os.environ["MOBALAB_PROGRAM"] = PROGRAM
os.environ["PYTHONPATH"] = str(ROOT / "experiments" / "python")  # of processes that a test starts
sys.path.insert(0, os.environ["PYTHONPATH"])

import mobalab  # noqa: E402


def error_of(call, *arguments, **others):
    """The text of the MobalabError that the call ends in."""
    try:
        call(*arguments, **others)
    except mobalab.MobalabError as error:
        return str(error)
    raise AssertionError("no error")
