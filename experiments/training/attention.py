"""The attention layers of the trained models: sliding window with rotary positions, dense, and MoBA without positions.

All tensors are [batch, tokens, heads, head_dim], all attention is causal with the scale 1/sqrt(head_dim). Queries and
keys are normalised per head (root mean square, with a learned gain a channel), so that a query's affinities have a
known scale whatever the projections learn.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn

import mobalab_kernels as mk

ROPE_THETA = 10000.0
CONV_SCALE = 0.3  # standard deviation of the convolution's output at the start, for keys of unit variance


def dense_attention(q, k, v):
    """Softmax attention over all keys up to the query's own."""
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*heads_first, is_causal=True).transpose(1, 2)


def local_attention(q, k, v, window):
    """Attention over the last `window` keys, the query's own included.

    Tokens are cut into chunks as long as the window: a query then finds its keys in its own chunk and the one before.
    """
    batch, tokens, heads, dim = q.shape
    padding = -tokens % window  # behind the end, where no real query looks
    if padding:
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, padding)) for x in (q, k, v))
    chunks = (tokens + padding) // window
    mask = _window_mask(batch, chunks, window, q.device)
    q = q.reshape(batch * chunks, window, heads, dim)
    k, v = (_with_chunk_before(x.reshape(batch, chunks, window, heads, dim)) for x in (k, v))
    out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask)
    return out.transpose(1, 2).reshape(batch, chunks * window, heads, dim)[:, :tokens]


def _with_chunk_before(x):
    """[batch * chunks, 2 window, heads, dim] of [batch, chunks, window, heads, dim]; zeros before the first chunk."""
    before = F.pad(x[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
    return torch.cat((before, x), dim=2).flatten(0, 1)


@functools.cache  # a captured CUDA graph keeps reading it: it must never be freed
def _window_mask(batch, chunks, window, device):
    """True where a query of a chunk sees a key of the two chunks: bool [batch * chunks, 1, window, 2 window]."""
    query = torch.arange(window, device=device)[:, None] + window
    key = torch.arange(2 * window, device=device)[None]
    mask = ((key <= query) & (query - key < window)).expand(batch, chunks, window, 2 * window).clone()
    mask[:, 0, :, :window] = False  # nothing stands before the first chunk
    return mask.flatten(0, 1)[:, None]


@functools.cache  # a captured CUDA graph keeps reading it: it must never be freed
def rotations(tokens, dim, device):
    """cos and sin, float32 [tokens, 1, dim / 2], of rotary positions (channel i turns with channel i + dim / 2)."""
    frequency = ROPE_THETA ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angle = torch.arange(tokens, device=device, dtype=torch.float32)[:, None, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """x [..., tokens, heads, dim] turned by its positions; the arithmetic is float32, the result has x's dtype."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def linear_key_convolution(k, weight):
    """The linear part of the key convolution: k_t + (1/2) sum_w c_w k_{t-w}, as SiLU(x) = x/2 + an even function.

    k: [batch, tokens, heads, dim]; weight: float32 [heads, dim, width], tap w weighs the key w tokens before.
    """
    out = k.float()
    for tap in range(weight.shape[-1]):
        earlier = F.pad(k, (0, 0, 0, 0, tap, 0))[:, : k.shape[1]]
        out = out + 0.5 * weight[:, :, tap] * earlier
    return out.to(k.dtype)


def convolve_keys(k, weight, convolution):
    """The keys that routing and attention use. convolution: "kept", "linear" (its linear part alone) or "removed"."""
    if weight is None or convolution == "removed":
        return k
    if convolution == "linear":
        return linear_key_convolution(k, weight)
    return mk.key_conv_forward(k.contiguous(), weight)


class Attention(nn.Module):
    """Projections, normalisation and one kind of attention: "local", "dense" or "moba" (see model.ModelConfig)."""

    def __init__(self, config, kind):
        super().__init__()
        self.config, self.kind = config, kind
        width, dim = config.width, config.head_dim
        self.heads = width // dim
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gain = nn.Parameter(torch.ones(2, 1, dim))  # of queries and of keys
        taps = config.key_conv if kind == "moba" else 0
        self.conv = nn.Parameter(CONV_SCALE * torch.randn(self.heads, dim, taps) / taps**0.5) if taps else None

    def project(self, x):
        """q, k and v of x [batch, tokens, width]; keys as they are before the convolution."""
        batch, tokens, _ = x.shape
        dim = self.config.head_dim
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, dim)
        qk = (F.rms_norm(qkv[:, :, :2], (dim,)) * self.gain).to(qkv.dtype)
        if self.kind == "local":
            cos, sin = rotations(tokens, dim, x.device)
            qk = rotate(qk, cos[:, None], sin[:, None])
        return qk[:, :, 0], qk[:, :, 1], qkv[:, :, 2]

    def attend(self, q, k, v, convolution="kept", routing=None):
        """What each query reads; the key convolution of "moba" is part of it (convolve_keys).

        routing: int64 [batch, positions], the only queries of "moba" that see routed blocks: all others see their own
        block alone. None: all see them.
        """
        if self.kind == "local":
            return local_attention(q, k, v, self.config.window)
        if self.kind == "dense":
            return dense_attention(q, k, v)
        weight = self.conv
        if weight is not None and convolution != "kept":
            k, weight = convolve_keys(k, weight, convolution), None
        attended = self._moba(q, k, v, weight, self.config.topk)
        if routing is None:
            return attended
        index = routing[..., None, None].expand(-1, -1, *attended.shape[2:])
        return self._moba(q, k, v, weight, 1).scatter(1, index, attended.gather(1, index))

    def _moba(self, q, k, v, weight, topk):
        return mk.moba_attention(q, k, v, self.config.block_size, topk, weight, scorer=self.config.scorer)
