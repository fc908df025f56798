"""Subjects for the audit: a plain right one in NumPy, and the same with one fault each."""

import numpy as np

from mobalab_kernels.audit import reference


def _sequences(tokens, cu_seqlens):
    cu = [0, tokens] if cu_seqlens is None else [int(x) for x in cu_seqlens]
    return list(zip(cu[:-1], cu[1:]))


class Plain:
    """MoBA by its definition."""

    def summaries(self, k, block_size):
        return reference.means(k, block_size).astype(np.float32).astype(k.dtype)

    def scores(self, q, means):
        return q.astype(np.float64) @ means.astype(np.float64).T

    def pick(self, scores, own, slots):
        return reference.top_blocks(scores, own, slots)

    def route(self, q, k, block_size, topk, cu_seqlens=None):
        tokens, heads, _ = q.shape
        blocks = max(reference.block_count(end - begin, block_size) for begin, end in _sequences(tokens, cu_seqlens))
        selection = np.full((heads, tokens, blocks), -1)
        for begin, end in _sequences(tokens, cu_seqlens):
            found = self._route_one(q[begin:end], k[begin:end], block_size, topk)
            selection[:, begin:end, : found.shape[2]] = found
        return selection

    def _route_one(self, q, k, block_size, topk):
        means, own = self.summaries(k, block_size), reference.own_blocks(len(q), block_size)
        group = q.shape[1] // k.shape[1]
        picks = [self.pick(self.scores(q[:, h], means[:, h // group]), own, topk - 1) for h in range(q.shape[1])]
        return np.where(picks, np.arange(len(means)), -1)

    def attention(self, q, k, v, block_size, topk, cu_seqlens=None):
        out = np.empty(q.shape)
        for begin, end in _sequences(len(q), cu_seqlens):
            out[begin:end] = self._attend(q[begin:end], k[begin:end], v[begin:end], block_size, topk)
        return out.astype(q.dtype)

    def _attend(self, q, k, v, block_size, topk):
        kept, _ = reference.kept_of(self.route(q, k, block_size, topk), block_size)
        with np.errstate(all="ignore"):
            return reference.attention(q, k, v, kept, block_size)[0]

    def gradients(self, q, k, v, d_out, block_size, topk):
        kept, _ = reference.kept_of(self.route(q, k, block_size, topk), block_size)
        return [g.astype(q.dtype) for g in reference.gradients(q, k, v, d_out, kept, block_size)]


class LowPrecisionSums(Plain):
    """Sums of centroids in the dtype of the keys, key by key."""

    def summaries(self, k, block_size):
        blocks = []
        for begin in range(0, len(k), block_size):
            total = np.zeros(k.shape[1:], dtype=k.dtype)
            for key in k[begin : begin + block_size]:
                total = total + key
            blocks.append(total / k.dtype.type(len(k[begin : begin + block_size])))
        return np.stack(blocks)


class UnstableTopK(Plain):
    """In a few rows of every call, others each time, the best block gives its place to the worst."""

    def __init__(self):
        self.rng = np.random.default_rng(5)

    def pick(self, scores, own, slots):
        chosen = super().pick(scores, own, slots)
        for row in self.rng.integers(0, len(scores), 5):
            if own[row] > slots:
                past = scores[row, : own[row]]
                chosen[row, past.argmax()], chosen[row, past.argmin()] = False, True
        return chosen


class LeaksFutureKeys(Plain):
    """The mean of a block takes in half of the next block."""

    def summaries(self, k, block_size):
        return np.stack([k[b : b + 3 * block_size // 2].mean(0) for b in range(0, len(k), block_size)]).astype(k.dtype)


class AttendsToTheFuture(Plain):
    """No causal mask inside the own block."""

    def _attend(self, q, k, v, block_size, topk):
        kept, _ = reference.kept_of(self.route(q, k, block_size, topk), block_size)
        out, group = np.empty(q.shape), q.shape[1] // k.shape[1]
        for h in range(q.shape[1]):
            scores = q[:, h].astype(np.float64) @ k[:, h // group].astype(np.float64).T * q.shape[2] ** -0.5
            scores[~kept[h].repeat(block_size, axis=1)[:, : len(k)]] = -np.inf
            with np.errstate(all="ignore"):
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                out[:, h] = weights / weights.sum(axis=1, keepdims=True) @ v[:, h // group].astype(np.float64)
        return out


class MixesSequences(Plain):
    """Blocks run on across the borders of packed sequences."""

    def route(self, q, k, block_size, topk, cu_seqlens=None):
        selection = self._route_one(q, k, block_size, topk)
        for begin, end in _sequences(len(q), cu_seqlens):
            part = selection[:, begin:end]
            selection[:, begin:end] = np.where(part >= 0, np.maximum(part - begin // block_size, -1), -1)
        return selection


class LowerBlockWinsTies(Plain):
    def pick(self, scores, own, slots):
        masked = np.where(np.arange(scores.shape[1]) < own[:, None], -scores, np.inf)
        chosen = np.zeros(scores.shape, dtype=bool)
        np.put_along_axis(chosen, np.argsort(masked, axis=1, kind="stable")[:, :slots], True, axis=1)
        return chosen & (masked < np.inf)


class WrongGradients(Plain):
    """dk of one key head comes out a hundredth too large."""

    def gradients(self, q, k, v, d_out, block_size, topk):
        dq, dk, dv = super().gradients(q, k, v, d_out, block_size, topk)
        return dq, dk * 1.01, dv


class SpreadsNaN(Plain):
    """One NaN makes the whole output NaN."""

    def _attend(self, q, k, v, block_size, topk):
        out = super()._attend(q, k, v, block_size, topk)
        return out if np.isfinite(k).all() else out * np.nan


class HidesNaN(Plain):
    def _attend(self, q, k, v, block_size, topk):
        return np.nan_to_num(super()._attend(q, k, v, block_size, topk))


class WrongScale(Plain):
    def _attend(self, q, k, v, block_size, topk):
        return super()._attend(q * q.dtype.type(1.01), k, v, block_size, topk)


class IgnoresTheQuery(Plain):
    """Every row keeps the blocks with the largest first channel."""

    def scores(self, q, means):
        return np.broadcast_to(means[:, 0].astype(np.float64), (len(q), len(means)))


class Raises(Plain):
    def route(self, q, k, block_size, topk, cu_seqlens=None):
        raise RuntimeError("no kernel for these shapes\nand a second line")


class WrongShape(Plain):
    def route(self, q, k, block_size, topk, cu_seqlens=None):
        return super().route(q, k, block_size, topk, cu_seqlens).swapaxes(0, 1)


class TwoGradients(Plain):
    def gradients(self, q, k, v, d_out, block_size, topk):
        return super().gradients(q, k, v, d_out, block_size, topk)[:2]


class NoGradients(Plain):
    def gradients(self, q, k, v, d_out, block_size, topk):
        return None


class NoOutput(Plain):
    def attention(self, q, k, v, block_size, topk, cu_seqlens=None):
        return ()


class RaggedSelection(Plain):
    def route(self, q, k, block_size, topk, cu_seqlens=None):
        return [[0], [1, 2]]


class Exits(Plain):
    """Ends the process, with success."""

    def route(self, q, k, block_size, topk, cu_seqlens=None):
        raise SystemExit(0)


class NeedsArguments(Plain):
    def __init__(self, width):
        self.width = width


class ExitsWhenMade(Plain):
    def __init__(self):
        raise SystemExit(0)


class ShortOfOne(Plain):
    """One block too few, in every row that has any."""

    def pick(self, scores, own, slots):
        return super().pick(scores, own, slots - 1)


def route_alone(q, k, block_size, topk):
    return Plain().route(q, k, block_size, topk)


def attention_alone(q, k, v, block_size, topk):
    return Plain().attention(q, k, v, block_size, topk)


def nameless(x, y):
    return x, y


# Class: (dtype, the checks that must fail, all others that are offered must pass).
ROUTES_WRONG = {"top-k", "top-k of its own centroids"}
FAULTS = {
    LowPrecisionSums: ("float16", {"summaries", "top-k"}),
    UnstableTopK: (
        "float32",
        {*ROUTES_WRONG, *"ties,repeats,causality,sequence borders,NaN and infinity,attention,gradients".split(",")},
    ),
    LeaksFutureKeys: ("float32", {"summaries", "top-k", "causality", "ties", "needles", "NaN and infinity"}),
    AttendsToTheFuture: ("float32", {"causality", "attention", "NaN and infinity"}),
    MixesSequences: ("float32", {"sequence borders"}),
    LowerBlockWinsTies: ("float32", {"ties"}),
    WrongGradients: ("float32", {"gradients"}),
    SpreadsNaN: ("float32", {"NaN and infinity"}),
    HidesNaN: ("float32", {"NaN and infinity"}),
    WrongScale: ("float32", {"attention"}),
    IgnoresTheQuery: ("float32", {*ROUTES_WRONG, "ties", "needles"}),
}
