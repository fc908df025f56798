"""MoBA by the definition, in float64: what every row of the table that must succeed is compared with.

Everything works on one sequence: q [sq, heads_q, d], k and v [sk, heads_k, d]; `split` cuts a call into its sequences.
"""

import numpy as np


def split(array, boundaries):
    """Sequences of [batch, seqlen, ...] (boundaries None) or of packed [total, ...]."""
    if boundaries is None:
        return list(array)
    return [array[a:b] for a, b in zip(boundaries[:-1], boundaries[1:])]


def split_rows(array, lengths):
    """Sequences of [heads_q, tokens_q, ...], the tokens of one sequence behind those of the other."""
    return np.split(array, np.cumsum(lengths)[:-1], axis=1)


def own_blocks(sq, sk, block):
    return (np.arange(sq) + sk - sq) // block


def candidates(sq, sk, block, causal):
    """Blocks that a row may select are those below; negative where a row stands before every key."""
    return own_blocks(sq, sk, block) if causal else np.full(sq, -(-sk // block))


SCORERS = {  # name: (map of the query, summary of the keys) for each part; the mean of nothing is 0
    "mean": [(lambda q: q, np.mean)],
    "quest": [(lambda q: np.maximum(q, 0), np.max), (lambda q: np.minimum(q, 0), np.min)],
    "max": [(lambda q: q, np.max)],
    "submean": [(lambda q: q, np.mean)],
    "random": [],
}


def parse(scorer):
    """("submean", 4) of "submean-4"."""
    family, _, sub_blocks = scorer.partition("-")
    return family, int(sub_blocks or 1)


def summaries(k, block, scorer):
    """[sub-blocks, parts, heads_k, d] of one sequence."""
    family, per_block = parse(scorer)
    length = block // per_block
    count = -(-len(k) // block) * per_block
    out = np.zeros((count, len(SCORERS[family]), *k.shape[1:]))
    for part, (_, summary) in enumerate(SCORERS[family]):
        for j in range(-(-len(k) // length)):
            out[j, part] = summary(k[j * length : (j + 1) * length], axis=0)
    return out


def scores(q, k, block, scorer="mean", seed=0, sequence=0):
    """[heads_q, sq, blocks]; `sequence`: which one of the call's."""
    family, per_block = parse(scorer)
    if family == "random":
        return random_scores(seed, sequence, q.shape[1], len(q), len(k), block)
    kept = np.repeat(summaries(k, block, scorer), q.shape[1] // k.shape[1], axis=2)
    every = sum(np.einsum("qhd,jhd->hqj", m(q), kept[:, part]) for part, (m, _) in enumerate(SCORERS[family]))
    every[..., -(-len(k) // (block // per_block)) :] = -np.inf  # sub-blocks behind the last key
    return every.reshape(*every.shape[:2], -1, per_block).max(-1)


def _mixed(x):
    """SplitMix64's mixer of uint64 arrays, which wrap around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def random_scores(seed, sequence, heads, sq, sk, block):
    step = np.uint64(0x9E3779B97F4A7C15)
    positions = np.arange(sk - sq, sk).astype(np.uint64)
    blocks = np.arange(-(-sk // block)).astype(np.uint64)
    x = _mixed(np.array([seed], dtype=np.uint64) + step)
    x = _mixed((x ^ np.uint64(sequence)) + step)
    x = _mixed((x ^ np.arange(heads).astype(np.uint64)) + step)
    x = _mixed((x[:, None] ^ positions) + step)
    return (_mixed((x[..., None] ^ blocks) + step) >> np.uint64(40)).astype(np.float64) * 2.0**-24


def kept_keys(selection, sq, sk, block, causal=True):
    """Boolean [heads_q, sq, sk] of the set each row of the selection names, its own block and causality included."""
    own = own_blocks(sq, sk, block)
    blocks = -(-sk // block)
    candidate = (selection >= 0) & (selection < candidates(sq, sk, block, causal)[None, :, None])
    kept = np.zeros((*selection.shape[:2], blocks + 1), dtype=bool)
    np.put_along_axis(kept, np.where(candidate, selection, blocks), True, axis=2)
    position = np.arange(sk)
    if not causal:
        return kept[..., position // block]
    kept[:, np.arange(sq), np.maximum(own, 0)] = True
    return kept[..., position // block] & (position[None, :] <= (np.arange(sq) + sk - sq)[:, None])


def _softmax_scale(scale, q):
    return q.shape[-1] ** -0.5 if scale is None else float(scale)


def _masked_scores(q, k, selection, block, scale, causal):
    keys = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
    s = np.einsum("qhd,khd->hqk", q, keys) * _softmax_scale(scale, q)
    return np.where(kept_keys(selection, len(q), len(k), block, causal), s, -np.inf)


def attention(q, k, v, selection, block, scale=None, causal=True):
    """(out [sq, heads_q, d], lse [heads_q, sq])."""
    s = _masked_scores(q, k, selection, block, scale, causal)
    top = s.max(-1, keepdims=True, initial=-1e30)
    weights = np.exp(s - top)
    total = weights.sum(-1, keepdims=True)
    blind = ~kept_keys(selection, len(q), len(k), block, causal).any(-1)  # rows that see no key
    total[blind] = 1
    values = np.repeat(v, q.shape[1] // v.shape[1], axis=1)
    lse = np.where(blind, np.inf, (top + np.log(total))[..., 0])
    return np.einsum("hqk,khd->qhd", weights / total, values), lse


def attention_gradients(q, k, v, out, d_out, lse, selection, block, scale=None, causal=True):
    group = q.shape[1] // k.shape[1]
    p = np.exp(_masked_scores(q, k, selection, block, scale, causal) - lse[..., None])
    keys, values = (np.repeat(x, group, axis=1) for x in (k, v))
    ds = p * (np.einsum("qhd,khd->hqk", d_out, values) - np.einsum("qhd,qhd->hq", d_out, out)[..., None])
    ds *= _softmax_scale(scale, q)

    def over_group(x):
        return x.reshape(len(x), k.shape[1], group, x.shape[-1]).sum(2)

    return (
        np.einsum("hqk,khd->qhd", ds, keys),
        over_group(np.einsum("hqk,qhd->khd", ds, q)),
        over_group(np.einsum("hqk,qhd->khd", p, d_out)),
    )


def _silu(z):
    return z / (1 + np.exp(-z))


def _lagged(x, lag):
    return np.concatenate([np.zeros((min(lag, len(x)), *x.shape[1:])), x[: max(len(x) - lag, 0)]])


def convolution(k, weight):
    return k + _silu(sum(_lagged(k, lag) * weight[..., lag] for lag in range(weight.shape[-1])))


def convolution_gradients(k, weight, d_out):
    width = weight.shape[-1]
    z = sum(_lagged(k, lag) * weight[..., lag] for lag in range(width))
    sigmoid = 1 / (1 + np.exp(-z))
    dz = d_out * sigmoid * (1 + z * (1 - sigmoid))
    dk, d_weight = d_out.copy(), np.zeros(weight.shape)
    for lag in range(width):
        dk[: max(len(k) - lag, 0)] += dz[lag:] * weight[..., lag]
        d_weight[..., lag] = (dz * _lagged(k, lag)).sum(0)
    return dk, d_weight
