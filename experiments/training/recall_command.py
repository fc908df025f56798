"""The command line of the recall experiment."""

import functools
from pathlib import Path

import torch

from . import arms, calibration, campaign, environment
from .errors import InputError, exit_on_input_error
from .recall_run import Folder, run
from .settings import FULL, SMOKE
from .train import Training

SMOKE_ARMS = ("dense-d64", "moba-B32-k8-conv3-d64-mean")


def parser():
    p = campaign.Parser(
        prog="recall.py", description="Trains models to recall and measures what their routing finds."
    )
    campaign.add_flags(p)
    p.add_argument("--seeds", metavar="N,...", help="seeds of each (0,1,2; with --smoke 0)")
    p.add_argument("--traces", metavar="FOLDER", type=Path, help="also write q, k, v of each MoBA model on one text")
    p.add_argument("--no-graphs", dest="graphs", action="store_false", help="on a GPU: launch each kernel by itself")
    p.add_argument("--calibrate", action="store_true", help="print milliseconds a step, train nothing")
    return p


def main(arguments=None):
    return exit_on_input_error(lambda: _main(parser().parse_args(arguments)))


def _main(options):
    names = campaign.names(options)
    chosen = arms.chosen(SMOKE_ARMS if names is None and options.smoke else names)
    if options.list:
        print("\n".join(arm.name for arm in chosen))
        return 0
    settings = SMOKE if options.smoke else FULL
    devices = campaign.devices(options)
    if options.calibrate:
        return calibration.calibrate(chosen, settings, devices[0], options.graphs)
    campaign.check_out(options.out)
    if options.traces is not None and not options.traces.is_dir():
        raise InputError("--traces", options.traces, "a folder that exists", f"mkdir -p {options.traces} first")
    until = campaign.deadline(options)
    runs = [arms.Run(arm, seed) for arm in chosen for seed in _seeds(options)]
    with campaign.locked_parts(options.out, settings.identity()) as parts:
        folder = Folder(parts, options.traces)
        work = functools.partial(_work, settings, folder, options.graphs)
        return campaign.run_all("recall", work, runs, folder, options.out, arms.ARMS, devices, until)


def _seeds(options):
    if options.seeds is None:
        return [0] if options.smoke else [0, 1, 2]
    return campaign.seeds(options.seeds)


def _work(settings, folder, graphs, job, device, should_stop, report):
    """One run in a process of the pool."""
    device = torch.device(device)
    with environment.on_device(device):
        training = Training(job.arm, job.seed, settings, device, graphs)
        return run(training, folder, should_stop, lambda text: report(training.fraction(), text))
