#!/usr/bin/env python3
"""What is measured of a head, against its definitions written as loops over queries.

Usage: measure_heads_test.py LIBRARY; skipped without torch.
"""

import math
import unittest

import with_torch  # noqa: F401
import mobalab_kernels as mk
import torch
from training.block_scores import block_scores
from training.measure_heads import STANDS_OUT, HeadMeter
from training.recall_task import Batch, Text, draw

SEED = 5
CPU = torch.device("cpu")
TEXT, SEQUENCES, HEADS, DIM, BLOCK, TOPK = Text(512, 24, 24), 3, 2, 32, 32, 4


def keys_and_queries():
    """Random ones; asked queries look somewhat like the key of their pair and a neighbour of it."""
    g = torch.Generator().manual_seed(SEED)
    batch = draw(TEXT, SEQUENCES, CPU, SEED)
    q, k = (torch.randn(SEQUENCES, TEXT.tokens, HEADS, DIM, generator=g) + shift for shift in (0.0, 0.3))
    for s in range(SEQUENCES):
        for at, place in zip(batch.at[s].tolist(), batch.places[s].tolist()):
            q[s, at] += 0.8 * k[s, place] + 0.8 * k[s, place - 1]
    return q, k, batch


def mean_sd(numbers):
    mean = sum(numbers) / len(numbers)
    return mean, math.sqrt(sum((x - mean) ** 2 for x in numbers) / len(numbers))


class Definition:
    """The fields of one head by loops in double, mean scorer."""

    def __init__(self, q, k, batch, head):
        self.lists = {}
        self.hits, self.own = [0] * SEQUENCES, 0
        for s in range(SEQUENCES):
            for at, place in zip(batch.at[s].tolist(), batch.places[s].tolist()):
                self.query(s, q[s, at, head].double(), k[s, :, head].double(), at, place)

    def take(self, **values):
        for name, value in values.items():
            self.lists.setdefault(name, []).append(value)

    def query(self, s, q, k, at, place):
        own, target = at // BLOCK, place // BLOCK
        if target == own:
            self.own += 1
            return
        scores = [(k[b * BLOCK : (b + 1) * BLOCK].mean(0) @ q).item() for b in range(own)]
        noise = [x for b, x in enumerate(scores) if b != target]
        ranked = sorted(range(own), key=lambda b: -scores[b])
        self.hits[s] += target in ranked[: TOPK - 1]
        mean, sd = mean_sd(noise)
        affinity = (k @ q).tolist()
        tokens = [affinity[t] for t in range(own * BLOCK) if t // BLOCK != target]
        token_mean, token_sd = mean_sd(tokens)
        cosine = [a / (q.norm() * x.norm()).item() for a, x in zip(affinity, k)]
        block = range(target * BLOCK, (target + 1) * BLOCK)
        related = [t for t in block if (affinity[t] - token_mean) / token_sd > STANDS_OUT]
        self.take(
            signal=(scores[target] - mean) / sd,
            margin=(scores[target] - sorted(noise)[-(TOPK - 1)]) / sd,
            mu_signal=cosine[place],
            mu_before=cosine[place - 1],
            mean=mean,
            variance=sd**2,
            token_variance=token_sd**2,
            related=len(related),
            candidates=own,
        )
        self.lists.setdefault("related_cosine", []).extend(cosine[t] for t in related)

    def mean(self, name):
        return mean_sd(self.lists[name])[0]

    def sd(self, name):
        return mean_sd(self.lists[name])[1]


class Heads(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.q, cls.k, cls.batch = keys_and_queries()
        meter = HeadMeter(HEADS, BLOCK, TOPK, "mean", CPU)
        for s in range(SEQUENCES):  # in two batches, which must make no difference
            if s != 1:
                rows = slice(s, s + 2) if s == 0 else slice(s, s + 1)
                meter.add(cls.q[rows], cls.k[rows], Batch(*(x[rows] for x in cls.batch)))
        cls.records = meter.records()
        cls.definitions = [Definition(cls.q, cls.k, cls.batch, head) for head in range(HEADS)]

    def test_a_model_in_low_precision_is_measured_alike(self):
        meter = HeadMeter(HEADS, BLOCK, TOPK, "mean", CPU)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            meter.add(self.q, self.k, self.batch)
        for record, same in zip(self.records, meter.records()):
            for name in ("hits", "signal_mean", "token_noise_sd", "effective_dim"):
                self.assertAlmostEqual(record[name], same[name], delta=1e-5 * abs(same[name]), msg=name)

    def test_counts(self):
        for record, want in zip(self.records, self.definitions):
            self.assertEqual(record["sequence_hits"], want.hits)
            self.assertEqual(record["hits"], sum(want.hits))
            self.assertGreater(record["hits"], 10)
            self.assertLess(record["hits"], record["queries"])
            self.assertEqual(record["queries"], len(want.lists["signal"]))
            self.assertEqual(record["own_block"], want.own)
            counts = {c: want.lists["candidates"].count(c) for c in want.lists["candidates"]}
            self.assertEqual(record["candidates"], sorted(map(list, counts.items())))

    def test_statistics(self):
        for record, want in zip(self.records, self.definitions):
            expected = {
                "signal_mean": want.mean("signal"),
                "signal_sd": want.sd("signal"),
                "margin_mean": want.mean("margin"),
                "margin_sd": want.sd("margin"),
                "mu_signal": want.mean("mu_signal"),
                "mu_cluster": want.mean("related_cosine"),
                "cluster_size": want.mean("related"),
                "noise_mean": want.mean("mean"),
                "noise_sd": math.sqrt(want.mean("variance")),
                "token_noise_sd": math.sqrt(want.mean("token_variance")),
            }
            for name, value in expected.items():
                self.assertAlmostEqual(record[name], value, delta=1e-4 * max(1, abs(value)), msg=name)
            self.assertAlmostEqual(dict(record["profile"])[-1], want.mean("mu_before"), delta=1e-4)
            self.assertAlmostEqual(dict(record["profile"])[0], record["mu_signal"], delta=1e-9)

    def test_keys(self):
        for head, record in enumerate(self.records):
            x = self.k[:, :, head].double()
            spectra = [torch.linalg.eigvalsh(torch.cov(s.T)) for s in x]
            dims = [1 / (e / e.sum()).square().sum().item() for e in spectra]
            self.assertAlmostEqual(record["effective_dim"], sum(dims) / len(dims), delta=1e-3)
            self.assertAlmostEqual(record["key_norm"], x.square().sum(2).mean().sqrt().item(), delta=1e-4)

    def test_pairs_in_the_own_block_are_no_queries(self):
        batch = Batch(*(x.clone() for x in self.batch))
        batch.places[:, 0] = batch.at[:, 0] // BLOCK * BLOCK + 1
        meter = HeadMeter(HEADS, BLOCK, TOPK, "mean", CPU)
        hits = meter.add(self.q, self.k, batch)
        self.assertFalse(hits[:, :, 0].any())
        own = int((batch.places // BLOCK == batch.at // BLOCK).sum())
        self.assertGreaterEqual(own, SEQUENCES)
        self.assertEqual(meter.records()[0]["own_block"], own)
        self.assertEqual(meter.records()[0]["queries"], SEQUENCES * TEXT.asked - own)

    def test_a_text_of_one_block_has_no_statistics(self):
        batch = draw(Text(64, 8, 8), 2, CPU, SEED)
        meter = HeadMeter(HEADS, 64, TOPK, "mean", CPU)
        meter.add(self.q[:2, :64], self.k[:2, :64], batch)
        record = meter.records()[0]
        self.assertEqual((record["queries"], record["hits"], record["own_block"]), (0, 0, 16))
        self.assertNotIn("signal_mean", record)
        self.assertNotIn("margin_mean", record)


class Scorers(unittest.TestCase):
    def test_scores_are_those_the_kernel_routes_by(self):
        q, k, _ = keys_and_queries()
        for scorer in ("mean", "max", "quest", "submean-4"):
            selection, scores = mk.route(q[:, -BLOCK:], k, BLOCK, TOPK, return_scores=True, scorer=scorer)
            mine = block_scores(q[:, -BLOCK:], k, BLOCK, scorer).transpose(0, 1)
            selection = selection.view(HEADS, SEQUENCES, BLOCK, -1).long()
            difference = (mine.gather(3, selection) - scores.view(selection.shape)).abs().max().item()
            self.assertLess(difference, 1e-4, scorer)

    def test_random_has_hits_but_no_scores(self):
        q, k, batch = keys_and_queries()
        meter = HeadMeter(HEADS, BLOCK, TOPK, "random", CPU)
        meter.add(q, k, batch)
        record = meter.records()[0]
        self.assertGreater(record["hits"], 0)
        self.assertNotIn("signal_mean", record)
        self.assertIn("mu_signal", record)


if __name__ == "__main__":
    unittest.main()
