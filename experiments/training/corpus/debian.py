"""Debian packages: fetched by apt-get, unpacked without being installed."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError


@dataclass(frozen=True)
class Package:
    """An unpacked package: folder holds its files as they would lie under /."""

    name: str
    version: str
    sha256: str
    folder: Path


def fetch(name, workspace, folders):
    """Downloads and unpacks the package that apt knows under this name. folders: those that are wanted, relative to /;
    a source package's usr/src/*.tar.xz is unpacked too, as far as they need it."""
    downloads = workspace / "downloads" / name
    downloads.mkdir(parents=True, exist_ok=True)
    if not list(downloads.glob("*.deb")):
        _run(["apt-get", "download", "-qq", name], name, downloads)
    deb = next(iter(sorted(downloads.glob("*.deb"))), None)
    if deb is None:
        raise InputError("package", name, "one that apt-get downloads", "a name that apt-cache search lists")
    folder = workspace / "unpacked" / name
    folder.mkdir(parents=True, exist_ok=True)
    _run(["dpkg-deb", "-x", deb, folder], name)
    for archive in sorted(folder.glob("usr/src/*.tar.xz")):
        inside = [str(Path(f).relative_to("usr/src")) for f in folders if f.startswith("usr/src/")]
        _run(["tar", "-xJf", archive, "-C", archive.parent, *inside], name)
    version = _run(["dpkg-deb", "-f", deb, "Version"], name).strip()
    return Package(name, version, hashlib.sha256(deb.read_bytes()).hexdigest(), folder)


def _run(command, name, folder=None):
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as failed:
        raise InputError("package", name, f"read on a Debian system ({failed})", "run this on Debian") from failed
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError("package", name, f"one that {command[0]} can read ({reason})", "apt-get update, then again")
    return done.stdout
