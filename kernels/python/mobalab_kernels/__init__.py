"""MoBA routing and attention on torch tensors or NumPy arrays, through mobalab's C interface.

Tensors are [batch, seq, heads, dim] (or [tokens, heads, dim] with cu_seqlens), contiguous in dim. CUDA tensors run on the
CUDA backend on torch's current stream, CPU tensors and arrays on the CPU backend. `topk` counts the query's own
block. Nothing is copied; outputs and workspace are allocated by torch (so its caching allocator owns them) or NumPy.

    import mobalab_kernels as mk
    selection = mk.route(q, k, block_size=128, topk=8)
    out = mk.moba_attention(q, k, v, block_size=128, topk=8)        # differentiable (torch)
"""

from ._library import Error, abi, backend_available, load
from ._functions import (
    attention_backward,
    attention_forward,
    compute_centroids,
    key_conv_backward,
    key_conv_centroids,
    key_conv_forward,
    moba_forward,
    route,
)

__all__ = [
    "Error",
    "abi",
    "attention_backward",
    "attention_forward",
    "backend_available",
    "compute_centroids",
    "key_conv_backward",
    "key_conv_centroids",
    "key_conv_forward",
    "load",
    "moba_attention",
    "moba_forward",
    "route",
]


def __getattr__(name):
    # moba_attention needs torch; the rest does not.
    if name == "moba_attention":
        from ._autograd import moba_attention

        return moba_attention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
