"""The list of packages a corpus is made of: a CSV file whose rows say which files of which package to read."""

import csv
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import InputError

COLUMNS = ("package", "licence", "folder", "suffixes", "without", "megabytes")


@dataclass(frozen=True)
class Part:
    """Files of one folder of one package: those with one of the suffixes whose path does not match `without` (a
    regular expression, None for all), in the order of their paths, until they hold `limit` bytes of text."""

    package: str
    licence: str
    folder: str
    suffixes: tuple
    without: re.Pattern | None
    limit: int


def read_package_list(path):
    """The parts in the order of the file."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path} line 1", reader.fieldnames, "the names of the columns", ",".join(COLUMNS))
            parts = [_part(row, f"{path} line {reader.line_num}") for row in reader]
    except (OSError, UnicodeError, csv.Error) as failed:
        raise InputError("packages", path, f"a readable CSV file ({failed})", "corpus/packages.csv") from failed
    if not parts:
        raise InputError("packages", path, "a list of at least one package", "corpus/packages.csv")
    return parts


def _part(row, where):
    if None in row or None in row.values():
        raise InputError(where, row.get("package"), f"a row of {len(COLUMNS)} cells", ",".join(COLUMNS))
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", row["package"]):
        raise InputError(f"{where} package", row["package"], "a name of a Debian package", "python3-doc")
    if not row["licence"]:
        raise InputError(f"{where} licence", "''", "the licence's SPDX name", "MIT")
    folder = PurePosixPath(row["folder"])
    if folder.is_absolute() or ".." in folder.parts or not folder.parts:
        raise InputError(f"{where} folder", row["folder"], "a path inside the package", "usr/share/doc")
    suffixes = tuple(row["suffixes"].split())
    if not suffixes or not all(s.startswith(".") for s in suffixes):
        raise InputError(f"{where} suffixes", row["suffixes"], "endings of names that begin with a dot", ".txt .html")
    return Part(row["package"], row["licence"], str(folder), suffixes, _pattern(row, where), _limit(row, where))


def _pattern(row, where):
    try:
        return re.compile(row["without"]) if row["without"] else None
    except re.error as failed:
        raise InputError(f"{where} without", row["without"], f"a regular expression ({failed})", "/tests/") from failed


def _limit(row, where):
    try:
        limit = round(1e6 * float(row["megabytes"]))
    except (ValueError, OverflowError):
        limit = 0
    if not 0 < limit <= 10**10:
        raise InputError(f"{where} megabytes", row["megabytes"], "a number above 0 and at most 10000", "10")
    return limit
