"""Steps of the optimizer on batches of one shape; on a GPU they become a CUDA graph, as models this small spend
their time launching kernels."""

import torch
import torch.nn.functional as F
from torch import nn

from .recall_task import Batch

CLIP = 1.0  # most norm of the gradient
LOW_PRECISION = torch.bfloat16


def low_precision(device):
    """The context in which a model runs: bf16 arithmetic on GPUs, float32 elsewhere."""
    return torch.autocast(device.type, dtype=LOW_PRECISION, enabled=device.type == "cuda")


def make_optimizer(model, device):
    """AdamW, with its rate in a tensor that a captured graph reads at each step."""
    rate = torch.zeros((), device=device)
    cuda = device.type == "cuda"
    return torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True, capturable=cuda
    )


class Stepper:
    """run() takes a step on each of several batches and returns their mean loss and accuracy.

    The first call runs eagerly, which makes what a graph needs to exist before it is captured; so does every call
    without `graphs`.
    """

    def __init__(self, model, optimizer, device, graphs):
        self.model, self.optimizer, self.device = model, optimizer, device
        self.capture = graphs and device.type == "cuda"
        self.graph, self.inputs, self.ready = None, None, False
        self.loss = torch.zeros((), device=device)
        self.correct = torch.zeros((), device=device, dtype=torch.int64)

    def run(self, batch, sequences, rates):
        """batch: a Batch of len(rates) * sequences sequences; rates: the learning rate of each step."""
        self.loss.zero_()
        self.correct.zero_()
        if self.capture and self.ready and self.graph is None:
            self._capture(batch.rows(0, sequences))
        for step, rate in enumerate(rates):
            self._set_rate(rate)
            self._one(batch.rows(step * sequences, (step + 1) * sequences))
        self.ready = True
        return self.loss.item() / len(rates), self.correct.item() / batch.answers.numel()

    def _set_rate(self, rate):
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate)

    def _one(self, batch):
        if self.graph is None:
            self.optimizer.zero_grad(set_to_none=True)
            self._step(batch)
            return
        for mine, given in zip(self.inputs, batch):
            mine.copy_(given)
        self.graph.replay()

    def _step(self, batch):
        with low_precision(self.device):
            logits = self.model(batch.tokens, batch.at)
        logits = logits.float()
        loss = F.cross_entropy(logits.flatten(0, 1), batch.answers.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.loss += loss.detach()
        self.correct += (logits.detach().argmax(-1) == batch.answers).sum()

    def _capture(self, like):
        """Gradients must not exist yet: those that the captured backward pass makes are then written anew each time."""
        self.inputs = Batch(*(x.clone() for x in like))
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream(self.device)):
            self._step(self.inputs)
