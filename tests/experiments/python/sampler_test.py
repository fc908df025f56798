"""Samplers of one's own: sampler_test.py PATH_OF_MOBALAB."""

import functools
import unittest

import with_program  # noqa: F401

import numpy as np

import mobalab
from mobalab import routers

SEED = 11


def gaussian(point, trials, random):
    """The paper's model in plain NumPy: the signal block's score against the best topk - 1 of the others'."""
    d, size, others = int(point["head_dim"]), int(point["block_size"]), int(point["candidates"]) - 1
    noise = random.normal(0.0, 1.0, (trials, others)) / np.sqrt(d * size)
    signal = point["mu_signal"] / size + random.normal(0.0, 1.0, trials) / np.sqrt(d * size)
    return (noise > signal[:, None]).sum(axis=1) >= int(point["topk"]) - 1


def biased(point, trials, random):
    return int(random.binomial(trials, 1.05 * point["miss_probability"]))


def fair(point, trials, random):
    return int(random.binomial(trials, point["miss_probability"]))


POINTS = dict(model="gaussian", head_dim=[32, 64], candidates=20, topk=4, mu_signal=0.7)


def z_of(run):
    """Standard errors between counts and theory."""
    p = run.miss_probability.values
    return (run.misses.values - run.trials.values * p) / np.sqrt(run.trials.values * p * (1 - p))


class Samplers(unittest.TestCase):
    def test_a_sampler_of_the_papers_model_agrees_with_theory(self):
        """Two points, |z| < 6.2: a false alarm of 1e-9 over the seeds. A miss probability 5 % higher is 13 standard errors away
        at these trials, and found with probability above 1 - 1e-10: `biased` must be found."""
        print(f"seed {SEED}")
        run = mobalab.sample(gaussian, trials=50_000, seed=SEED, **POINTS)
        self.assertLess(np.abs(z_of(run)).max(), 6.2)
        self.assertGreater(np.abs(z_of(mobalab.sample(biased, trials=50_000, seed=SEED, **POINTS))).min(), 6.2)
        for row, one in enumerate(mobalab.statistics(run)):
            self.assertEqual(one.interval(), tuple(float(run[name].values[row]) for name in ("low", "miss", "high")))

    def test_a_point_has_the_counts_it_has_alone(self):
        grid = mobalab.sample(fair, trials=5000, seed=3, **POINTS)
        alone = mobalab.sample(fair, [{"head_dim": 64, "candidates": 20}], trials=5000, seed=3, model="gaussian", topk=4,
                               mu_signal=0.7)
        self.assertEqual(int(grid.misses.values[1]), int(alone.misses.values[0]))
        self.assertNotEqual(*grid.misses.values.tolist())
        other = mobalab.sample(fair, trials=5000, seed=4, **POINTS)
        self.assertNotEqual(grid.misses.values.tolist(), other.misses.values.tolist())
        both = mobalab.statistics(grid)[0] + mobalab.statistics(other)[0]
        self.assertEqual(both.trials, 10_000)
        with self.assertRaisesRegex(mobalab.MobalabError, "method = .*are different points"):
            mobalab.statistics(grid)[0] + mobalab.statistics(mobalab.sample(biased, trials=5000, seed=4, **POINTS))[0]

    def test_samplers_without_a_name_of_their_own_do_not_add(self):
        def counts_of(sampler, seed):
            return mobalab.statistics(mobalab.sample(sampler, trials=100, seed=seed))[0]
        for one, other in ((lambda *_: 1, lambda *_: 2), (functools.partial(fair), functools.partial(biased))):
            with self.assertRaisesRegex(mobalab.MobalabError, "has no name that tells it from another sampler"):
                counts_of(one, 1) + counts_of(other, 2)
        self.assertEqual(sum([counts_of(lambda *_: 1, 1)]).misses, 1)

    def test_long_names_differ_where_the_functions_do(self):
        def named(text):
            def sampler(point, trials, random):
                return 0
            sampler.__qualname__ = text
            return sampler
        one, other = ("a" * 300 + end for end in "xy")
        names = [routers.name_of(named(text)) for text in (one, other, "\u00e9" * 200, "b" * 100)]
        self.assertEqual(len(set(names)), 4)
        self.assertLessEqual(max(len(name.encode()) for name in names), 200)
        self.assertTrue(names[3].endswith("b" * 100))
        self.assertTrue(routers.is_nameless(routers.name_of(named("c" * 300 + ".<locals>.<lambda>"))))

    def test_booleans_and_counts_are_the_same(self):
        def flags(point, trials, random):
            return random.random(trials) < 0.3

        def number(point, trials, random):
            return np.count_nonzero(random.random(trials) < 0.3)
        self.assertEqual(mobalab.sample(flags, trials=3000).misses.values.tolist(),
                         mobalab.sample(number, trials=3000).misses.values.tolist())

    def test_stop_rules(self):
        asked = []

        def always(point, trials, random):
            asked.append(trials)
            return trials
        run = mobalab.sample(always, trials=2500, batch=1000)
        self.assertEqual((asked, run.trials.values.tolist(), run.stop_reason.values.tolist()),
                         ([1000, 1000, 500], [2500], ["trials"]))
        run = mobalab.sample(always, trials=2500, batch=1000, max_misses=1500)
        self.assertEqual((run.trials.values.tolist(), run.stop_reason.values.tolist()), ([2000], ["misses"]))

    def test_it_can_be_drawn(self):
        run = mobalab.sample(fair, trials=1000, model="gaussian", head_dim=[32, 64, 128], candidates=20)
        self.assertIn("all 3 points", mobalab.plot(run, mobalab.theory(head_dim=[32, 64], candidates=20)).caption.replace(
            "all 5 points", "all 3 points"))
        told = []
        mobalab.sample(fair, trials=1000, progress=lambda share, text: told.append(share))
        self.assertEqual(told[-1], 1.0)

    def test_errors(self):
        def error_of(sampler, **others):
            with self.assertRaises(mobalab.MobalabError) as caught:
                mobalab.sample(sampler, **others)
            return str(caught.exception)
        self.assertRegex(error_of(lambda *_: 2000), "gave 2000 misses of 1024 trials; they are 0 to 1024$")
        self.assertRegex(error_of(lambda *_: -1), "gave -1 misses")
        self.assertRegex(error_of(lambda *_: True), "gave True misses")
        self.assertRegex(error_of(lambda *_: 0.5), "gave 0.5; give the number of misses")
        self.assertRegex(error_of(lambda *_: float("nan")), "gave nan; give the number")
        self.assertRegex(error_of(lambda *_: [True]), "gave 1 values of bool for 1024 trials")
        self.assertRegex(error_of(lambda _, trials, __: np.ones(trials)), "values of float64")
        self.assertRegex(error_of(3), "sampler = 3: must be a function")
        self.assertRegex(error_of(fair, trials=0), "trials = 0: must be a whole number of at least 1; nearest valid: 1")
        self.assertRegex(error_of(fair, trials=0.5), "trials = 0.5: must be")
        self.assertRegex(error_of(fair, trials=float("nan")), "trials = nan: must be")
        self.assertRegex(error_of(fair, seed=True), "seed = True: must be")
        self.assertRegex(error_of(fair, trails=5), "trails is no argument of sample; nearest valid: trials")
        self.assertRegex(error_of(fair, topk=500), "^topk = 500 .*nearest valid: 128$")
        self.assertRegex(error_of(lambda *_: 1 / 0, confidence=2), "confidence = 2")  # before anything is drawn
        with self.assertRaises(ZeroDivisionError):
            mobalab.sample(lambda *_: 1 / 0)


if __name__ == "__main__":
    unittest.main()
