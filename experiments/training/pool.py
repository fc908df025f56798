"""Runs of an experiment, several at once: processes that share the GPUs, each with one run at a time."""

import multiprocessing
import os
import queue
import signal
import time
import traceback
from typing import NamedTuple

from .errors import InputError

QUEUE_SECONDS = 0.2


class Event(NamedTuple):
    """From a worker: kind "progress" (text: where it is), "finished", "stopped" or "failed" (text: why)."""

    kind: str
    run: str
    fraction: float
    text: str


def run_all(work, runs, devices, deadline, show):
    """Runs work(run, device, should_stop, report) for all runs, by a process for each entry of `devices`.

    work: a picklable function that returns "finished" or "stopped" and calls report(fraction, text); runs: picklable,
    with a `name`. deadline: of time.monotonic(), None for none: no run starts after it, and those under way stop where
    a checkpoint lets them go on. show: called with each Event. Returns the last Event of each run that began, by name,
    and the number of a signal that ended it early, or 0.
    """
    context = multiprocessing.get_context("spawn")
    waiting, events, stop = context.Queue(), context.Queue(), context.Event()
    for run in runs:
        waiting.put(run)
    for _ in devices:
        waiting.put(None)
    workers = [
        context.Process(target=_serve, args=(work, device, waiting, events, stop), daemon=True) for device in devices
    ]
    with _Signals(stop) as signals:
        for worker in workers:
            worker.start()
        last = _collect(workers, events, stop, deadline, show)
    waiting.cancel_join_thread()
    return last, signals.number


def _collect(workers, events, stop, deadline, show):
    last = {}
    while True:
        if deadline is not None and time.monotonic() > deadline:
            stop.set()
        alive = any(worker.is_alive() for worker in workers)
        try:
            event = events.get(timeout=QUEUE_SECONDS)
        except queue.Empty:
            if not alive:
                break
            continue
        last[event.run] = event
        show(event)
    for worker in workers:
        if worker.exitcode != 0:
            lost = [e for e in last.values() if e.kind == "progress"]
            # A process that died before it took a run has lost none, and is no less a fault.
            for event in lost or [Event("progress", f"worker {worker.name}", 0.0, "")]:
                text = f"its process ended with {worker.exitcode}"
                last[event.run] = Event("failed", event.run, event.fraction, text)
                show(last[event.run])
    return last


class _Signals:
    """The first SIGINT or SIGTERM asks the workers to stop at their next checkpoint; a second one ends this process."""

    def __init__(self, stop):
        self.stop, self.number, self.before = stop, 0, {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _take(self, number, _):
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number
        self.stop.set()


def _serve(work, device, waiting, events, stop):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, for all: the parent says when to stop
    parent = os.getppid()

    def should_stop():  # also when the parent was killed, which tells nobody
        return stop.is_set() or os.getppid() != parent

    while not should_stop():
        try:
            run = waiting.get(timeout=QUEUE_SECONDS)
        except queue.Empty:
            continue
        if run is None:
            return
        fraction = 0.0

        def report(now, text):
            nonlocal fraction
            fraction = now
            events.put(Event("progress", run.name, now, text))

        try:
            report(0.0, "begins")
            outcome = work(run, device, should_stop, report)
            events.put(Event(outcome, run.name, 1.0 if outcome == "finished" else fraction, ""))
        except Exception as failed:  # one run's fault is no reason to stop the others
            if not isinstance(failed, InputError):
                traceback.print_exc()
            events.put(Event("failed", run.name, fraction, f"{type(failed).__name__}: {failed}"))
