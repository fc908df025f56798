"""How long the stages of a training take on this device, to plan a run with."""

import time

import torch

from . import environment
from .evaluate import evaluate
from .settings import STEPS_A_CHUNK
from .stepper import Stepper
from .train import Training

WARM_CHUNKS, TIMED_CHUNKS = 2, 2  # the first chunk runs eagerly, the second is captured


def calibrate(arms, settings, device, graphs):
    """Prints a line for each arm and stage, and the longest time of a run of each."""
    device = torch.device(device)
    with environment.on_device(device):
        for arm in arms:
            _calibrate_arm(arm, settings, device, graphs)
    return 0


def _calibrate_arm(arm, settings, device, graphs):
    training = Training(arm, 0, settings, device, graphs)
    total = 0.0
    for number, stage in enumerate(settings.stages):
        training.stage, training.chunk = number, 0
        stepper = Stepper(training.model, training.optimizer, device, graphs)
        first = _timed(device, lambda: _chunks(training, stepper, stage, WARM_CHUNKS))
        steady = _timed(device, lambda: _chunks(training, stepper, stage, TIMED_CHUNKS))
        a_step = steady / (TIMED_CHUNKS * STEPS_A_CHUNK)
        curves = stage.most_steps // STEPS_A_CHUNK // settings.chunks_a_curve
        measuring = _timed(device, training.measured)
        total += first + a_step * stage.most_steps + curves * measuring
        print(
            f"{arm.name} N {stage.text.tokens}: {1e3 * a_step:.2f} ms a step, {first:.2f} s to begin, "
            f"{1e3 * measuring:.0f} ms a point of the curve",
            flush=True,
        )
    for text, sequences in settings.evaluations:
        seconds = _timed(device, lambda: _evaluate(training, text, sequences))
        total += seconds
        print(f"{arm.name} evaluation at N {text.tokens}: {seconds:.2f} s", flush=True)
    print(f"{arm.name}: at most {total:.1f} s a run", flush=True)


def _chunks(training, stepper, stage, count):
    for _ in range(count):
        stepper.run(training.texts(stage), stage.sequences, training.rates(stage))
        training.chunk += 1


def _evaluate(training, text, sequences):
    evaluate(training.model, text, sequences, training.settings.batch_tokens, 0, training.device)


def _timed(device, work):
    start = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - start
