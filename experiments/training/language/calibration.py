"""How fast each arm trains and is evaluated on a device, and in how much memory, to plan a run with."""

import time

import torch

from .. import environment
from . import arms
from .run import evaluation_records
from .train import Training

WARM_STEPS, TIMED_STEPS = 3, 10


def calibrate(chosen, settings, corpus, device, compiled):
    """Prints a line for each arm, and how long a run of it would take."""
    device = torch.device(device)
    with environment.on_device(device):
        for run in arms.runs(chosen, [0]):
            _calibrate_run(run, settings, corpus, device, compiled)
    return 0


def _calibrate_run(run, settings, corpus, device, compiled):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training = Training(run, settings, corpus, device, compiled)
    first = _timed(device, lambda: training.take_steps(WARM_STEPS))
    a_step = _timed(device, lambda: training.take_steps(TIMED_STEPS)) / TIMED_STEPS
    evaluation = _timed(device, lambda: evaluation_records(training))
    rate = settings.sequences * settings.seq_len / a_step
    memory = f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
    print(
        f"{run.name}: {1e3 * a_step:.1f} ms a step, {rate:.0f} tokens/s{memory}, {first:.1f} s for the first "
        f"{WARM_STEPS} steps, evaluation {evaluation:.1f} s; {settings.steps} steps take about "
        f"{first + a_step * settings.steps + evaluation:.0f} s",
        flush=True,
    )


def _timed(device, work):
    start = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - start
