#!/usr/bin/env python3
"""A training that stops after every chunk of steps and goes on from its checkpoint is the one that never stopped, to the
last bit.

Usage: resume_test.py LIBRARY; skipped without torch.
"""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import with_torch  # noqa: F401
import torch
from training.arms import Arm, moba
from training.environment import on_device
from training.errors import InputError
from training.recall_task import Text
from training.settings import SMOKE, Stage
from training.train import Training

CPU = torch.device("cpu")
SETTINGS = replace(
    SMOKE, stages=(Stage(Text(64, 8, 8), 2, 40), Stage(Text(128, 8, 8), 1, 40)), evaluations=((Text(128, 8, 8), 1),)
)
ARM = moba(16, 64, key_conv=3)


def numbers(training):
    """Everything a run leaves, but for its time."""
    curve = [{name: value for name, value in point.items() if name != "seconds"} for point in training.curve]
    return curve, training.stages, training.step, training.tokens, training.learned


class Resume(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "a.checkpoint"
        context = on_device(CPU)
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def whole(self, settings=SETTINGS):
        training = Training(ARM, 0, settings, CPU)
        self.assertTrue(training.run(self.path.with_suffix(".whole"), lambda: False, lambda text: None))
        return training

    def test_stopped_after_every_chunk(self):
        calls, done = 0, False
        while not done:
            training = Training(ARM, 0, SETTINGS, CPU)
            self.assertEqual(training.restore(self.path), calls > 0)
            done = training.run(self.path, lambda: True, lambda text: None)
            calls += 1
        self.assertEqual(calls, 5)  # four chunks, and a call that finds nothing left
        whole = self.whole()
        self.assertEqual(numbers(training), numbers(whole))
        for name, tensor in whole.model.state_dict().items():
            self.assertTrue(torch.equal(tensor, training.model.state_dict()[name]), name)

    def test_seeds_and_arms_differ(self):
        """What the comparison above would see."""
        other = Training(ARM, 1, SETTINGS, CPU)
        other.run(self.path, lambda: False, lambda text: None)
        self.assertNotEqual(numbers(other), numbers(self.whole()))

    def test_a_checkpoint_of_another_run_is_refused(self):
        Training(ARM, 0, SETTINGS, CPU).save(self.path)
        for arm, seed, settings in (
            (ARM, 1, SETTINGS),
            (Arm("dense"), 0, SETTINGS),
            (ARM, 0, replace(SETTINGS, rate=2e-3)),
        ):
            with self.assertRaisesRegex(InputError, "another --out"):
                Training(arm, seed, settings, CPU).restore(self.path)

    def test_what_does_not_learn_the_first_stage_ends_there(self):
        training = self.whole(replace(SETTINGS, learned=0.9))
        self.assertFalse(training.learned)
        self.assertEqual([stage[:2] for stage in training.stages], [[64, 40]])
        self.assertTrue(training.done())

    def test_a_stage_ends_at_its_goal_but_for_the_last(self):
        training = self.whole(replace(SETTINGS, goal=0.0))
        self.assertEqual([stage[:2] for stage in training.stages], [[64, 20], [128, 40]])

    def test_the_rate_rises_stays_and_falls_to_zero(self):
        training = Training(ARM, 0, replace(SETTINGS, warmup=10), CPU)
        first = training.rates(SETTINGS.stages[0])
        self.assertAlmostEqual(first[0], 1e-4)
        self.assertEqual(first[10:], [1e-3] * 10)
        training.stage, training.chunk, training.step = 1, 1, 60
        last = training.rates(SETTINGS.stages[1])
        self.assertEqual(last, sorted(last, reverse=True))
        self.assertAlmostEqual(last[-1], 1e-3 / 20)


if __name__ == "__main__":
    unittest.main()
