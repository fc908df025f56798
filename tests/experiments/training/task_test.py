#!/usr/bin/env python3
"""The recall task: what its texts hold, and that nothing but the pair gives an answer away.

Usage: task_test.py LIBRARY; skipped without torch.
"""

import unittest

import with_torch  # noqa: F401
import torch
from training.errors import InputError
from training.recall_task import KEYS, VALUES, VOCABULARY, Text, draw, stream_seed
from training.settings import FULL, SMOKE

TEXT, SEQUENCES = Text(256, 48, 40), 32
CPU = torch.device("cpu")


class Texts(unittest.TestCase):
    def setUp(self):
        self.batch = draw(TEXT, SEQUENCES, CPU, 1)

    def test_an_answer_stands_behind_its_key_in_the_pair_and_in_the_question(self):
        tokens, at, answers, places = self.batch
        self.assertTrue(torch.equal(tokens.gather(1, places), answers))
        self.assertTrue(torch.equal(tokens.gather(1, at + 1), answers))
        self.assertTrue(torch.equal(tokens.gather(1, places - 1), tokens.gather(1, at)))

    def test_an_asked_key_stands_nowhere_else_before_its_question(self):
        tokens, at, _, places = self.batch
        for i in range(SEQUENCES):
            for question, place in zip(at[i].tolist(), places[i].tolist()):
                found = (tokens[i, :question] == tokens[i, question]).nonzero().flatten().tolist()
                self.assertEqual(found, [place - 1])

    def test_pairs_stand_at_even_places_before_the_tail(self):
        _, at, _, places = self.batch
        self.assertTrue((places % 2 == 1).all())
        self.assertEqual(at[0].tolist(), list(range(256 - 80, 256, 2)))
        self.assertLess(places.max().item(), 256 - 80)
        self.assertEqual(len({*places[0].tolist()}), TEXT.asked)

    def test_as_many_pairs_as_said_and_filler_elsewhere(self):
        tokens = self.batch.tokens[:, : 256 - 80]
        self.assertTrue(((tokens < KEYS).sum(1) == TEXT.pairs).all())
        self.assertTrue(((tokens >= KEYS) & (tokens < KEYS + VALUES)).sum(1).eq(TEXT.pairs).all())
        self.assertLess(tokens.max().item(), VOCABULARY)

    def test_every_place_is_used(self):
        """A place stays empty in all of 32 sequences of 48 pairs in 88 places with chance 88 (40 / 88)^32 < 1e-9."""
        self.assertTrue((self.batch.tokens[:, : 256 - 80 : 2] < KEYS).any(0).all())

    def test_a_batch_is_a_function_of_its_seed(self):
        again, other = draw(TEXT, SEQUENCES, CPU, 1), draw(TEXT, SEQUENCES, CPU, 2)
        self.assertTrue(all(torch.equal(a, b) for a, b in zip(self.batch, again)))
        self.assertFalse(torch.equal(self.batch.tokens, other.tokens))

    def test_streams_of_different_purposes_differ(self):
        seeds = {stream_seed(*p) for p in (("a", 1, 2), ("a", 12), ("a", "1, 2"), ("b", 1, 2), ("a", 1, 3))}
        self.assertEqual(len(seeds), 5)
        self.assertTrue(all(0 <= seed < 2**63 for seed in seeds))

    def test_impossible_texts_are_refused(self):
        for text in (Text(128, 64, 32), Text(128, 8, 9), Text(128, 8, 0), Text(10000, 1025, 8)):
            with self.assertRaisesRegex(InputError, "nearest valid choice"):
                text.check()

    def test_all_settings_are_possible(self):
        for settings in (FULL, SMOKE):
            for text in [s.text for s in settings.stages] + [t for t, _ in settings.evaluations]:
                text.check()
            self.assertEqual(settings.evaluations[0][0], settings.trained())


if __name__ == "__main__":
    unittest.main()
