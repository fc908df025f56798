#!/usr/bin/env python3
"""Language models: the order of texts, needles, the loss by chunks, rates, and the measures on models that are known.

Usage: language_test.py LIBRARY; skipped without torch.
"""

import math
import tempfile
import unittest
from pathlib import Path

import with_torch  # first: without torch it ends the test as skipped

import numpy as np
import torch
from tiny_corpus import VOCABULARY, write_tiny_corpus
from training.arms import moba
from training.corpus import store
from training.environment import on_device
from training.errors import InputError
from training.language import arms, evaluate, loss, needles
from training.language.sequences import Sequences
from training.language.settings import FULL, SMOKE
from training.language.summary import paired_difference, summary_lines
from training.language.train import Training
from training.model import Model

CPU = torch.device("cpu")
SEED = 63


def trainings(runs):
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_corpus(Path(folder), with_torch.ROOT)
        corpus = store.read_corpus(folder)  # its arrays stay mapped
        return [Training(run, SMOKE, corpus, CPU) for run in runs]


class Order(unittest.TestCase):
    def test_an_epoch_reads_each_sequence_once(self):
        sequences = Sequences(np.arange(1001, dtype=np.uint16), 10)
        self.assertEqual(sequences.count, 100)
        read = [n for step in range(50) for n in sequences.of_step(step, 4)]
        first, second = read[:100], read[100:]
        self.assertEqual(sorted(first), list(range(100)))
        self.assertEqual(sorted(second), list(range(100)))
        self.assertNotEqual(first, second)

    def test_rows_overlap_by_the_last_target(self):
        rows = Sequences(np.arange(31, dtype=np.uint16), 10).rows([2, 0])
        self.assertEqual(rows.tolist(), [list(range(20, 31)), list(range(11))])

    def test_too_short_a_corpus_is_refused(self):
        for tokens in (0, 10):
            with self.assertRaisesRegex(InputError, f"{tokens} tokens: must be more than 10"):
                Sequences(np.zeros(tokens, np.uint16), 10)

    def test_all_arms_and_seeds_see_the_same_batches(self):
        made = trainings(arms.runs(arms.SMOKE_ARMS, [0, 5]))
        made[1].take_steps(2)  # what has been trained moves nothing
        for step in (0, 7, 1000):
            batches = [training.batch(step) for training in made]
            for batch in batches[1:]:
                self.assertTrue(torch.equal(batch, batches[0]))
        self.assertFalse(torch.equal(made[0].batch(0), made[0].batch(1)))

    def test_sequences_know_their_documents(self):
        sequences = Sequences(np.arange(51, dtype=np.uint16), 10)
        self.assertEqual(sequences.documents(np.array([10, 25, 51])), [0, 1, 1, 2, 2])

    def test_dense_and_moba_begin_with_the_same_weights(self):
        first, second = trainings([arms.Run(arm, 3) for arm in (arms.SMOKE_ARMS[0], moba(32, 128, head_dim=32))])
        other = second.model.state_dict()
        self.assertEqual(set(first.model.state_dict()), set(other))
        for name, tensor in first.model.state_dict().items():
            self.assertTrue(torch.equal(tensor, other[name]), name)

    def test_a_second_seed_has_other_weights(self):
        first, second = trainings(arms.runs(arms.SMOKE_ARMS[:1], [0, 1]))
        self.assertFalse(torch.equal(first.model.embedding.weight, second.model.embedding.weight))


class Resume(unittest.TestCase):
    def test_stopped_after_every_chunk_is_as_if_never_stopped(self):
        runs = arms.runs(arms.SMOKE_ARMS[1:], None)
        with tempfile.TemporaryDirectory() as folder, on_device(CPU):
            path = Path(folder) / "a.checkpoint"
            (whole,) = trainings(runs)
            self.assertTrue(whole.run(Path(folder) / "whole.checkpoint", lambda: False, lambda text: None))
            calls, done = 0, False
            while not done:
                (cut,) = trainings(runs)
                cut.restore(path)
                done = cut.run(path, lambda: True, lambda text: None)
                calls += 1
        self.assertEqual(calls, 3)  # 20 steps, 10 steps, and a call that finds nothing left
        self.assertEqual(*([[{**p, "seconds": 0} for p in t.curve] for t in (cut, whole)]))
        for name, tensor in whole.model.state_dict().items():
            self.assertTrue(torch.equal(tensor, cut.model.state_dict()[name]), name)

    def test_a_checkpoint_of_another_run_is_refused(self):
        first, second = trainings(arms.runs(arms.SMOKE_ARMS[:1], [0, 1]))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.checkpoint"
            first.save(path)
            with self.assertRaisesRegex(InputError, "dense-d32-s1"):
                second.restore(path)


class Planted(unittest.TestCase):
    def test_training_sequences_ask_for_what_they_hold(self):
        generator = np.random.default_rng(SEED)
        row = np.zeros(2049, dtype=np.int64)
        needles.plant(row, 64, generator, 500)
        marks = np.flatnonzero(row == store.KEY)
        self.assertEqual(len(marks), 128)
        self.assertTrue((marks % needles.SLOT == 0).all())
        by_key = {}
        for mark in marks:
            by_key.setdefault(row[mark + 1], []).append((mark, row[mark + 2]))
        self.assertEqual(len(by_key), 64)
        for (first, value), (second, again) in by_key.values():
            self.assertLess(first, second)
            self.assertEqual(value, again)
            self.assertGreaterEqual(min(value, row[first + 1]), len(store.SPECIAL))

    def test_distances_reach_from_near_to_the_whole_sequence(self):
        """Log-uniform: of 1600 distances below 512 slots at least 1/9, 178, are due in each of the six lowest octaves.
        The bound is 8 standard deviations below; distances drawn evenly would put 3 into the first."""
        print("seed", SEED)
        generator = np.random.default_rng(SEED)
        counts = np.zeros(10, int)
        for _ in range(100):
            row = np.zeros(2049, dtype=np.int64)
            needles.plant(row, 16, generator, 500)
            places = {}
            for mark in np.flatnonzero(row == store.KEY):
                places.setdefault(row[mark + 1], []).append(mark)
            for first, second in places.values():
                counts[int(math.log2((second - first) // needles.SLOT))] += 1
        self.assertEqual(counts.sum(), 1600)
        for octave in range(6):
            self.assertGreater(counts[octave], 1600 / 9 - 8 * math.sqrt(1600 / 9))
        self.assertLess(counts[8], 1600 / 9)  # a far needle seldom fits before its question

    def test_a_test_asks_each_depth_once_at_the_end(self):
        generator = np.random.default_rng(SEED)
        rows = np.zeros((3, 1025), dtype=np.int64)
        depths = [0.125, 0.375, 0.625, 0.875]
        at, answers, order = needles.hide(rows, depths, generator, 300)
        self.assertEqual(at.shape, (3, 4))
        for row, asked, answer, which in zip(rows, at, answers, order):
            self.assertEqual(sorted(which), [0, 1, 2, 3])
            marks = np.flatnonzero(row == store.KEY)
            self.assertEqual(len(marks), 8)
            self.assertLess(asked.max() + 1, 1024)  # its value is inside what the model reads, not behind it
            for position, value, depth in zip(asked, answer, which):
                self.assertEqual(row[position - 1], store.KEY)
                self.assertEqual(row[position + 1], value)
                place = marks[depth]
                self.assertAlmostEqual(place / 1024, depths[depth], delta=0.02)
                self.assertEqual(row[place + 1], row[position])
                self.assertEqual(row[place + 2], value)


class Loss(unittest.TestCase):
    def test_loss_and_gradients_are_those_of_whole_logits(self):
        generator = torch.Generator().manual_seed(SEED)
        tokens = loss.CHUNK + 37  # more than a chunk, no whole number of them
        hidden = torch.randn(tokens, 16, generator=generator, requires_grad=True)
        weight = torch.randn(50, 16, generator=generator, requires_grad=True)
        targets = torch.randint(50, (tokens,), generator=generator)
        plain = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
        mine = loss.mean_loss(hidden, weight, targets)
        self.assertLess(abs(mine.item() - plain.item()), 1e-5)
        want = torch.autograd.grad(3 * plain, (hidden, weight))
        got = torch.autograd.grad(3 * mine, (hidden, weight))
        for a, b in zip(got, want):
            self.assertLess((a - b).norm().item(), 1e-4 * b.norm().item())
        each = loss.token_losses(hidden.detach(), weight.detach(), targets)
        self.assertLess(abs(each.mean().item() - plain.item()), 1e-5)


class Rates(unittest.TestCase):
    def test_warm_up_and_cosine(self):
        rates = [FULL.rate_at(step) for step in range(FULL.steps)]
        self.assertEqual(max(rates), FULL.rate)
        top = rates.index(FULL.rate)
        self.assertEqual(top, FULL.warmup - 1)
        self.assertTrue(all(a < b for a, b in zip(rates[:top], rates[1 : top + 1])))
        self.assertTrue(all(a > b for a, b in zip(rates[FULL.warmup :], rates[FULL.warmup + 1 :])))
        self.assertAlmostEqual(rates[-1] / FULL.rate, FULL.least_rate, places=3)


class KnowsAll(torch.nn.Module):
    """Says at each token what followed its last occurrence behind a mark; nothing where that is further back than `reach`."""

    def __init__(self, reach):
        super().__init__()
        self.reach = reach

    def forward(self, tokens, at):
        logits = torch.zeros(*at.shape, VOCABULARY)
        for row, (line, asked) in enumerate(zip(tokens.tolist(), at.tolist())):
            for i, position in enumerate(asked):
                for place in range(max(0, position - self.reach), position - 1):
                    if line[place] == store.KEY and line[place + 1] == line[position]:
                        logits[row, i, line[place + 2]] = 1.0
        return logits


class Uniform(torch.nn.Module):
    """Knows nothing: every token costs log(vocabulary)."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, VOCABULARY, bias=False)
        torch.nn.init.zeros_(self.head.weight)

    def hidden(self, tokens):
        return torch.ones(*tokens.shape, 4)


class Measures(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        write_tiny_corpus(Path(folder.name), with_torch.ROOT)
        self.texts = Sequences(store.read_corpus(folder.name).tokens["validation"], 1024)

    def needles(self, reach):
        return evaluate.needle_test(KnowsAll(reach), self.texts, 5, 8, VOCABULARY, 2048, CPU)

    def test_who_sees_all_finds_every_needle(self):
        found = self.needles(1024)
        self.assertEqual([r["correct"] for r in found], [5] * 8)
        self.assertEqual([r["depth"] for r in found], [(i + 0.5) / 8 for i in range(8)])

    def test_depths_are_kept_apart(self):
        found = self.needles(512)  # the questions are the last 24 tokens, so depths above a half are in reach
        self.assertEqual([r["correct"] for r in found], [0] * 4 + [5] * 4)
        self.assertEqual([r["sequence_correct"] for r in found][4], [1] * 5)

    def test_loss_of_a_model_that_knows_nothing(self):
        found = evaluate.validation(Uniform(), self.texts, 3, 2048, CPU)
        self.assertEqual([r["kind"] for r in found], ["validation"] + ["position"] * 5)
        for record in found:
            self.assertEqual(record["sequences"], 3)
            self.assertAlmostEqual(record["loss"], math.log(VOCABULARY), places=5)
        self.assertEqual([(r["from"], r["to"]) for r in found[1:]], evaluate.octaves(1024))
        self.assertEqual(sum(r["tokens"] for r in found[1:]), found[0]["tokens"])

    def test_octaves_cover_every_position_once(self):
        for seq_len in (32, 64, 100, 8192):
            spans = evaluate.octaves(seq_len)
            self.assertEqual([p for a, b in spans for p in range(a, b)], list(range(seq_len)))


class Summary(unittest.TestCase):
    def test_an_interval_over_documents(self):
        """By hand: differences 1, 3, 2, 6 of mean 3; sums of deviations -2 and 2 of two documents."""
        record = {"sequence_loss": [2.0, 4.0, 3.0, 7.0], "sequence_document": [0, 0, 1, 1]}
        other = {"sequence_loss": [1.0] * 4}
        mean, error = paired_difference(record, other)
        self.assertEqual(mean, 3.0)
        self.assertAlmostEqual(error, 1.96 * math.sqrt(((-2) ** 2 + 2**2) * 2) / 4)
        self.assertEqual(paired_difference({**record, "sequence_document": [5] * 4}, other), (3.0, math.inf))
        with self.assertRaises(ValueError):
            paired_difference(record, {"sequence_loss": [1.0] * 3})

    def test_its_lines(self):
        self.assertEqual(summary_lines([]), [])
        found = []
        for name, attention, loss in (("dense-s0", "dense", 1.0), ("moba-s0", "moba", 1.5)):
            found.append({"kind": "run", "run": name, "attention": attention, "seed": 0, "seq_len": 8})
            for step, level in ((1, 9.0), (2, loss)):
                found.append({"kind": "validation", "run": name, "seq_len": 8, "step": step, "loss": level,
                              "sequence_loss": [level, level], "sequence_document": [0, 1]})  # fmt: skip
            found.append({"kind": "needle", "run": name, "seq_len": 8, "depth": 0.5, "asked": 4, "correct": 3})
        lines = [line.split() for line in summary_lines(found)]
        self.assertEqual(lines[1], ["dense-s0", "1.0000", "3", "of", "4"])
        self.assertEqual(lines[2], ["moba-s0", "1.5000", "0.5000", "0.0000", "3", "of", "4"])


class Arms(unittest.TestCase):
    def test_the_comparison_is_the_issues(self):
        names = [run.name for run in arms.runs(arms.ARMS, None)]
        self.assertEqual(len(names), 12)
        self.assertEqual(names[:2], ["dense-d64-s0", "dense-d64-s1"])
        for block_size, topk in ((512, 2), (256, 4), (128, 8), (64, 16), (32, 32)):
            for conv in ("", "-conv3"):
                self.assertIn(f"moba-B{block_size}-k{topk}{conv}-d64-mean-s0", names)

    def test_size(self):
        model = Model(arms.config(arms.ARMS[0], FULL, 8192))
        self.assertGreater(model.parameter_count(), 20e6)
        self.assertLess(model.parameter_count(), 40e6)


if __name__ == "__main__":
    unittest.main()
