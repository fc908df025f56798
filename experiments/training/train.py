"""One model trained through the curriculum, in pieces that a checkpoint separates."""

import time

import torch

from .evaluate import evaluate
from .model import Model
from .recall_task import draw, stream_seed
from .resumable import Resumable
from .settings import STEPS_A_CHUNK
from .stepper import Stepper, make_optimizer

class Training(Resumable):
    """A model, its optimizer and how far it is.

    What a run computes depends on its arm, seed and settings alone, not on when it was stopped: each chunk of steps
    draws its texts from a stream of its own, and checkpoints stand between chunks.
    """

    STATE = ("stage", "chunk", "step", "tokens", "seconds", "curve", "stages", "learned")

    def __init__(self, arm, seed, settings, device, graphs=True):
        self.arm, self.seed, self.settings, self.device, self.graphs = arm, seed, settings, device, graphs
        torch.manual_seed(seed)
        self.model = Model(arm.config(settings.width, settings.layers)).to(device)
        self.optimizer = make_optimizer(self.model, device)
        self.stage = self.chunk = self.step = self.tokens = 0
        self.seconds = 0.0
        self.curve, self.stages = [], []
        self.learned = True
        self.stepper = None  # of the stage under way

    @property
    def name(self):
        return f"{self.arm.name}-s{self.seed}"

    def identity(self):
        return {"run": self.name, "settings": repr(self.settings.identity())}

    def fraction(self):
        """Of the training that is surely done, counting stages that ended early as whole."""
        before = sum(stage.most_steps for stage in self.settings.stages[: self.stage])
        return (before + self.chunk * STEPS_A_CHUNK) / self.settings.most_steps() if not self.done() else 1.0

    def done(self):
        return self.stage == len(self.settings.stages)

    def advance(self):
        if self.stepper is None:
            self.stepper = Stepper(self.model, self.optimizer, self.device, self.graphs)
        stage = self.stage
        _, accuracy = self._run_chunk(self.stepper)
        if self.stage != stage:
            self.stepper = None  # its graph and memory go before the next stage's come
        return f"N {self.settings.stages[stage].text.tokens}, step {self.step}, {accuracy:.2f}"

    def _run_chunk(self, stepper):
        start = time.monotonic()
        stage = self.settings.stages[self.stage]
        loss, accuracy = stepper.run(self.texts(stage), stage.sequences, self.rates(stage))
        self.chunk += 1
        self.step += STEPS_A_CHUNK
        self.tokens += STEPS_A_CHUNK * stage.sequences * stage.text.tokens
        measured = self.measured() if self.chunk % self.settings.chunks_a_curve == 0 else {}
        self.seconds += time.monotonic() - start
        self.curve.append(
            {
                "step": self.step,
                "seq_len": stage.text.tokens,
                "tokens": self.tokens,
                "loss": loss,
                "accuracy": accuracy,
                **measured,
                "seconds": self.seconds,
            }
        )
        self._end_stage(stage, accuracy)
        return loss, accuracy

    def texts(self, stage):
        seed = stream_seed("training", self.seed, self.stage, self.chunk)
        return draw(stage.text, STEPS_A_CHUNK * stage.sequences, self.device, seed)

    def rates(self, stage):
        """Linear warm-up over the first steps, linear decay to zero at the end of the last stage."""
        settings = self.settings
        last = self.stage == len(settings.stages) - 1
        decaying = settings.decay * stage.most_steps
        rates = []
        for step in range(STEPS_A_CHUNK):
            left = stage.most_steps - (self.chunk * STEPS_A_CHUNK + step)
            decay = min(1.0, left / decaying) if last else 1.0
            rates.append(settings.rate * min(1.0, (self.step + step + 1) / settings.warmup) * decay)
        return rates

    def _end_stage(self, stage, accuracy):
        steps = self.chunk * STEPS_A_CHUNK
        last = self.stage == len(self.settings.stages) - 1
        if steps < stage.most_steps and (last or accuracy < self.settings.goal):
            return
        self.stages.append([stage.text.tokens, steps, accuracy])
        self.stage, self.chunk = self.stage + 1, 0
        if len(self.stages) == 1 and accuracy < self.settings.learned:
            self.learned, self.stage = False, len(self.settings.stages)

    def measured(self):
        """Accuracy and routing at the length that training ends with, always on the same texts: whether the router is
        ahead of the answers is seen only there, where not every block is read anyway."""
        settings, text = self.settings, self.settings.trained()
        result = evaluate(
            self.model, text, settings.curve_sequences, settings.batch_tokens, ("curve", self.seed), self.device
        )
        accuracy = result.accuracy
        fields = {"measured_seq_len": text.tokens, "measured_accuracy": accuracy["correct"] / accuracy["asked"]}
        return {**fields, **best_layer(result.heads.get("", []))}


def best_layer(heads):
    """hits, queries, signal_mean and signal_sd of the layer whose heads together hit most often; {} without heads."""
    layers = {}
    for head in heads:
        layers.setdefault(head["layer"], []).append(head)
    if not layers:
        return {}
    layer, best = max(layers.items(), key=lambda item: sum(head["hits"] for head in item[1]))
    fields = {"layer": layer, "hits": sum(h["hits"] for h in best), "queries": sum(h["queries"] for h in best)}
    if all("signal_mean" in head for head in best):
        mean = sum(head["signal_mean"] for head in best) / len(best)
        square = sum(head["signal_sd"] ** 2 + head["signal_mean"] ** 2 for head in best) / len(best)
        fields.update(signal_mean=mean, signal_sd=max(0.0, square - mean**2) ** 0.5)
    return fields

