"""MoBA as an attention function of Hugging Face transformers (4.56 and later), for training, prefill and decoding:

    from mobalab_kernels import hugging_face
    hugging_face.register(block_size=128, topk=8)
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="mobalab")

Blocks are counted from the first token of each sequence that is no padding, so padding on either side changes nothing.
Where a batch has none, nothing is copied; where it has some, and with caches of fixed length, keys and values are
packed for every layer and the host reads the mask once for each forward pass. What is no causal attention over all
tokens is refused: windows shorter than the text, chunks, other masks, dropout, soft caps, sinks.

Decoding keeps the summaries of keys from pass to pass where the cache leaves keys in their place:

    model.generate(**inputs, past_key_values=hugging_face.SummarisedCache())  # cache= where transformers calls it so

or with a StaticCache. A pass of up to 16 queries then summarises the keys that have arrived, and reads summaries and the
blocks it attends to. A DynamicCache, transformers' default, hands out a copy of all keys at each step: nothing says that
they are the ones from before, so all are summarised again. What is kept belongs to one tensor and is trusted only
while torch has counted no write into it but the cache's own; after a reset, a reordering by others or keys that somebody
changed, all keys are summarised again, and after a crop those from there on. (Writes that torch does not count, by
tensor.data or a replayed CUDA graph, are the caller's.)

Under torch.compile there must be no mask (or one that transformers drops) and a cache that grows, as models make by
default with use_cache=True (SummarisedCache breaks the graph, and compiled passes keep no summaries): without a cache
transformers takes every text that is traced for a packed one.
"""

import functools
import operator

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    packed_sequence_mask_function,
    sliding_window_overlay,
)

from . import _arguments, _kept_summaries
from ._errors import invalid
from ._moba_attention import moba_attention
from ._summarised_cache import SummarisedCache

__all__ = ["SummarisedCache", "register"]

# A mask as attention gets it: uint8 [batch, 1, 1, keys], these added up. One of 4 extents transformers hands on as it is
# where generate() has made it ahead of the model, which of 2 would ask for another one made of it.
# _KEY: a token; _QUERY: a place of the queries; _OTHER: the model wants more than a causal mask; _WINDOW: a causal mask
# within a sliding window, of whose length attention is told apart.
_KEY, _QUERY, _OTHER, _WINDOW = 1, 2, 4, 8


def register(
    block_size,
    topk,
    *,
    name="mobalab",
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    fp32_centroids=False,
    centred_centroids=False,
):
    """Makes attn_implementation=name known to transformers. The arguments are those of moba_attention; another call
    with the same name replaces them, another name stands beside it. topk counts the query's own block. Raises what
    moba_attention raises."""
    if not isinstance(name, str) or not name:
        raise invalid("name", f"= {name!r}", "a string that is not empty", "'mobalab'")
    _arguments.integer("block_size", block_size)
    _arguments.integer("topk", topk)
    _arguments.scorer("scorer", scorer)
    _arguments.integer("scorer_seed", scorer_seed)
    options = {
        "block_size": block_size,
        "topk": topk,
        "scorer": scorer,
        "scorer_seed": scorer_seed,
        "keep_first": _arguments.flag("keep_first", keep_first),
        "fp32_centroids": _arguments.flag("fp32_centroids", fp32_centroids),
        "centred_centroids": _arguments.flag("centred_centroids", centred_centroids),
    }
    _arguments.kept_as(fp32_centroids=fp32_centroids, centred_centroids=centred_centroids)

    def attend(module, query, key, value, attention_mask, **settings):
        return _attend(module, query, key, value, attention_mask, options, settings), None

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, _mask)


# --------------------------------------------------------------------------------------------------------------- mask


def _mask(
    batch_size,
    q_length=None,
    kv_length=None,
    q_offset=0,
    kv_offset=0,
    mask_function=causal_mask_function,
    attention_mask=None,
    cache_position=None,
    device=None,
    **settings,
):
    """What transformers calls once a forward pass: None where all keys are tokens, queries the last."""
    if cache_position is not None:  # before version 5
        q_length, q_offset = cache_position.shape[0], cache_position[0]
    if int(kv_offset) > 0:  # a sliding cache hands on the last tokens alone, and attention cannot tell
        dropped = f"has dropped the first {int(kv_offset)} tokens"
        raise invalid("sliding_window", dropped, "attention to all tokens before", "a cache that keeps them")
    wish = _wish(mask_function)
    plain = wish == 0
    if plain and attention_mask is None and isinstance(q_offset, int) and q_offset + q_length == kv_offset + kv_length:
        return None
    end = int(q_offset) + q_length - kv_offset  # of the keys that have been written
    if attention_mask is not None and attention_mask.shape[1] < kv_offset + end:
        rule = "[batch, tokens], a column for each token so far"
        raise invalid("attention_mask", f"has shape {tuple(attention_mask.shape)}", rule, (batch_size, kv_offset + end))
    tokens = None if attention_mask is None else attention_mask[:, kv_offset : kv_offset + kv_length].bool()
    if tokens is not None and bool(tokens[:, end:].any()):
        rule = "no keys behind the queries"
        raise invalid("attention_mask", f"names tokens behind position {end}", rule, "a cache for what comes before")
    if plain and kv_length == end and (tokens is None or bool(tokens.all())):
        return None
    device = attention_mask.device if device is None and attention_mask is not None else device
    mask = torch.zeros(batch_size, kv_length, dtype=torch.uint8, device=device)
    mask[:, :end] = _KEY if tokens is None else tokens[:, :end] * _KEY
    mask[:, end - q_length : end] += _QUERY
    return (mask + wish)[:, None, None]


# What transformers' functions of masks are made of: each call of one of these gives another function of the same code.
_JOINED = and_masks(causal_mask_function).__code__
_WITHIN = sliding_window_overlay(1).__code__
_PACKED = packed_sequence_mask_function(None).__code__


def _wish(mask_function):
    """What a model wants beside a causal mask: 0, _WINDOW or _OTHER."""
    parts = _parts(mask_function)
    if not any(part is causal_mask_function for part in parts):
        return _OTHER
    return functools.reduce(operator.or_, (_wish_of_part(part) for part in parts))


def _parts(mask_function):
    """The functions that transformers has joined into one: a token is seen where all of them say so."""
    if getattr(mask_function, "__code__", None) is not _JOINED:
        return [mask_function]
    (joined,) = (cell.cell_contents for cell in mask_function.__closure__)
    return [part for function in joined for part in _parts(function)]


def _wish_of_part(part):
    code = getattr(part, "__code__", None)
    if part is causal_mask_function:
        return 0
    if code is _WITHIN:
        return _WINDOW
    if code is not _PACKED or torch.compiler.is_compiling():
        return _OTHER
    (texts,) = (cell.cell_contents for cell in part.__closure__)  # [batch, keys], the number of the text of a token
    return 0 if bool((texts == texts[:, :1]).all()) else _OTHER  # before version 5 also where there is but one text


class _Places:
    """Where the tokens of a mask are, read from it once."""

    def __init__(self, mask):
        on_host = mask[:, 0, 0].cpu()
        self.device = mask.device
        self.other = bool((on_host & _OTHER).any())
        self.window = bool((on_host & _WINDOW).any())
        self.tokens = (on_host & _KEY) != 0  # on the host, as the decisions of a pass hang on it
        places = ((on_host[0] & _QUERY) != 0).nonzero()  # one behind the other, the same in all rows
        if places.numel() == 0:
            raise _wrong_mask(mask)
        self.first, self.end = int(places[0]), int(places[-1]) + 1  # of the queries
        self.padded = not bool(self.tokens[:, : self.end].all())
        self._compared = ()
        self._table = ()

    @functools.cached_property
    def keys(self):
        return self._packed(self.tokens)

    @functools.cached_property
    def queries(self):
        return self._packed(self.tokens[:, self.first : self.end])

    def _packed(self, tokens):
        """(places among [batch * tokens], cu_seqlens, length of the longest)"""
        counts = tokens.sum(1)
        cu_seqlens = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
        places = tokens.flatten().nonzero().flatten()
        return places.to(self.device), cu_seqlens.to(self.device), int(counts.max())

    def all_tokens(self, first, end):
        return bool(self.tokens[:, first:end].all())

    def begins_like(self, tokens, columns):
        """Whether the first columns are tokens where `tokens` (None: everywhere) says so. Layers ask alike."""
        if self._compared[:2] != (id(tokens), columns):
            mine = self.tokens[:, :columns]
            same = bool(mine.all()) if tokens is None else torch.equal(mine, tokens[:, :columns])
            self._compared = (id(tokens), columns, same, tokens)  # which keeps its id
        return self._compared[2]

    @functools.cached_property
    def lengths(self):
        """Tokens of each sequence, int32 [batch]."""
        return self.tokens.sum(1, dtype=torch.int32).to(self.device)

    def table(self, step, columns):
        """int32 [batch, columns]: the column of each token of a sequence, `step` more for each sequence before."""
        if self._table[:1] != ((step, columns),):
            table = torch.zeros(self.tokens.shape[0], columns, dtype=torch.int32)
            for b, tokens in enumerate(self.tokens):
                found = tokens.nonzero().flatten()
                table[b, : found.shape[0]] = found + b * step
            self._table = ((step, columns), table.to(self.device))
        return self._table[1]

    @classmethod
    def of(cls, mask):
        """Kept on the mask, which every layer of a pass gets: threads share nothing, and both are freed together."""
        places = getattr(mask, "_mobalab_places", None)
        if places is None:
            places = mask._mobalab_places = cls(mask)
        return places


# ---------------------------------------------------------------------------------------------------------- attention


def _attend(module, query, key, value, mask, options, settings):
    """[batch, queries, heads, head_dim] of query [batch, heads, queries, head_dim], key and value alike."""
    places = _places(mask)
    _check_settings(module, key.shape[2], places, settings)
    options = {**options, "scale": settings.get("scaling")}
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if settings.get("cu_seq_lens_q") is not None:
        if places is not None and places.padded:
            raise invalid("cu_seq_lens_q", "given with padding", "given without", "an attention_mask of ones, or none")
        return _attend_packed(q, k, v, options, settings)
    end = k.shape[1] if places is None else places.end
    padding = places if places is not None and places.padded else None
    if not torch.compiler.is_compiling():
        out = _kept_summaries.attend(q, key, value, end - q.shape[1], end, padding, options)
        if out is not None:
            return out
    if padding is None:
        return moba_attention(q, k[:, :end], v[:, :end], **options)
    return _attend_unpadded(q, k, v, places, options)


def _attend_packed(q, k, v, options, settings):
    """Sequences one behind the other in a batch of one, as transformers' collators without padding make them."""
    if q.shape[0] != 1:
        raise invalid("cu_seq_lens_q", f"given with a batch of {q.shape[0]}", "given with a batch of 1", "one row")
    sequences = {
        "cu_seqlens_q": settings["cu_seq_lens_q"],
        "cu_seqlens_k": settings.get("cu_seq_lens_k"),
    }
    sequences = {name: None if cu is None else cu.int() for name, cu in sequences.items()}
    return moba_attention(q[0], k[0], v[0], **options, **sequences)[None]


def _attend_unpadded(q, k, v, places, options):
    """Tokens packed, attended to, and put back; rows of padding are 0."""
    where, cu_q, longest_q = places.queries
    keys, cu_k, longest_k = places.keys
    packed = [tensor.flatten(0, 1)[at] for tensor, at in ((q, where), (k, keys), (v, keys))]
    blocks = int((-(-(cu_k[1:] - cu_k[:-1]) // options["block_size"])).sum())
    out = moba_attention(
        *packed,
        **options,
        cu_seqlens_q=cu_q,
        cu_seqlens_k=cu_k,
        max_seqlen_q=longest_q,
        max_seqlen_k=longest_k,
        total_blocks=blocks,
    )
    rows = out.new_zeros((q.shape[0] * q.shape[1], *out.shape[1:]))
    return rows.index_copy(0, where, out).reshape(*q.shape[:2], *out.shape[1:])


def _places(mask):
    if mask is None:
        return None
    if mask.dim() != 4 or mask.shape[1:3] != (1, 1) or mask.dtype != torch.uint8:
        raise _wrong_mask(mask)
    return _Places.of(mask)


def _wrong_mask(mask):
    value = f"is a {mask.dtype} tensor of shape {tuple(mask.shape)}"
    return invalid("attention_mask", value, "0 or 1 for each token: [batch, tokens]", "no mask, for causal attention")


def _check_settings(module, keys, places, settings):
    """Raises where the model wants more than softmax(scale q.k) over the tokens up to the query's own."""
    layer = f"layer {getattr(module, 'layer_idx', '?')}"
    window = settings.get("sliding_window")
    if window is not None and window < keys:
        rule = "attention to all tokens before"
        raise invalid(layer, f"has a sliding window of {window} tokens of {keys}", rule, f"at most {window} tokens")
    packed = settings.get("cu_seq_lens_q") is not None
    other = places is not None and (places.other or (places.window and window is None))
    if other and not packed:
        rule = "a causal one, with or without padding; packed sequences are named by cu_seq_lens_q and cu_seq_lens_k"
        raise invalid(layer, "has a mask of its own", rule, "another attn_implementation")
    for name in ("softcap", "s_aux", "sinks", "position_bias", "head_mask"):
        if settings.get(name) is not None:
            raise invalid(layer, f"has {name}", "attention whose scores are scale times q.k alone", "another model")
    if settings.get("dropout"):
        raise invalid("dropout", f"= {settings['dropout']}", "0: MoBA attention has none", "attention_dropout = 0")
    if settings.get("output_attentions"):
        raise invalid("output_attentions", "= True", "False: weights are never made", "attn_implementation 'eager'")
    causal = settings.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise invalid(layer, "is not causal", "causal", "another attn_implementation")
