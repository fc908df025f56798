"""What the routing of a trained model's heads finds, and the statistics from which theory predicts it.

A query is an asked key whose pair lies in a past block: the own block is read anyway, so such pairs are counted apart.
Noise blocks of a query are its candidates but the pair's block; noise tokens are the tokens of noise blocks. README.md
defines the fields of the record.
"""

import math

import torch

import mobalab_kernels as mk

from .block_scores import block_scores
from .records import finite

STANDS_OUT = 3.0  # standard deviations of a query's noise tokens, above which a key counts as related to it
PROFILE = range(-3, 5)  # positions about the asked value, of which the cosine with the query is recorded


class HeadMeter:
    """Sums over batches for all heads of one layer. block_size, topk and scorer are the routing under test."""

    def __init__(self, heads, block_size, topk, scorer, device):
        self.heads, self.block_size, self.topk, self.scorer = heads, block_size, topk, scorer
        self.device = device
        self.sums = {}  # name: float64 [heads]
        self.signal = None  # z of the last batch, [sequences, heads, asked]; NaN: own block; None: no scores
        self.own_block = 0
        self.candidates = {}
        self.sequence_queries, self.sequence_hits = [], []  # a tensor a batch: [sequences], [heads, sequences]
        self.profile = torch.zeros(2, len(PROFILE), heads, device=device, dtype=torch.float64)

    def add(self, q, k, batch):
        """q, k: [sequences, tokens, heads, dim], k as the router sees it. Returns hits, bool [sequences, heads, asked],
        false where the pair is in the query's own block."""
        with torch.autocast(q.device.type, enabled=False):  # statistics are float32 whatever the model computes in
            return self._add_batch(q, k, batch)

    def _add_batch(self, q, k, batch):
        geometry = _Geometry(batch, k.shape[1], self.block_size)
        asked = q.gather(1, batch.at[..., None, None].expand(-1, -1, *q.shape[2:]))
        hits = self._routed(q, k, batch, geometry) & geometry.far[:, None]
        self._count(geometry, hits)
        self._scores(asked, k, geometry)
        self._affinities(asked, k, batch, geometry)
        self._keys(k)
        return hits

    def records(self):
        """A dict a head: the fields of a "head" record that are measured here."""
        queries = torch.cat(self.sequence_queries)
        hits = torch.cat(self.sequence_hits, dim=1)
        sums = {name: value.tolist() for name, value in self.sums.items()}
        profile = (self.profile[0] / self.profile[1]).tolist()
        shared = {
            "queries": int(queries.sum()),
            "sequence_queries": queries.tolist(),
            "own_block": self.own_block,
            "candidates": sorted(map(list, self.candidates.items())),
        }
        return [
            {
                "head": head,
                **shared,
                "hits": int(hits[head].sum()),
                "sequence_hits": hits[head].tolist(),
                **_statistics({name: value[head] for name, value in sums.items()}),
                "profile": [[i, p[head]] for i, p in zip(PROFILE, profile) if math.isfinite(p[head])],
            }
            for head in range(self.heads)
        ]

    def _routed(self, q, k, batch, geometry):
        """Whether the kernel's own routing of the asked queries holds the pair's block: bool [sequences, heads, asked].
        Queries of a call are the last of its sequence, so only the tail is routed."""
        tail = k.shape[1] - int(batch.at[0, 0])
        tail_q = q[:, -tail:].contiguous()
        selection = mk.route(tail_q, k.contiguous(), self.block_size, self.topk, scorer=self.scorer)
        selection = selection.view(self.heads, q.shape[0], tail, -1)[:, :, ::2].transpose(0, 1)
        return (selection == geometry.target[:, None, :, None]).any(-1)

    def _count(self, geometry, hits):
        self.own_block += int((~geometry.far).sum())
        self.sequence_queries.append(geometry.far.sum(1))
        self.sequence_hits.append(hits.sum(2).T)
        for candidates, count in enumerate(torch.bincount(geometry.own[geometry.far]).tolist()):
            if count:
                self.candidates[candidates] = self.candidates.get(candidates, 0) + count

    def _sum(self, **values):
        """Sums over sequences and queries of [sequences, heads, queries]; what is not finite is no part of the data."""
        for name, value in values.items():
            value = value.double()
            there = value.isfinite()
            for key, part in ((name, value.where(there, 0)), ("n " + name, there)):
                total = part.sum((0, 2), dtype=torch.float64)
                self.sums[key] = self.sums.get(key, 0) + total

    def _scores(self, asked, k, geometry):
        scores = block_scores(asked, k, self.block_size, self.scorer)
        if scores is None:
            return
        noise = geometry.noise[:, None]
        own = scores.gather(3, geometry.target[:, None, :, None].expand(-1, self.heads, -1, 1))[..., 0]
        mean, sd = _mean_and_sd(scores, noise)
        far = geometry.far[:, None]
        signal = ((own - mean) / sd).where(far & (sd > 0), math.nan)
        self.signal = signal
        rival = self._last_kept(scores, noise)
        margin = ((own - rival) / sd).where(far & (sd > 0), math.nan)
        nothing = ~far | (sd == 0)
        self._sum(
            signal=signal,
            signal_square=signal.square(),
            margin=margin,
            margin_square=margin.square(),
            noise=mean.masked_fill(nothing, math.nan),
            noise_variance=sd.square().masked_fill(nothing, math.nan),
        )

    def _last_kept(self, scores, noise):
        """The noise score that a pair's block must beat: the last of the slots; NaN where all noise is kept."""
        slots = self.topk - 1
        if slots == 0 or scores.shape[3] < slots:
            return torch.full_like(scores[..., 0], math.nan)
        rival = scores.masked_fill(~noise, -math.inf).topk(slots, dim=3).values[..., -1]
        return rival.masked_fill(rival == -math.inf, math.nan)

    def _affinities(self, asked, k, batch, geometry):
        affinity = torch.einsum("bqhd,bthd->bhqt", asked.float(), k.float())
        of_queries, of_keys = (x.float().norm(dim=3).transpose(1, 2) for x in (asked, k))
        cosine = affinity / (of_queries[..., None] * of_keys[:, :, None])
        far, noise = geometry.far[:, None], geometry.noise_tokens[:, None]
        mean, sd = _mean_and_sd(affinity, noise)
        block = geometry.block_tokens[:, None].expand(-1, self.heads, -1, -1)
        related = (affinity.gather(3, block) - mean[..., None]) / sd[..., None] > STANDS_OUT
        related &= far[..., None]
        place = batch.places[:, None, :, None].expand(-1, self.heads, -1, 1)
        nothing = ~far | (sd == 0)
        self._sum(
            token_variance=sd.square().masked_fill(nothing, math.nan),
            mu_signal=cosine.gather(3, place)[..., 0].where(far, math.nan),
            mu_noise=_mean_and_sd(cosine, noise)[0].masked_fill(nothing, math.nan),
            related=related.sum(3).double().masked_fill(nothing, math.nan),
            related_cosine=(cosine.gather(3, block) * related).sum(3),
        )
        self._add_profile(cosine, batch.places, far)

    def _add_profile(self, cosine, places, far):
        for i, offset in enumerate(PROFILE):
            place = places + offset
            there = far & ((place >= 0) & (place < cosine.shape[3]))[:, None]
            place = place.clamp(0, cosine.shape[3] - 1)[:, None, :, None].expand(-1, self.heads, -1, 1)
            self.profile[0, i] += (cosine.gather(3, place)[..., 0] * there).sum((0, 2), dtype=torch.float64)
            self.profile[1, i] += there.sum((0, 2)).double()

    def _keys(self, k):
        """Effective dimension of a sequence's centred keys, tr(C)^2 / tr(C^2), and their mean square length."""
        x = k.float().transpose(1, 2)
        square = x.square().sum(3).mean(2)
        x = x - x.mean(2, keepdim=True)
        covariance = x.transpose(2, 3) @ x / x.shape[2]
        trace = covariance.diagonal(dim1=2, dim2=3).sum(2)
        dimension = trace.square() / covariance.square().sum((2, 3))
        self._sum(effective_dim=dimension[..., None], key_square=square[..., None])


class _Geometry:
    """Which blocks and tokens are what to each asked query: tensors [sequences, asked] and longer."""

    def __init__(self, batch, tokens, block_size):
        device = batch.at.device
        self.own = batch.at // block_size  # also how many past blocks there are
        self.target = batch.places // block_size
        self.far = self.target < self.own
        blocks = torch.arange(tokens // block_size, device=device)
        self.noise = (blocks < self.own[..., None]) & (blocks != self.target[..., None])
        self.noise_tokens = self.noise.repeat_interleave(block_size, dim=2)
        self.block_tokens = self.target[..., None] * block_size + torch.arange(block_size, device=device)


def _mean_and_sd(x, chosen):
    """Over the last axis, of the chosen: [..., 1] dropped; NaN where none is chosen. Two passes, as means may be large
    beside the spread."""
    count = chosen.sum(-1)
    mean = (x * chosen).sum(-1) / count
    return mean, (((x - mean[..., None]) * chosen).square().sum(-1) / count).sqrt()


def _statistics(sums):
    """Means and standard deviations from the sums of one head."""

    def mean(name):
        count = sums.get("n " + name, 0)
        return sums[name] / count if count else math.nan

    def sd(name):
        return math.sqrt(max(0.0, mean(name + "_square") - mean(name) ** 2)) if math.isfinite(mean(name)) else math.nan

    def root(name):
        return math.sqrt(mean(name)) if math.isfinite(mean(name)) else math.nan

    related = sums.get("related", 0)
    return finite(
        signal_mean=mean("signal"),
        signal_sd=sd("signal"),
        margin_mean=mean("margin"),
        margin_sd=sd("margin"),
        mu_signal=mean("mu_signal"),
        mu_noise=mean("mu_noise"),
        mu_cluster=sums["related_cosine"] / related if related else math.nan,
        cluster_size=mean("related"),
        noise_mean=mean("noise"),
        noise_sd=root("noise_variance"),
        token_noise_sd=root("token_variance"),
        effective_dim=mean("effective_dim"),
        key_norm=root("key_square"),
    )
