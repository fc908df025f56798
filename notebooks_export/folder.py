"""Writes the files of an export: all of them or, when one cannot be written, none."""

import contextlib
import os
import signal
import tempfile
import threading

from notebooks_export.results import ExportError


def write_files(folder, files):
    """Writes {name: bytes} into `folder`, made when missing, and returns the paths. Raises ExportError.

    Every file is written and synced beside its place before the first one is moved there, so a full disk changes
    nothing. A signal that comes meanwhile does not stop it: it is over in a moment.
    """
    staged = {}
    with _signals_ignored():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                staged[folder / name] = _stage(folder / name, content)
            for path in list(staged):
                os.replace(staged[path], path)
                del staged[path]
        except OSError as error:
            raise ExportError(f"{folder}: cannot be written: {error.strerror}; name another folder with --out") from error
        finally:
            for temporary in staged.values():
                os.unlink(temporary)
    return [folder / name for name in files]


def _stage(path, content):
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


@contextlib.contextmanager
def _signals_ignored():
    if threading.current_thread() is not threading.main_thread():  # the only one Python lets do this
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
