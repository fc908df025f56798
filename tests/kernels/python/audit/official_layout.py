"""A package `flash_moba` with the official one's public functions and layouts, made of the kernels of this project: what
the audit's adapter is tested with where there is no GPU."""

import sys
import types

import mobalab_kernels as mk
import torch


def _column_lists(selection, cu_seqlens, blocks):
    """(offsets int64 [sequences, heads, blocks], counts int32, row numbers in their sequence): rows that keep each
    block, the own block among them, list behind list."""
    heads, sequences = selection.shape[0], len(cu_seqlens) - 1
    offsets = torch.zeros((sequences, heads, blocks), dtype=torch.int64)
    counts, rows, used = torch.zeros((sequences, heads, blocks), dtype=torch.int32), [], 0
    for s in range(sequences):
        kept = selection[:, cu_seqlens[s] : cu_seqlens[s + 1]]
        for h in range(heads):
            for b in range(blocks):
                found = (kept[h] == b).any(-1).nonzero().flatten()
                offsets[s, h, b], counts[s, h, b] = used, len(found)
                rows.append(found)
                used += len(found)
    return offsets, counts, torch.cat(rows).to(torch.int32)


def flash_topk_varlen_func(q, k, cu_q, cu_k, longest_q, longest_k, topk, block_size, causal=False):
    assert causal and cu_q.dtype == torch.int32
    selection = mk.route(q, k, block_size, topk, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k)
    own = torch.cat([torch.arange(int(n)) // block_size for n in cu_q[1:] - cu_q[:-1]]).to(torch.int32)
    selection = torch.cat([selection, own.expand(selection.shape[0], -1)[..., None]], dim=-1)
    return _column_lists(selection, cu_q.tolist(), -(-longest_k // block_size))


def flash_moba_varlen_func(q, k, v, cu_q, cu_k, longest_q, longest_k, block_size, topk, causal=True):
    assert causal
    return mk.moba_attention(q, k, v, block_size, topk, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k)


def flash_topk_mean_pool(k, cu_k, longest, block_size):
    means = mk.compute_centroids(k, block_size, cu_seqlens_k=cu_k)
    return means, None, -(-longest // block_size)


def install():
    """Makes it importable as flash_moba."""
    package, pooling = types.ModuleType("flash_moba"), types.ModuleType("flash_moba.triton_mean_pool")
    package.__version__ = "layout"
    package.flash_topk_varlen_func = flash_topk_varlen_func
    package.flash_moba_varlen_func = flash_moba_varlen_func
    pooling.flash_topk_mean_pool = flash_topk_mean_pool
    package.triton_mean_pool = pooling
    sys.modules.update({"flash_moba": package, "flash_moba.triton_mean_pool": pooling})
