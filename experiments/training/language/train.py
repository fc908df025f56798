"""One language model trained, in pieces that a checkpoint separates."""

import time

import numpy as np
import torch
from torch import nn

from ..model import Model
from ..resumable import Resumable
from ..stepper import CLIP, make_optimizer
from . import arms
from .evaluate import validation
from .loss import last_hidden, mean_loss
from .needles import plant
from .sequences import Sequences
from .settings import STEPS_A_CHUNK

NEEDLE_SEED = 11571  # of the needles in training sequences, the same for all arms and seeds


class Training(Resumable):
    """A model, its optimizer and how far it is.

    A step's sequences, needles and rate follow from its number, so a run that was stopped goes on with the same ones;
    the seed makes the initial weights and nothing else.
    """

    STATE = ("step", "seconds", "curve")
    CHECKPOINT_SECONDS = 60.0  # 400 MB each in full

    def __init__(self, run, settings, corpus, device, compiled=False):
        self.arm, self.seed, self.name = run.arm, run.seed, run.name
        self.settings, self.corpus, self.device = settings, corpus, device
        self.sequences = Sequences(corpus.tokens["train"], settings.seq_len)
        torch.manual_seed(run.seed)
        self.model = Model(arms.config(run.arm, settings, corpus.vocabulary)).to(device)
        if compiled:
            _compile_layers(self.model)
        self.optimizer = make_optimizer(self.model, device)
        self.step, self.seconds, self.curve = 0, 0.0, []

    def identity(self):
        return {
            "run": self.name,
            "settings": repr(self.settings.identity()),
            "corpus": self.corpus.manifest["train"]["sha256"],
        }

    @property
    def tokens(self):
        return self.step * self.settings.sequences * self.settings.seq_len

    def fraction(self):
        return self.step / self.settings.steps

    def done(self):
        return self.step >= self.settings.steps

    def advance(self):
        loss = self.run_chunk()
        return f"step {self.step}, loss {loss:.3f}"

    def run_chunk(self):
        """STEPS_A_CHUNK steps (fewer at the end); their mean loss, which is also a point of the curve."""
        start = time.monotonic()
        steps = min(STEPS_A_CHUNK, self.settings.steps - self.step)
        loss = self.take_steps(steps)
        self.seconds += time.monotonic() - start
        point = {"step": self.step, "seq_len": self.settings.seq_len, "tokens": self.tokens, "loss": loss}
        self.curve.append({"kind": "curve", **point, "seconds": self.seconds})
        if self.step % (STEPS_A_CHUNK * self.settings.chunks_a_validation) == 0 and self.step < self.settings.steps:
            self.curve.append(self._validation())
        return loss

    def take_steps(self, steps):
        """Their mean loss. The host waits for the device once, at the end, and prepares each step while it computes."""
        total = torch.zeros((), device=self.device)
        for _ in range(steps):
            total += self._one_step()
            self.step += 1
        return total.item() / steps

    def batch(self, step):
        """int64 [sequences, seq_len + 1]: text in which needles stand."""
        rows = self.sequences.rows(self.sequences.of_step(step, self.settings.sequences))
        generator = np.random.default_rng([NEEDLE_SEED, step])
        for row in rows:
            plant(row, self.settings.pairs, generator, self.corpus.vocabulary)
        return torch.from_numpy(rows)

    def _one_step(self):
        rows = self.batch(self.step)
        if self.device.type == "cuda":
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"].fill_(self.settings.rate_at(self.step))
        self.optimizer.zero_grad(set_to_none=True)
        loss = mean_loss(last_hidden(self.model, rows[:, :-1]), self.model.head.weight, rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        return loss.detach()

    def _validation(self):
        settings = self.settings
        texts = Sequences(self.corpus.tokens["validation"], settings.seq_len)
        records = validation(self.model, texts, settings.validation_sequences, settings.batch_tokens, self.device)
        return {**records[0], "step": self.step}


def _compile_layers(model):
    """torch.compile for what surrounds attention in training steps, which all have one shape; the attention itself and
    evaluations, of many shapes, run as they are."""
    for layer in model.layers:
        layer.before, layer.after = _compiled_in_training(layer.before), _compiled_in_training(layer.after)


def _compiled_in_training(function):
    compiled = torch.compile(function, dynamic=False)
    return lambda *arguments: (compiled if torch.is_grad_enabled() else function)(*arguments)

