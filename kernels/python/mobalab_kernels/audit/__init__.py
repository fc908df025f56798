"""The referee: runs any router or MoBA attention through the checks that the kernels of this project must pass.

    python3 -m mobalab_kernels.audit ours
    python3 -m mobalab_kernels.audit my_module:route --dtype float32

A subject is a function or an object with some of these; what it does not have is reported as not offered, never as
passed. Arrays are NumPy arrays or torch tensors (--arrays, --device, --dtype), contiguous, as many queries as keys:

    route(q, k, block_size, topk[, cu_seqlens]) -> selection
        q [tokens, heads, head_dim], k [tokens, heads_k, head_dim]; integers [heads, tokens, slots]: block numbers in the
        query's own sequence, -1 for an empty slot, in any order. The own block may be among them or not. topk counts
        the own block, as everywhere in this package.
    attention(q, k, v, block_size, topk[, cu_seqlens]) -> out, or (out, lse)
        out like q; causal, one softmax over the keys of the own and the routed blocks, scale head_dim^-1/2.
    summaries(k, block_size) -> centroids [blocks, heads_k, head_dim]
    gradients(q, k, v, d_out, block_size, topk) -> (dq, dk, dv)
        without it autograd is asked, where attention is a torch function that it follows.

cu_seqlens: int32 [sequences + 1], where packed sequences begin and end; a function that has no such parameter does not
offer packed sequences. A function alone is a router if its parameters begin with q, k, and an attention if with q, k, v.

Two attributes of the object or function say what it promises: `ties` = "higher" (the default: of equal scores the
higher block is kept) or "any"; `centroids` = "input" (the default: kept in the dtype of the keys), "fp32", or "centred"
(the mean of block 0 is subtracted before they are rounded to the dtype of the keys).
"""

from .finding import Finding, Verdict
from .run import audit, exit_code
from .settings import Settings
from .subject import Subject, arrays_of

__all__ = ["Finding", "Settings", "Subject", "Verdict", "arrays_of", "audit", "exit_code"]
