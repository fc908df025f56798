"""What goes wrong, as one exception; what is only to be said, as warnings."""

import sys
import warnings
from pathlib import Path


class MobalabError(Exception):
    """Bad input, a file or a device that cannot be used, or a run that ended before its time.

    The text is the program's own: it names the value, the rule and the nearest valid choice.
    """


class MobalabWarning(UserWarning):
    """What the program says beside its results, such as how many impossible points were left out."""


def nearest_hint(word: str, choices: list[str]) -> str:
    """"; nearest valid: WORD" when some choice is close, otherwise nothing."""
    import difflib

    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; nearest valid: {near[0]}" if near else ""


def warn(text: str) -> None:
    """A MobalabWarning at the line of the caller's program that called this package."""
    package, level = str(Path(__file__).resolve().parent), 2
    while sys._getframe(level - 1).f_code.co_filename.startswith(package) and sys._getframe(level - 1).f_back is not None:
        level += 1
    warnings.warn(text, MobalabWarning, stacklevel=level)
