"""How far a long run is and when it will be done, on stderr: one line that is rewritten on a terminal, a line every
few seconds elsewhere."""

import sys
import time

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0


def duration_text(seconds):
    """59 s, 12 min 3 s or 2 h 5 min."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


class Progress:
    """update(fraction, text) shows the line when it is time to; the time left is that of the fraction still to do."""

    def __init__(self, title, stream=None, now=time.monotonic):
        self.title, self.stream, self.now = title, stream or sys.stderr, now
        self.start, self.first, self.shown, self.width = now(), None, None, 0
        self.terminal = self.stream.isatty()

    def update(self, fraction, text, force=False):
        now = self.now()
        if self.first is None:  # work that an earlier call has done took none of this one's time
            self.first = fraction
        wait = TERMINAL_SECONDS if self.terminal else LOG_SECONDS
        if not force and self.shown is not None and now - self.shown < wait:
            return
        self.shown = now
        elapsed, done = now - self.start, fraction - self.first
        left = f"about {duration_text(elapsed * (1 - fraction) / done)} left" if done > 0 else "time left unknown"
        self._show(f"{self.title}: {100 * fraction:3.0f} %  {text}  {duration_text(elapsed)}, {left}")

    def say(self, line):
        """A line that stays."""
        self.clear()
        print(line, file=self.stream, flush=True)

    def clear(self):
        if self.width:
            print("\r" + " " * self.width + "\r", end="", file=self.stream, flush=True)
            self.width = 0

    def _show(self, line):
        if not self.terminal:
            print(line, file=self.stream, flush=True)
            return
        print("\r" + line.ljust(self.width), end="", file=self.stream, flush=True)
        self.width = len(line)
