"""MoBA attention as a layer of a torch model."""

import torch
from torch import nn

from . import _arguments
from ._errors import invalid, invalid_type
from ._moba_attention import moba_attention


class MobaAttention(nn.Module):
    """A self-attention layer: projections to queries, keys and values, moba_attention, projection back.

    width: of the tokens' vectors; heads query heads and heads_k (None: as many) key heads of head_dim (None: width /
    heads). block_size, topk, causal, scale, scorer, scorer_seed, keep_first, fp32_centroids, centred_centroids: as in
    moba_attention; block_size and topk are attributes and may be changed. conv_width: of the key convolution, 1 to 8, or
    0 for none. bias: of the projections. device, dtype: of the parameters; those of the convolution are float32 whatever
    the dtype.

    Parameters: qkv and out (nn.Linear), conv_weight ([heads_k, head_dim, conv_width], or None). The convolution starts
    at 0, where it changes nothing.

    Raises what moba_attention raises, of numbers and flags when it is made; ValueError where heads do not divide.
    """

    def __init__(
        self,
        width,
        heads,
        heads_k=None,
        *,
        block_size,
        topk,
        head_dim=None,
        conv_width=0,
        bias=False,
        device=None,
        dtype=None,
        **options,
    ):
        super().__init__()
        heads_k = heads if heads_k is None else heads_k
        for name, value in (("width", width), ("heads", heads), ("heads_k", heads_k)):
            _arguments.positive(name, value)
        if heads % heads_k:
            raise invalid("heads_k", f"= {heads_k}", f"a divisor of heads = {heads}", heads)
        if head_dim is None:
            if width % heads:
                raise invalid("heads", f"= {heads}", f"a divisor of width = {width}, or head_dim given", 1)
            head_dim = width // heads
        known = ("causal", "scale", "scorer", "scorer_seed", "keep_first", "fp32_centroids", "centred_centroids", "threads")
        unknown = [name for name in options if name not in known]
        if unknown:
            raise invalid_type(unknown[0], "is no argument of MobaAttention", f"one of {', '.join(known)}", known[0])
        self.heads, self.heads_k, self.head_dim = heads, heads_k, _arguments.positive("head_dim", head_dim)
        self.block_size, self.topk, self.options = block_size, topk, options
        _check_options(block_size, topk, head_dim, options)
        rows = (heads + 2 * heads_k) * head_dim
        self.qkv = nn.Linear(width, rows, bias=bias, device=device, dtype=dtype)
        self.out = nn.Linear(heads * head_dim, width, bias=bias, device=device, dtype=dtype)
        conv_width = _arguments.integer("conv_width", conv_width)
        if conv_width > 0:
            shape = (heads_k, head_dim, conv_width)
            self.conv_weight = nn.Parameter(torch.zeros(shape, device=device, dtype=torch.float32))
        else:
            self.register_parameter("conv_weight", None)

    def forward(self, x, *, rotary=None, cu_seqlens=None, max_seqlen=None, selection=None, return_selection=False):
        """x: [batch, tokens, width], or [total, width] with cu_seqlens. rotary: what is done to queries and keys before
        attention, for example rotary positions: a function (q, k) -> (q, k) of [..., heads, head_dim], or None. The
        others: as in moba_attention. Returns like x, or (that, selection)."""
        projected = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        q, k, v = projected.split([self.heads, self.heads_k, self.heads_k], dim=-2)
        if rotary is not None:
            q, k = rotary(q, k)
        out, selection = moba_attention(
            q,
            k,
            v,
            self.block_size,
            self.topk,
            conv_weight=None if self.conv_weight is None else self.conv_weight.float(),
            cu_seqlens=cu_seqlens,
            max_seqlen=max_seqlen,
            selection=selection,
            return_selection=True,
            **self.options,
        )
        out = self.out(out.flatten(-2))
        return (out, selection) if return_selection else out

    def extra_repr(self):
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return (
            f"heads={self.heads}, heads_k={self.heads_k}, head_dim={self.head_dim}, block_size={self.block_size}, "
            f"topk={self.topk}{options}"
        )


def _check_options(block_size, topk, head_dim, options):
    """What moba_attention would refuse at the first call."""
    _arguments.integer("block_size", block_size)
    _arguments.integer("topk", topk)
    for name in ("threads", "scorer_seed"):
        _arguments.integer(name, options.get(name, 0))
    _arguments.softmax_scale("scale", options.get("scale"), head_dim)
    if "scorer" in options:  # which the library is asked about
        _arguments.scorer("scorer", options["scorer"])
    _arguments.flag("keep_first", options.get("keep_first", False))
    _arguments.flag("causal", options.get("causal", True))
    _arguments.kept_as(**{name: options.get(name, False) for name in ("fp32_centroids", "centred_centroids")})
