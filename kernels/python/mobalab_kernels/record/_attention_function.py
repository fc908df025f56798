"""An attention function of transformers that shows queries, keys and values and then lets the model's own run."""

import sys
from contextlib import contextmanager

from transformers import modeling_utils

from .._errors import invalid

PREFIX = "mobalab_record_"  # and the name of the model's own function, of which transformers looks for parts ("flash")
_watchers = {}  # id of a config: who sees the attention of the modules that have it


@contextmanager
def watched(model, see):
    """Within it each attention of the model calls `see(module, q, k, v, scale)` and computes what it always does.

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
            _watchers[id(config)] = see
            config._attn_implementation = PREFIX + own
        yield
    finally:
        for config, own in before:
            config._attn_implementation = own
            _watchers.pop(id(config), None)


def _register(own):
    """Makes the function known that watches the model's own one. It stays known, and does nothing by itself."""

    def attend(module, query, key, value, attention_mask, *args, **named):
        _check_plain(module, query, attention_mask, named)
        scale = named.get("scaling")
        see = _watchers[id(module.config)]
        see(module, query, key, value, query.shape[-1] ** -0.5 if scale is None else scale)
        return _own_function(module, own)(module, query, key, value, attention_mask, *args, **named)

    if not hasattr(
        modeling_utils, "AttentionInterface"
    ):  # transformers 4.48: a dict, and a full mask for its new names
        modeling_utils.ALL_ATTENTION_FUNCTIONS[PREFIX + own] = attend
        return
    modeling_utils.AttentionInterface.register(PREFIX + own, attend)
    try:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
    except ImportError:  # before 4.53
        return
    if own in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionMaskInterface.register(PREFIX + own, ALL_MASK_ATTENTION_FUNCTIONS[own])


def _own_function(module, own):
    """What the model's code would have called: its file may have functions of its own."""
    code = sys.modules[type(module).__module__]
    if own == "eager":
        return code.eager_attention_forward
    return getattr(code, "ALL_ATTENTION_FUNCTIONS", modeling_utils.ALL_ATTENTION_FUNCTIONS)[own]


def _check_plain(module, query, mask, named):
    """Raises where the model's attention is not softmax(scale q.k) over all tokens up to the query's own."""
    layer, tokens = getattr(module, "layer_idx", "?"), query.shape[2]
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
    causal = named.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise invalid("model", f"layer {layer} is not causal", "a causal language model", "another model")
    if getattr(mask, "ndim", 0) == 4:
        last = mask[..., -1, :]
        if not bool((last == 0 if last.dtype.is_floating_point else last).all()):
            raise invalid(
                "model", f"layer {layer} hides keys from the last query", "dense causal attention", "fewer tokens"
            )
