"""Queries, keys and values of a trained model on one text, as a trace that `mobalab measure` reads."""

import torch

from mobalab_kernels.record import Recorder

from .attention import convolve_keys
from .recall_task import draw, stream_seed
from .stepper import low_precision


@torch.no_grad()
def write_trace(path, name, model, text, seed, device):
    """The MoBA layers on a fresh text: the rows of its questions, all keys as the router sees them (behind the
    convolution), all values. Each asked pair is a needle: its query is the asked key, its key the value in the pair."""
    batch = draw(text, 1, device, stream_seed("trace", seed, text))
    config = model.config
    layers = [i for i in range(config.layers) if config.kind(i) == "moba"]
    recorder = Recorder(
        path,
        model=f"{name}, trained by experiments/training/recall.py",
        text=f"recall task, {text.pairs} pairs in {text.tokens} tokens (random, no licence needed)",
        rope="none",
        layers=layers,
        q_start=int(batch.at[0, 0]),
        token_ids=batch.tokens[0].cpu().numpy(),
        needles=_needles(batch),
        metadata={
            "layers": str(config.layers),
            "block_size": str(config.block_size),
            "topk": str(config.topk),
            "scorer": config.scorer,
            "key_conv": str(config.key_conv),
        },
    )

    def tap(layer, q, k, v):
        if layer in layers:
            recorder.capture(layer, q, convolve_keys(k, model.layers[layer].attention.conv, "kept"), v)

    with recorder, low_precision(device):
        model(batch.tokens, batch.at, tap=tap)


def _needles(batch):
    pairs = zip(batch.at[0].tolist(), batch.places[0].tolist())
    return [
        {"name": f"pair {i}", "query": [query], "key": [place], "fact": [place - 1, place + 1]}
        for i, (query, place) in enumerate(pairs)
    ]
