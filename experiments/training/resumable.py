"""Trainings that a checkpoint separates into pieces, and what the records of any of them say of the run."""

import time

import torch

from . import checkpoint, environment


class Resumable:
    """A training of a model, advanced chunk by chunk.

    A subclass has model, optimizer, device, arm, seed, step, tokens and seconds; names in STATE the attributes that a
    checkpoint keeps besides model and optimizer; and defines identity() (plain values: what the run is), done() and
    advance(), which trains one chunk and returns a few words about it.
    """

    STATE = ()
    CHECKPOINT_SECONDS = 30.0

    def save(self, path):
        state = {name: getattr(self, name) for name in self.STATE}
        checkpoint.save(path, self.identity(), self.model, self.optimizer, state)

    def restore(self, path):
        """Goes on from the checkpoint; whether there was one."""
        state = checkpoint.load(path, self.identity(), self.model, self.optimizer, self.device)
        for name, value in (state or {}).items():
            setattr(self, name, value)
        return state is not None

    def run(self, path, should_stop, report):
        """Trains to the end, or until should_stop(): then the checkpoint is written and the answer is False.

        report: called with the words of each chunk.
        """
        saved = time.monotonic()
        while not self.done():
            report(self.advance())
            stopping = should_stop()
            if stopping or time.monotonic() - saved > self.CHECKPOINT_SECONDS:
                self.save(path)
                saved = time.monotonic()
            if stopping:
                return False
        self.save(path)
        return True


def run_fields(training, experiment, seq_len):
    """The fields of a `run` record that every experiment has; seq_len: the longest trained."""
    config, arm = training.model.config, training.arm
    return {
        "kind": "run",
        "experiment": experiment,
        "attention": arm.attention,
        "block_size": arm.block_size,
        "topk": arm.topk,
        "scorer": arm.scorer,
        "key_conv": arm.key_conv,
        "head_dim": arm.head_dim,
        "heads": config.heads,
        "layers": config.layers,
        "width": config.width,
        "parameters": training.model.parameter_count(),
        "seed": training.seed,
        "seq_len": seq_len,
        "steps": training.step,
        "tokens": training.tokens,
        "seconds": training.seconds,
        "device": environment.device_name(training.device),
        "torch": torch.__version__,
        "commit": environment.commit(),
    }
