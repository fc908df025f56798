"""MoBA routing and attention on torch tensors or NumPy arrays, through mobalab's C interface.

    import mobalab_kernels as mk
    selection = mk.route(q, k, block_size=128, topk=8)
    out = mk.moba_attention(q, k, v, block_size=128, topk=8)        # differentiable (torch)

What all functions share:

- Tensors are [batch, seqlen, heads, head_dim]. Packed sequences of different lengths are [total, heads, head_dim] with
  cu_seqlens_q and cu_seqlens_k: int32 [batch + 1], on the tensors' device, from 0 to the number of tokens; sequence b
  owns the tokens [cu_seqlens[b], cu_seqlens[b + 1]). On CUDA devices their contents are read back and checked; whoever
  gives max_seqlen_q, max_seqlen_k and total_blocks (all of them; see sequence_lengths) saves that wait and vouches for
  them.
- heads_q is a multiple of heads_k. The last query of a sequence stands at its last key, so with fewer queries than keys
  they are the last ones of the sequence; with more, the first seqlen_q - seqlen_k rows see no key: selection -1, out 0,
  lse +inf, gradients 0.
- v may have another head_dim than q and k; it is that of the output and of both their gradients.
- Any strides are taken, 0 included (expand, broadcast_to), and nothing is copied; only head_dim must be contiguous, on
  CUDA devices with rows at multiples of 16 bytes. Negative strides are refused. selection, lse, weight and cu_seqlens
  must be contiguous. Inputs may be read-only; outputs are new arrays.
- Arguments of a call are all NumPy arrays or all torch tensors on one device, of one dtype: float32, bfloat16 or
  float16. CUDA tensors run on the CUDA backend (compute capability 8.0 and up; 16-bit dtypes, head_dim a multiple of 8 up
  to 256, with scorer "quest" on Hopper up to 128, block_size up to 16384, 65,536 blocks a sequence, topk up to 1024), on torch's current stream of their
  device, others on the CPU backend; outputs and workspace come from torch (so its caching allocator owns them) or NumPy.
- topk counts the query's own block; the number of blocks or more means all of them.
- scorer says how a query scores a block: "mean" (of its keys, MoBA's own), "quest" (an upper bound from the largest and
  smallest key of each channel), "max" (the largest of each channel), "submean-R" (the best of R equal parts of the
  block, each scored by its mean; R divides block_size), "random" (a hash of scorer_seed, sequence, head, position and
  block: the control of every comparison). SCORERS names them; kernels/README.md has the formulas.
- centred_centroids=True (centred=True where centroids are computed; scorer "mean" only) subtracts the mean of block 0
  of the sequence from all centroids before they are rounded to the dtype. Ranks stay what they are, scores are then
  relative to block 0's; where keys share a mean, rounding changes far fewer rows, at no other cost.
- keep_first=True keeps block 0 of its sequence in every row that has it as a candidate, whatever its score: it counts
  as one of the topk (of at least 2) and stands first in the selection. Trained models give their first tokens much of
  the attention.
- causal=False of everything that routes or attends: a query has no own block and no place, every block of its sequence
  is a candidate, the partial last one too, and the topk best are attended to whole. CUDA devices take it with
  every scorer but "submean-R".
- scale is that of q . key in the softmax, None for head_dim ** -0.5; routing does not look at it. CUDA devices take at
  most 65,536, and give NaN where scaled scores reach 2^30.
- NaN: a score that is NaN ranks first, so a NaN key is kept and shows in the rows that could see it, and only there.
- Decoding: append_centroids, decode_route, decode_attention and moba_decode read keys and values that stand in a cache,
  in pages or not, with a length for each sequence; MobaCache (torch) keeps all of it.
- threads: CPU threads, 0 for all.
- moba_attention is differentiable, and so is what is made of it: MobaAttention, the attention functions of
  mobalab_kernels.flash_moba, the one that mobalab_kernels.hugging_face registers. They alone need torch 2.4 or later;
  torch.compile, CUDA graphs, checkpoints and torch.func take them. All other functions refuse tensors that require grad
  while autograd records, and break a compiled graph.

Errors are mobalab_kernels.Error; those about a value are ValueErrors as well, those about a kind or dtype TypeErrors.
"""

import importlib
import importlib.util

from ._arguments import scorer_names
from ._errors import Error
from ._decode import append_centroids, decode_attention, decode_route, moba_decode
from ._functions import (
    attention_backward,
    attention_forward,
    compute_centroids,
    key_conv_backward,
    key_conv_centroids,
    key_conv_forward,
    moba_forward,
    route,
    route_with_centroids,
    sequence_lengths,
)
from ._library import abi, backend_available, load

__all__ = [
    "Error",
    "SCORERS",
    "abi",
    "append_centroids",
    "attention_backward",
    "attention_forward",
    "backend_available",
    "compute_centroids",
    "decode_attention",
    "decode_route",
    "key_conv_backward",
    "key_conv_centroids",
    "key_conv_forward",
    "load",
    "moba_decode",
    "moba_forward",
    "route",
    "route_with_centroids",
    "sequence_lengths",
]
_OF_TORCH = {"moba_attention": "_moba_attention", "MobaAttention": "_module", "MobaCache": "_cache"}  # the files that define them
if importlib.util.find_spec("torch") is not None:
    __all__ += _OF_TORCH


def __getattr__(name):
    # What needs torch; the rest does not, and waits for no import of it.
    if name in _OF_TORCH:
        return getattr(importlib.import_module(f".{_OF_TORCH[name]}", __name__), name)
    if name == "SCORERS":  # the library's, which is loaded for it
        return scorer_names()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
