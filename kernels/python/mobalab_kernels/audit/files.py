"""Files that appear whole or not at all, and go."""

import os
import tempfile
from pathlib import Path

from .._errors import invalid


def write_bytes(path, data):
    """Writes beside the path, syncs and renames: after a kill or a full disk the path holds the old file or the new."""
    target, temporary = Path(path).resolve(), None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as failed:
        rule = f"writable ({failed.strerror}); what stood there is unchanged"
        raise invalid("out", path, rule, "another folder") from failed
    finally:
        if temporary is not None:
            os.unlink(temporary)


def remove(path):
    """Removes a file, where there is one."""
    try:
        Path(path).unlink(missing_ok=True)
    except NotADirectoryError:
        pass
    except OSError as failed:
        raise invalid("out", path, f"a file that can be removed ({failed.strerror})", "another folder") from failed
