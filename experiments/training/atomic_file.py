"""Files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path

from .errors import InputError


def write_bytes(path, data):
    """Writes beside the path, syncs and renames: after a kill or a full disk the path holds the old file or the new."""
    target = Path(path).resolve()
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
        _sync_folder(target.parent)
    except OSError as failed:
        raise InputError(
            "path", path, f"writable ({failed.strerror}); what stood there is unchanged", "another folder"
        ) from failed
    finally:
        if temporary is not None:
            os.unlink(temporary)


def _sync_folder(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
