"""An attention function of transformers that shows queries, keys and values and then lets the model's own run."""

import sys
from contextlib import contextmanager

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .._errors import invalid

PREFIX = "mobalab_record_"  # and the name of the model's own function, of which transformers looks for parts ("flash")
_watchers = {}  # id of a config: (the chosen modules, what is called for them)


@contextmanager
def watched(model, chosen, see):
    """Within it each of the chosen attention modules calls `see(module, q, k, v, scale)`; all compute what they always
    do.

    q [batch, heads, token, head_dim], k and v as the model hands them over, before heads are repeated.
    """
    configs = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(config): config for config in configs if hasattr(config, "_attn_implementation")}
    if configs.keys() & _watchers.keys():
        raise invalid("model", "is being recorded", "recorded once at a time", "a second recording after the first")
    before = [(config, config._attn_implementation or "eager") for config in configs.values()]
    try:
        for config, own in before:
            _register(own)
            _watchers[id(config)] = (set(chosen), see)
            config._attn_implementation = PREFIX + own
        yield
    finally:
        for config, own in before:
            config._attn_implementation = own
            _watchers.pop(id(config), None)


def _register(own):
    """Makes the function known that watches the model's own one. It stays known, and does nothing by itself."""

    def attend(module, query, key, value, attention_mask, *args, **named):
        chosen, see = _watchers[id(module.config)]
        if module in chosen:
            _check_plain(module, query, key, attention_mask, named)
            scale = named.get("scaling")
            see(module, query, key, value, query.shape[-1] ** -0.5 if scale is None else scale)
        return _own_function(module, own)(module, query, key, value, attention_mask, *args, **named)

    AttentionInterface.register(PREFIX + own, attend)
    if own in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionMaskInterface.register(PREFIX + own, ALL_MASK_ATTENTION_FUNCTIONS[own])


def _own_function(module, own):
    """What the model's code would have called: its file may have functions of its own."""
    code = sys.modules[type(module).__module__]
    if own == "eager":
        return code.eager_attention_forward
    return getattr(code, "ALL_ATTENTION_FUNCTIONS", ALL_ATTENTION_FUNCTIONS)[own]


def _check_plain(module, query, key, mask, named):
    """Raises where the model's attention is not softmax(scale q.k) over all tokens up to the query's own."""
    layer, tokens = getattr(module, "layer_idx", "?"), key.shape[2]
    window = named.get("sliding_window")
    if window is not None and window < tokens:
        raise invalid(
            "model",
            f"layer {layer} has a sliding window of {window} tokens",
            "dense causal attention",
            f"at most {window} tokens, or other layers",
        )
    for name in ("softcap", "s_aux", "sinks", "position_bias"):
        if named.get(name) is not None:
            raise invalid(
                "model",
                f"layer {layer} has {name}",
                "attention whose scores are scale times q.k alone",
                "another model",
            )
    if not _sees_all_before(module, query.shape[2], tokens, mask, named.get("is_causal")):
        raise invalid("model", f"layer {layer} is not causal and dense", "dense causal attention", "another model")


def _sees_all_before(module, queries, keys, mask, causal):
    """Whether each query sees the keys up to its own position and no others."""
    if getattr(mask, "ndim", 0) != 4:  # none, or the padding that flash attention is told of: there is none
        return getattr(module, "is_causal", True) if causal is None else causal
    seen = mask[..., :keys]  # some make it longer
    seen = seen == 0 if seen.dtype.is_floating_point else seen.bool()
    position = torch.arange(keys, device=seen.device)
    return all(bool((seen[..., row, :] == (position <= keys - queries + row)).all()) for row in range(queries))
