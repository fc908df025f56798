"""Files that appear whole or not at all, and go."""

from pathlib import Path

from .._atomic_file import replacing
from .._errors import invalid


def write_bytes(path, data):
    """Writes beside the path, syncs and renames: after a kill or a full disk the path holds the old file or the new."""
    target = Path(path).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, 0o644) as file:
            file.write(data)
    except OSError as failed:
        rule = f"writable ({failed.strerror}); what stood there is unchanged"
        raise invalid("out", path, rule, "another folder") from failed


def remove(path):
    """Removes a file, where there is one."""
    try:
        Path(path).unlink(missing_ok=True)
    except NotADirectoryError:
        pass
    except OSError as failed:
        raise invalid("out", path, f"a file that can be removed ({failed.strerror})", "another folder") from failed
