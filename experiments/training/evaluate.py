"""Accuracy and routing of a trained model on fresh texts, also of the model with a part taken away."""

from typing import NamedTuple

import torch

from .attention import convolve_keys
from .measure_heads import HeadMeter
from .model import UNCHANGED, Intervention
from .recall_task import draw, stream_seed
from .signal_correlation import SignalCorrelation
from .stepper import low_precision

# What the queries would find if the convolution of the keys were another, on otherwise the same forward pass:
# "removed" and "linear" as in attention.convolve_keys; "gain" only weighs each channel with the sum of its linear taps,
# which is all that a linear filter does to the mean of a long block.
KEY_VARIANTS = {"no-conv": "removed", "linear-conv": "linear", "gain": "gain"}
# Whole forward passes of a changed model.
INTERVENTIONS = {
    "no-conv": Intervention(convolution="removed"),
    "linear-conv": Intervention(convolution="linear"),
    "no-layer-0": Intervention(silent=(0,)),
}
# What the asked queries find and answer by themselves; the heads of this pass are measured too, as their queries differ.
WITHOUT_RELAYS = Intervention(relays=False)


class Evaluation(NamedTuple):
    """accuracy: the fields of an "accuracy" record; heads: {variant or "": [fields of a "head" record]}."""

    accuracy: dict
    heads: dict


@torch.no_grad()
def evaluate(model, text, sequences, batch_tokens, seed, device, intervention=UNCHANGED, variants=(), measured=True):
    """Runs the model on `sequences` fresh texts, a function of the seed.

    measured: whether heads of MoBA layers are measured, on the keys that they route by; variants: names of
    KEY_VARIANTS that are measured beside these.
    """
    at_once = max(1, batch_tokens // text.tokens)
    meters = _meters(model, device, variants) if measured else {}
    tally = _Tally(model.config.block_size)
    correlation = SignalCorrelation()
    for start in range(0, sequences, at_once):
        count = min(at_once, sequences - start)
        batch = draw(text, count, device, stream_seed("evaluation", seed, text, start))
        taps = _Taps(model, batch, meters)
        with low_precision(device):
            logits = model(batch.tokens, batch.at, intervention, taps if meters else None)
        tally.add(batch, logits.argmax(-1) == batch.answers, taps.any_hit)
        if taps.signals:
            correlation.add(taps.signals)
    heads = {}
    for (variant, layer), meter in meters.items():
        heads.setdefault(variant, []).extend({"layer": layer, **record} for record in meter.records())
    return Evaluation({"seq_len": text.tokens, **tally.fields(), **correlation.fields()}, heads)


def _meters(model, device, variants):
    config = model.config
    layers = [i for i in range(config.layers) if config.kind(i) == "moba"]
    return {
        (variant, layer): HeadMeter(config.heads, config.block_size, config.topk, config.scorer, device)
        for variant in ("", *variants)
        for layer in layers
    }


class _Taps:
    """Hands the tensors of a forward pass to the meters of their layer; any_hit: which pairs some head routed to;
    signals: the standardised scores of the pairs' blocks, a tensor a layer."""

    def __init__(self, model, batch, meters):
        self.model, self.batch, self.meters = model, batch, meters
        self.any_hit = None
        self.signals = []

    def __call__(self, layer, q, k, _):
        weight = self.model.layers[layer].attention.conv
        for (variant, measured), meter in self.meters.items():
            if measured != layer:
                continue
            hits = meter.add(q, keys_of_variant(k, weight, variant), self.batch)
            if not variant:
                some = hits.any(1)
                self.any_hit = some if self.any_hit is None else self.any_hit | some
                if meter.signal is not None:
                    self.signals.append(meter.signal)


def keys_of_variant(k, weight, variant):
    """The keys that a layer would route by; "": those that it does."""
    convolution = KEY_VARIANTS[variant] if variant else "kept"
    if convolution == "gain":
        gain = 1 + 0.5 * weight.sum(-1)
        return (k.float() * gain).to(k.dtype)
    return convolve_keys(k, weight, convolution)


class _Tally:
    """Counts of the answers, by sequence."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.asked = self.own_block = self.hit = self.hit_correct = self.miss_correct = 0
        self.correct, self.own_by_sequence, self.hit_by_sequence = [], [], []

    def add(self, batch, correct, any_hit):
        self.asked += correct.numel()
        self.correct += correct.sum(1).tolist()
        if self.block_size:
            own = batch.at // self.block_size == batch.places // self.block_size
            self.own_block += int(own.sum())
            self.own_by_sequence += own.sum(1).tolist()
        if any_hit is not None:
            missed = ~any_hit & ~own
            self.hit += int(any_hit.sum())
            self.hit_by_sequence += any_hit.sum(1).tolist()
            self.hit_correct += int((any_hit & correct).sum())
            self.miss_correct += int((missed & correct).sum())

    def fields(self):
        return {
            **self._hits_by_sequence(),
            "asked": self.asked,
            "correct": sum(self.correct),
            "sequences": len(self.correct),
            "sequence_correct": self.correct,
            "own_block": self.own_block,
            "any_hit": self.hit,
            "any_hit_correct": self.hit_correct,
            "no_hit_correct": self.miss_correct,
        }

    def _hits_by_sequence(self):
        """Where heads were measured: what gives any_hit its interval."""
        if not self.hit_by_sequence:
            return {}
        return {"sequence_own_block": self.own_by_sequence, "sequence_any_hit": self.hit_by_sequence}
