"""Scores of blocks by the definition of each scorer (kernels/README.md), from what the kernels keep of keys."""

import torch

import mobalab_kernels as mk


def block_scores(q, k, block_size, scorer):
    """float32 [batch, heads, queries, blocks] of q [batch, queries, heads, dim] and k [batch, tokens, heads, dim], with
    tokens a multiple of block_size; None for a scorer that looks at no key."""
    if scorer == "random":
        return None
    kept = mk.compute_centroids(k.contiguous(), block_size, scorer=scorer)
    if scorer == "mean":
        return _products(q, kept[:, None], k.shape[0])[0]
    parts = _products(q, kept, k.shape[0], split=scorer == "quest")
    scores = sum(parts)
    blocks = k.shape[1] // block_size
    return scores.unflatten(-1, (blocks, -1)).amax(-1)  # the best of a block's sub-blocks


def _products(q, kept, batch, split=False):
    """One [batch, heads, queries, sub_blocks] for each part of kept [batch * sub_blocks, parts, heads, dim]; split: the
    first part meets the positive, the second the negative channels of the query."""
    kept = kept.float().unflatten(0, (batch, -1))
    q = q.float()
    queries = (q.clamp(min=0), q.clamp(max=0)) if split else (q,)
    return [torch.einsum("bqhd,bshd->bhqs", part, kept[:, :, i]) for i, part in enumerate(queries)]
