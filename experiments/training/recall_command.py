"""The command line of the recall experiment."""

import argparse
import contextlib
import fcntl
import functools
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from . import arms, calibration, environment, pool, records
from .atomic_file import write_bytes
from .errors import InputError, exit_on_input_error
from .progress import Progress
from .recall_run import Folder, run
from .settings import FULL, SMOKE
from .train import Training

LEFT = 3  # exit code: the budget is spent and runs are left
SMOKE_ARMS = ("dense-d64", "moba-B32-k8-conv3-d64-mean")
EPILOG = """Finished runs and checkpoints lie in FILE.parts; a call does what is not there yet, so a killed or stopped one
is repeated to go on. FILE holds the records of all runs finished so far, whatever was asked for in which call.
Exit codes: 0 all runs that were asked for are finished, 1 one failed, 2 bad input, 3 the budget is spent and runs are
left, 128 + the signal after a signal."""


class Run(NamedTuple):
    arm: arms.Arm
    seed: int

    @property
    def name(self):
        return f"{self.arm.name}-s{self.seed}"


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """In one line, without the usage."""
        self.exit(2, f"error: {message}; nearest valid choice: see --help\n")


def parser():
    p = _Parser(
        prog="recall.py",
        description="Trains models to recall and measures what their routing finds.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    p.add_argument("--out", metavar="FILE", type=Path, help="the records, *.jsonl")
    p.add_argument("--arms", metavar="NAME,...", help="which models (all); --list shows them")
    p.add_argument("--seeds", metavar="N,...", help="seeds of each (0,1,2; with --smoke 0)")
    p.add_argument("--traces", metavar="FOLDER", type=Path, help="also write q, k, v of each MoBA model on one text")
    p.add_argument("--device", default="auto", help="cpu, cuda or auto, which is cuda where its kernels run")
    p.add_argument("--gpus", type=int, default=1, help="how many GPUs share the runs (1)")
    p.add_argument("--processes", type=int, default=1, help="runs at once on each GPU, or on the CPU (1)")
    p.add_argument("--budget-seconds", type=float, metavar="S", help="stop after this time; the next call goes on")
    p.add_argument("--no-graphs", dest="graphs", action="store_false", help="on a GPU: launch each kernel by itself")
    p.add_argument("--smoke", action="store_true", help="tiny settings, seconds on a CPU; two arms unless --arms says")
    p.add_argument("--list", action="store_true", help="print the arms and end")
    p.add_argument("--calibrate", action="store_true", help="print milliseconds a step, train nothing")
    return p


def main(arguments=None):
    return exit_on_input_error(lambda: _main(parser().parse_args(arguments)))


def _main(options):
    chosen = _chosen_arms(options)
    if options.list:
        print("\n".join(arm.name for arm in chosen))
        return 0
    settings = SMOKE if options.smoke else FULL
    devices = _devices(options)
    if options.calibrate:
        return calibration.calibrate(chosen, settings, devices[0], options.graphs)
    _check_out(options)
    budget = options.budget_seconds
    if budget is not None and not 0 < budget < float("inf"):
        raise InputError("--budget-seconds", budget, "above 0", "600")
    deadline = None if budget is None else time.monotonic() + budget
    runs = [Run(arm, seed) for arm in chosen for seed in _seeds(options)]
    with _locked_parts(options.out, settings) as parts:
        return _train(options, settings, devices, deadline, runs, parts)


def _train(options, settings, devices, deadline, runs, parts):
    folder = Folder(parts, options.traces)
    left = [r for r in runs if not folder.records(r.name).exists()]
    work = functools.partial(_work, settings, folder, options.graphs)
    display = _Display(len(runs), len(runs) - len(left), options.out, parts)
    last, number = pool.run_all(work, left, devices[: max(1, len(left))], deadline, display) if left else ({}, 0)
    assemble(options.out, parts)
    return display.verdict(last, number)


def _work(settings, folder, graphs, job, device, should_stop, report):
    """One run in a process of the pool."""
    device = torch.device(device)
    with environment.on_device(device):
        training = Training(job.arm, job.seed, settings, device, graphs)
        return run(training, folder, should_stop, lambda text: report(training.fraction(), text))


class _Display:
    """Progress on stderr; each finished run becomes part of the output at once."""

    def __init__(self, total, finished, out, parts):
        self.total, self.finished, self.out, self.parts = total, finished, out, parts
        self.progress, self.running = Progress("recall"), {}
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
                assemble(self.out, self.parts)
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


def assemble(out, parts):
    """All finished runs of the folder as one file, in the order of the arms."""
    order = {arm.name: i for i, arm in enumerate(arms.ARMS)}

    def rank(path):
        arm, _, seed = path.stem.rpartition("-s")
        return order.get(arm, len(order)), int(seed)

    records.write(out, [record for path in sorted(parts.glob("*-s*.jsonl"), key=rank) for record in records.read(path)])


def _chosen_arms(options):
    names = None if options.arms is None else options.arms.split(",")
    if names is None and options.smoke:
        names = SMOKE_ARMS
    return arms.chosen(names)


def _seeds(options):
    text = options.seeds
    if text is None:
        return [0] if options.smoke else [0, 1, 2]
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError("--seeds", text, "whole numbers from 0, with commas between", "0,1,2")
    return sorted({int(part) for part in parts})


def _devices(options):
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


def _check_out(options):
    out = options.out
    if out is None or out.suffix != ".jsonl":
        raise InputError("--out", out, "a file named *.jsonl", "recall.jsonl")
    for name, folder in (("--out", out.parent), ("--traces", options.traces)):
        if folder is not None and not folder.is_dir():
            value = out if name == "--out" else folder
            raise InputError(name, value, "in a folder that exists", f"mkdir -p {folder} first")


@contextlib.contextmanager
def _locked_parts(out, settings):
    """The folder of finished runs and checkpoints, which belongs to one process and one set of settings."""
    parts = out.with_name(out.name + ".parts")
    parts.mkdir(exist_ok=True)
    with open(parts / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            raise InputError("--out", out, "no file that another process is writing", "another name") from taken
        _check_settings(parts / "settings.json", out, settings)
        yield parts


def _check_settings(path, out, settings):
    text = json.dumps(settings.identity(), indent=1)
    if not path.exists():
        write_bytes(path, text.encode())
    elif path.read_text(encoding="utf-8") != text:
        raise InputError("--out", out, f"of runs with the same settings, and {path} has others", "another name")
