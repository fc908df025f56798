"""The program `mobalab`: where it is, and one run of it from start to end.

It is looked for in this order: the environment variable MOBALAB_PROGRAM, `program/mobalab` inside this package (where a
wheel puts it), `build/bin/mobalab` of the clone this package lies in, PATH.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Protocol

from mobalab.errors import MobalabError, warn

PACKAGE = Path(__file__).resolve().parent
CLONE = PACKAGE.parents[2]
PATIENCE = 10.0
"""Seconds that a program gets to stop in order; it takes one."""


def find_program() -> str:
    """Path of the program. Raises MobalabError where there is none."""
    named = os.environ.get("MOBALAB_PROGRAM")
    if named:
        if not os.access(named, os.X_OK) or os.path.isdir(named):
            raise MobalabError(f"MOBALAB_PROGRAM = {named}: is no program; name the file mobalab, or unset it")
        return named
    for path in (PACKAGE / "program" / "mobalab", CLONE / "build" / "bin" / "mobalab"):
        if os.access(path, os.X_OK):
            return str(path)
    found = shutil.which("mobalab")
    if found is None:
        raise MobalabError("the program mobalab is not found: not in this package, not in build/bin of its clone, not on "
                           "PATH; build it, or name it in the environment variable MOBALAB_PROGRAM")
    return found


class Source(Protocol):
    """Something else that wants to be served while a program runs."""

    def register(self, selector: selectors.BaseSelector) -> None:
        """Registers files with functions of no argument as data, to be called when they can be read."""

    def close(self) -> None: ...


class Program:
    """One run of the program; a context manager that leaves no process behind.

    `arguments` are the words behind `mobalab`; `source` is served in the thread that calls events().
    """

    def __init__(self, arguments: Sequence[str], source: Optional[Source] = None) -> None:
        self._command = arguments[0]
        self._source = source
        self._rest = b""
        self._errors: list[str] = []
        self._stdout = tempfile.TemporaryFile()
        program = ""
        try:
            program = find_program()
            # In a session of its own a Ctrl-C of the terminal reaches Python alone, which passes it on once: the program
            # takes a second signal as an order to die at once.
            self._process = subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stdout=self._stdout,
                                             stderr=subprocess.PIPE, start_new_session=True)
        except OSError as failed:
            self._close()
            raise MobalabError(f"{program}: cannot be started ({failed.strerror}); name the file mobalab in MOBALAB_PROGRAM, "
                               "or unset it") from failed
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if self._process.poll() is None:
                self._stop(signal.SIGINT if kind is KeyboardInterrupt else signal.SIGTERM)
        finally:
            if self._process.stderr is not None:
                self._process.stderr.close()
            self._close()

    def _close(self) -> None:
        self._stdout.close()
        if self._source is not None:
            self._source.close()

    def _stop(self, number: int) -> None:
        self._process.send_signal(number)
        try:
            self._process.communicate(timeout=PATIENCE)  # reads on, so that it is not held up by a full pipe
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def events(self) -> Iterator[dict[str, Any]]:
        """Its progress as it comes (`--json-progress`), until it has ended.

        Raises MobalabError with what the program says is wrong.
        """
        assert self._process.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stderr, selectors.EVENT_READ, None)
            if self._source is not None:
                self._source.register(selector)
            while True:
                for key, _ in selector.select():
                    if key.data is not None:
                        key.data()
                        continue
                    bytes_read = os.read(key.fd, 65536)
                    if not bytes_read:
                        self._check(self._process.wait())
                        return
                    yield from self._said(bytes_read)

    def code(self) -> int:
        """Its exit code, once events() has come to its end: 0, or 1 where the answer is no."""
        return self._process.wait()

    def printed(self) -> str:
        """What it wrote to stdout."""
        self._stdout.seek(0)
        return self._stdout.read().decode("utf-8", "replace")

    def _said(self, bytes_read: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + bytes_read).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            error = f"mobalab {self._command}: error: "
            if text.startswith("{"):
                yield json.loads(text)
            elif text.startswith((error, "mobalab: error: ")):
                self._errors.append(text.split(": error: ", 1)[1])
            elif text:
                warn(text.split(": ", 1)[1] if text.startswith("mobalab") and ": " in text else text)

    def _check(self, code: int) -> None:
        if code in (0, 1):
            return
        if not self._errors:
            how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"
            self._errors.append(f"mobalab {self._command} ended {how} and said nothing")
        raise MobalabError("\n".join(self._errors))


def output_of(arguments: Sequence[str], observe: Optional[Callable[[dict[str, Any]], None]] = None) -> str:
    """What the program prints. Raises MobalabError."""
    with Program(arguments) as program:
        for event in program.events():
            if observe is not None:
                observe(event)
        return program.printed()
