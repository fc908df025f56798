"""The documents of a list of packages, and what the manifest says of each package."""

import tempfile
from collections import Counter
from pathlib import Path

from .. import progress
from ..errors import InputError
from . import debian
from .cleaning import clean_text
from .documents import KnownLines, documents


def gather(parts, cache):
    """(documents, packages) of the parts: a list of Document, and one dictionary for each package with its version,
    licence, and how many files were read and left out, and why. cache: a folder to keep downloads in, or None."""
    with tempfile.TemporaryDirectory(prefix="mobalab-corpus-") as temporary:
        workspace = Path(cache or temporary)
        shown = progress.Progress("packages")
        known, files, packages = KnownLines(), [], {}
        for number, part in enumerate(parts):
            shown.update(number / len(parts), part.package)
            folders = [p.folder for p in parts if p.package == part.package]
            if part.package not in packages:
                found = debian.fetch(part.package, workspace, folders)
                packages[part.package] = _entry(part, found), found.folder
            entry, folder = packages[part.package]
            if entry["licence"] != part.licence:
                raise InputError("licence", part.licence, "that of the package's first row", entry["licence"])
            files += _read(part, folder, known, entry)
        shown.clear()
    return list(documents(files)), [_finished(entry) for entry, _ in packages.values()]


def _entry(part, found):
    return {
        "package": part.package,
        "version": found.version,
        "licence": part.licence,
        "deb_sha256": found.sha256,
        "files": 0,
        "bytes": 0,
        "left_out": Counter(),
    }


def _finished(entry):
    return {**entry, "left_out": dict(sorted(entry["left_out"].items()))}


def _read(part, folder, known, entry):
    """The part's files as (package, path, text); counts go to entry."""
    root = folder / part.folder
    if not root.is_dir():
        raise InputError("folder", part.folder, f"a folder of package {part.package}", _nearest(root, folder))
    held = 0
    for path in sorted(p for p in root.rglob("*") if p.name.endswith(part.suffixes)):
        name = str(path.relative_to(folder))
        if path.is_symlink() or not path.is_file() or (part.without and part.without.search(name)):
            continue
        text, reason = clean_text(path.name, path.read_bytes())
        if reason is None and not known.is_new(text):
            reason = "known"
        size = 0 if reason else len(text.encode())
        if held + size > part.limit:
            reason = "over the limit"
        if reason:
            entry["left_out"][reason] += 1
            continue
        held += size
        entry["files"] += 1
        entry["bytes"] += size
        yield part.package, name, text


def _nearest(path, root):
    """The longest beginning of the path that exists, below root."""
    while not path.is_dir():
        path = path.parent
    return path.relative_to(root)
