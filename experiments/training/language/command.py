"""The command line of the language experiment."""

import dataclasses
import functools
from pathlib import Path

import torch

from .. import campaign, environment
from ..corpus import store
from ..errors import InputError, exit_on_input_error
from . import arms, calibration
from .run import run
from .sequences import Sequences
from .settings import FULL, SMOKE
from .summary import print_summary
from .train import Training

MOST_STEPS = 10**6


def parser():
    p = campaign.Parser(
        prog="language_model.py",
        description="Trains small language models, dense and with MoBA; measures their loss and what they retrieve.",
    )
    campaign.add_flags(p)
    p.add_argument("--corpus", metavar="FOLDER", type=Path, help="the text, as make_corpus.py writes it")
    p.add_argument("--seeds", metavar="N,...", help="seeds of each arm (0, and 1 of dense too)")
    p.add_argument("--steps", type=int, metavar="N", help=f"of each run ({FULL.steps}; {SMOKE.steps} with --smoke)")
    p.add_argument("--compile", action="store_true", help="torch.compile what surrounds attention")
    p.add_argument("--calibrate", action="store_true", help="print tokens a second and memory, train nothing")
    return p


def main(arguments=None):
    return exit_on_input_error(lambda: _main(parser().parse_args(arguments)))


def _main(options):
    known = arms.SMOKE_ARMS if options.smoke else arms.ARMS
    chosen = arms.chosen(campaign.names(options), known)
    if options.list:
        print("\n".join(arm.name for arm in chosen))
        return 0
    runs = arms.runs(chosen, None if options.seeds is None else campaign.seeds(options.seeds))
    settings = _settings(options)
    corpus = _corpus(options.corpus, settings)
    devices = campaign.devices(options)
    if options.calibrate:
        return calibration.calibrate(chosen, settings, corpus, devices[0], options.compile)
    campaign.check_out(options.out)
    until = campaign.deadline(options)
    identity = {**settings.identity(), "corpus": corpus.manifest["train"]["sha256"]}
    with campaign.locked_parts(options.out, identity) as parts:
        folder = campaign.Folder(parts)
        work = functools.partial(_work, settings, options.corpus, folder, options.compile)
        code = campaign.run_all("language", work, runs, folder, options.out, known, devices, until)
    print_summary(options.out)
    return code


def _settings(options):
    settings = SMOKE if options.smoke else FULL
    if options.steps is None:
        return settings
    if not 1 <= options.steps <= MOST_STEPS:
        raise InputError("--steps", options.steps, f"1 to {MOST_STEPS}", min(max(options.steps, 1), MOST_STEPS))
    return dataclasses.replace(settings, steps=options.steps)


def _corpus(folder, settings):
    if folder is None:
        raise InputError("--corpus", folder, "a folder that make_corpus.py wrote", "make_corpus.py text --out FOLDER")
    corpus = store.read_corpus(folder)
    store.check_digests(corpus, folder)
    Sequences(corpus.tokens["train"], settings.seq_len)
    for seq_len in settings.lengths:
        Sequences(corpus.tokens["validation"], seq_len)
    return corpus


def _work(settings, corpus_folder, folder, compiled, job, device, should_stop, report):
    """One run in a process of the pool."""
    device = torch.device(device)
    with environment.on_device(device):
        training = Training(job, settings, store.read_corpus(corpus_folder), device, compiled)
        return run(training, folder, should_stop, lambda text: report(training.fraction(), text))
