"""What the commands of all experiments share: flags, devices, the folder of unfinished work, and what is shown."""

import argparse
import contextlib
import fcntl
import json
import sys
import time
from pathlib import Path

import torch

from . import environment, pool, records
from .atomic_file import write_bytes
from .errors import InputError
from .progress import Progress

LEFT = 3  # exit code: the budget is spent and runs are left
EPILOG = """Finished runs and checkpoints lie in FILE.parts; a call does what is not there yet, so a killed or stopped
one is repeated to go on. FILE holds the records of all runs finished so far, whatever was asked for in which call.
Exit codes: 0 all runs that were asked for are finished, 1 one failed, 2 bad input, 3 the budget is spent and runs are
left, 128 + the signal after a signal."""


FINISHED, STOPPED = "finished", "stopped"  # what a run answers


class Folder:
    """Where a run leaves its records, and its checkpoint while it is under way."""

    def __init__(self, parts):
        self.parts = parts

    def records(self, name):
        return self.parts / f"{name}.jsonl"

    def checkpoint(self, name):
        return self.parts / f"{name}.checkpoint"


class Parser(argparse.ArgumentParser):
    """Whose errors are one line, without the usage."""

    def __init__(self, **options):
        super().__init__(epilog=EPILOG, allow_abbrev=False, **options)

    def error(self, message):
        self.exit(2, f"error: {message}; nearest valid choice: see --help\n")


def add_flags(parser):
    """What every experiment takes."""
    parser.add_argument("--out", metavar="FILE", type=Path, help="the records, *.jsonl")
    parser.add_argument("--arms", metavar="NAME,...", help="which models (all); --list shows them")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto, which is cuda where its kernels run")
    parser.add_argument("--gpus", type=int, default=1, help="how many GPUs share the runs (1)")
    parser.add_argument("--processes", type=int, default=1, help="runs at once on each GPU, or on the CPU (1)")
    parser.add_argument("--budget-seconds", type=float, metavar="S", help="stop after this time; the next call goes on")
    parser.add_argument("--smoke", action="store_true", help="tiny settings, seconds on a CPU; two arms, or --arms")
    parser.add_argument("--list", action="store_true", help="print the arms and end")


def names(options):
    """Those of --arms, or None for all."""
    return None if options.arms is None else options.arms.split(",")


def seeds(text):
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError("--seeds", text, "whole numbers from 0, with commas between", "0,1,2")
    return sorted({int(part) for part in parts})


def devices(options):
    """A device, as text, for each process."""
    for name in ("gpus", "processes"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}", getattr(options, name), "1 or more", "1")
    device = environment.device_of(options.device)
    if device.type == "cpu":
        if options.gpus != 1:
            raise InputError("--gpus", options.gpus, "1 on a CPU", "1")
        return ["cpu"] * options.processes
    there = torch.cuda.device_count()
    if options.gpus > there:
        raise InputError("--gpus", options.gpus, f"at most the {there} that are there", there)
    return [f"cuda:{i}" for i in range(options.gpus)] * options.processes


def deadline(options):
    """Of time.monotonic(), or None."""
    budget = options.budget_seconds
    if budget is not None and not 0 < budget < float("inf"):
        raise InputError("--budget-seconds", budget, "above 0", "600")
    return None if budget is None else time.monotonic() + budget


def check_out(out):
    if out is None or out.suffix != ".jsonl":
        raise InputError("--out", out, "a file named *.jsonl", "records.jsonl")
    if not out.parent.is_dir():
        raise InputError("--out", out, "in a folder that exists", f"mkdir -p {out.parent} first")


@contextlib.contextmanager
def locked_parts(out, identity):
    """The folder of finished runs and checkpoints, which belongs to one process and one experiment. identity: plain
    values that make it the same experiment."""
    parts = out.with_name(out.name + ".parts")
    parts.mkdir(exist_ok=True)
    with open(parts / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            raise InputError("--out", out, "no file that another process is writing", "another name") from taken
        _check_settings(parts / "settings.json", out, identity)
        yield parts


def _check_settings(path, out, identity):
    text = json.dumps(identity, indent=1)
    if not path.exists():
        write_bytes(path, text.encode())
    elif path.read_text(encoding="utf-8") != text:
        raise InputError("--out", out, f"of runs with the same settings, and {path} has others", "another name")


def assemble(out, parts, arms):
    """All finished runs of the folder as one file, in the order of the arms."""
    order = {arm.name: i for i, arm in enumerate(arms)}

    def rank(path):
        arm, _, seed = path.stem.rpartition("-s")
        return order.get(arm, len(order)), int(seed)

    records.write(out, [record for path in sorted(parts.glob("*-s*.jsonl"), key=rank) for record in records.read(path)])


def run_all(title, work, runs, folder, out, arms, devices_of_processes, until):
    """Does the runs that the folder has no records of, shows it, and keeps `out` up to date; the exit code.

    work, devices_of_processes, until: as pool.run_all takes them; arms: all of the experiment, in the order of out.
    """
    left = [run for run in runs if not folder.records(run.name).exists()]
    display = _Display(title, len(runs), len(runs) - len(left), lambda: assemble(out, folder.parts, arms))
    used = devices_of_processes[: max(1, len(left))]
    last, number = pool.run_all(work, left, used, until, display) if left else ({}, 0)
    assemble(out, folder.parts, arms)
    return display.verdict(last, number)


class _Display:
    """Progress on stderr; each finished run becomes part of the output at once."""

    def __init__(self, title, total, finished, assembled):
        self.total, self.finished, self.assembled = total, finished, assembled
        self.progress, self.running = Progress(title), {}
        if finished:
            self.progress.say(f"{finished} of {total} runs were finished before")

    def __call__(self, event):
        if event.kind == "progress":
            self.running[event.run] = event
        else:
            self.running.pop(event.run, None)
            self.finished += event.kind == "finished"
            text = f": {event.text}" if event.text else ""
            self.progress.say(f"{event.run} {event.kind}{text} ({self.finished} of {self.total})")
            if event.kind == "finished":
                self.assembled()
        now = "; ".join(f"{e.run}: {e.text}" for e in self.running.values())
        fraction = (self.finished + sum(e.fraction for e in self.running.values())) / self.total
        self.progress.update(min(1.0, fraction), now)

    def verdict(self, last, number):
        """The exit code, with a line that says what is left."""
        self.progress.clear()
        failed = [e.run for e in last.values() if e.kind == "failed"]
        left = self.total - self.finished
        if failed:
            print(f"{len(failed)} runs failed: {', '.join(failed)}; repeat the command to try again", file=sys.stderr)
        elif left:
            print(f"{left} of {self.total} runs are left: repeat the command to go on", file=sys.stderr)
        if number:
            return 128 + number
        return 1 if failed else LEFT if left else 0
