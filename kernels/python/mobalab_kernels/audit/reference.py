"""The judge: MoBA in float64, for one sequence (definitions of kernels/kernels.h).

q, out: [tokens, heads, head_dim]; k, v: [tokens, heads_k, head_dim]; as many queries as keys. `kept` is bool [heads,
tokens, blocks]: the blocks that each row attends to, its own included.
"""

import numpy as np


def block_count(tokens, block_size):
    return -(-tokens // block_size)


def means(k, block_size):
    """float64 [blocks, heads_k, head_dim]: the exact mean of each block, of its real length at the end."""
    starts = np.arange(0, len(k), block_size)
    lengths = np.diff(np.append(starts, len(k)))
    return np.add.reduceat(k.astype(np.float64), starts, axis=0) / lengths[:, None, None]


def own_blocks(tokens, block_size):
    return np.arange(tokens) // block_size


def kept_of(selection, block_size):
    """kept of a selection [heads, tokens, slots] as routers return it, and how many of its entries are neither a
    candidate of their row, nor its own block, nor -1."""
    heads, tokens, slots = selection.shape
    blocks = block_count(tokens, block_size)
    own = own_blocks(tokens, block_size)
    wrong = int(((selection > own[:, None]) | (selection < -1)).sum())
    kept = np.zeros((heads, tokens, blocks + 1), dtype=bool)
    usable = (selection >= 0) & (selection <= own[:, None])
    np.put_along_axis(kept, np.where(usable, selection, blocks), True, axis=2)
    kept[:, np.arange(tokens), own] = True
    return kept[:, :, :blocks], wrong


def top_blocks(scores, own, slots):
    """bool like scores [rows, blocks]: the best `slots` of the blocks before each row's own; of equal scores the higher
    block."""
    rows, blocks = scores.shape
    candidates = np.arange(blocks) < own[:, None]
    masked = np.where(candidates, scores, -np.inf)[:, ::-1]  # a stable sort then puts the higher block first
    order = np.argsort(-masked, axis=1, kind="stable")[:, :slots]
    chosen = np.zeros((rows, blocks), dtype=bool)
    np.put_along_axis(chosen, blocks - 1 - order, True, axis=1)
    return chosen & candidates


def _pieces(kept_of_head, block_size, tokens):
    """(block, rows that keep it, mask of the keys each may look at or None where it may look at all)."""
    for block in range(kept_of_head.shape[1]):
        rows = np.flatnonzero(kept_of_head[:, block])
        if rows.size == 0:
            continue
        keys = np.arange(block * block_size, min((block + 1) * block_size, tokens))
        yield rows, slice(keys[0], keys[-1] + 1), keys <= rows[:, None]


def attention(q, k, v, kept, block_size):
    """(out, lse [heads, tokens]): one softmax over the kept keys up to each row's position, scale head_dim^-1/2."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    tokens, heads, dim = q.shape
    group = heads // k.shape[1]
    out, lse = np.zeros(q.shape), np.full((heads, tokens), np.inf)
    for h in range(heads):
        pieces = []
        largest = np.full(tokens, -np.inf)
        for rows, keys, seen in _pieces(kept[h], block_size, tokens):
            scores = np.where(seen, q[rows, h] @ k[keys, h // group].T * dim**-0.5, -np.inf)
            largest[rows] = np.maximum(largest[rows], scores.max(axis=1))
            pieces.append((rows, keys, scores))
        total = np.zeros(tokens)
        for rows, keys, scores in pieces:
            weights = np.exp(scores - largest[rows, None])
            total[rows] += weights.sum(axis=1)
            out[rows, h] += weights @ v[keys, h // group]
        out[:, h] /= total[:, None]
        lse[h] = largest + np.log(total)
    return out, lse


def gradients(q, k, v, d_out, kept, block_size):
    """(dq, dk, dv) of attention(); none flows through the routing."""
    out, lse = attention(q, k, v, kept, block_size)
    q, k, v, d_out = (x.astype(np.float64) for x in (q, k, v, d_out))
    tokens, heads, dim = q.shape
    group, scale = heads // k.shape[1], dim**-0.5
    dq, dk, dv = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape)
    inner = (d_out * out).sum(axis=2)
    for h in range(heads):
        g = h // group
        for rows, keys, seen in _pieces(kept[h], block_size, tokens):
            scores = np.where(seen, q[rows, h] @ k[keys, g].T * scale, -np.inf)
            weights = np.exp(scores - lse[h, rows, None])
            d_scores = weights * (d_out[rows, h] @ v[keys, g].T - inner[rows, h, None])
            dv[keys, g] += weights.T @ d_out[rows, h]
            dq[rows, h] += d_scores @ k[keys, g] * scale
            dk[keys, g] += d_scores.T @ q[rows, h] * scale
    return dq, dk, dv
