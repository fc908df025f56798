"""Progress of a run: a line on a terminal, a bar in a notebook, or a function of the caller's."""

import html
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional, TextIO, Union

Progress = Union[bool, Callable[[float, str], object], None]
"""None: a bar where stderr is a terminal and in notebooks. True, False: always, never. A function is called with the share of
the work that is done, in [0, 1], and where it is in words."""

SILENT_SECONDS = 0.5
"""Shorter runs show nothing."""

WIDTH = 24


class Display:
    """Shows the events of one run."""

    def update(self, event: Mapping[str, Any]) -> None:
        """`event` is a line of --json-progress."""

    def close(self) -> None:
        """Removes what is shown."""


class _Function(Display):
    def __init__(self, function: Callable[[float, str], object]) -> None:
        self._function = function

    def update(self, event: Mapping[str, Any]) -> None:
        if "progress" in event:
            self._function(event["progress"], event["text"])


class Line(Display):
    """One line of a terminal, drawn again; plain lines where it is none, ten seconds apart."""

    def __init__(self, command: str, file: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._command, self._file, self._now = command, file, now
        self._redrawn = file.isatty()
        self._next = now() + SILENT_SECONDS
        self._width = 0

    def update(self, event: Mapping[str, Any]) -> None:
        if "progress" not in event or self._now() < self._next:
            return
        self._next = self._now() + (0.1 if self._redrawn else 10.0)
        line = f"{self._command} {_bar(event['progress'])} {line_of(event)}"
        if self._redrawn:
            self._file.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._width:
            self._file.write("\r" + " " * self._width + "\r")
            self._file.flush()


class Bar(Display):
    """A bar below the cell of a notebook. `show(html, display_id, update)` puts it there."""

    def __init__(self, command: str, show: Callable[[str, str, bool], None], now: Callable[[], float] = time.monotonic) -> None:
        self._command, self._show, self._now = command, show, now
        self._next = now() + SILENT_SECONDS
        self._id = f"mobalab-{id(self)}"
        self._shown = False

    def update(self, event: Mapping[str, Any]) -> None:
        if "progress" in event and self._now() >= self._next:
            self._next = self._now() + 0.1
            self._show(f'{self._command} <progress value="{event["progress"]:.4f}" max="1"></progress> '
                       f"{html.escape(line_of(event))}", self._id, self._shown)
            self._shown = True

    def close(self) -> None:
        if self._shown:
            self._show("", self._id, True)


def _bar(share: float) -> str:
    full = int(WIDTH * share)
    return f"[{'#' * full}{' ' * (WIDTH - full)}]"


def line_of(event: Mapping[str, Any]) -> str:
    """"25 %, point 1 of 4: 100 trials, 7 misses, 3 s left"."""
    left = event["seconds_left"]
    return f"{100.0 * event['progress']:.0f} %, {event['text']}" + ("" if left is None else f", {duration(left)} left")


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def display_of(command: str, progress: Progress) -> Display:
    """What shows the progress of a run of `command`."""
    if callable(progress):
        return _Function(progress)
    notebook = _notebook()
    if progress is False or (progress is None and notebook is None and not _is_terminal(sys.stderr)):
        return Display()
    return Line(command, sys.stderr) if notebook is None else Bar(command, notebook)


def _is_terminal(file: Optional[TextIO]) -> bool:
    return file is not None and file.isatty()


def _notebook() -> Optional[Callable[[str, str, bool], None]]:
    """What shows HTML below a cell, where Python is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import HTML, display

    def show(text: str, display_id: str, update: bool) -> None:
        display(HTML(text), display_id=display_id, update=update)

    return show
