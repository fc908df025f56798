"""Routers of one's own on the bench of the kernels: router_test.py PATH_OF_MOBALAB."""

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from with_program import PROGRAM, ROOT

import numpy as np

import mobalab

ASKED = dict(head_dim=32, seq_len=1000, block_size=16, topk=4, probes=2000)


def mean_router(queries, keys, block_size, topk):
    """MoBA's rule in plain NumPy: fp32 centroids, scores in float64, of equal ones the higher block."""
    positions = np.arange(len(keys) - len(queries), len(keys))
    blocks = len(keys) // block_size
    centroids = keys[:blocks * block_size].astype(float).reshape(blocks, block_size, keys.shape[1]).mean(1).astype(np.float32)
    selection = np.full((len(queries), topk - 1), -1)
    for row, (query, position) in enumerate(zip(queries.astype(float), positions)):
        candidates = position // block_size
        scores = centroids[:candidates].astype(float) @ query
        best = sorted(range(candidates), key=lambda block: (-scores[block], -block))[:topk - 1]
        selection[row, :len(best)] = best
    return selection


def sorted_mean_router(*arguments):
    """The same selection, not best first."""
    return np.sort(mean_router(*arguments), axis=1)


def latest_router(queries, keys, block_size, topk):
    positions = np.arange(len(keys) - len(queries), len(keys))
    latest = positions[:, None] // block_size - 1 - np.arange(topk - 1)
    return np.maximum(latest, -1)


class Judge:
    """Finds the needle by looking at every key."""

    def __call__(self, queries, keys, block_size, topk):
        if topk == 1:
            return np.empty((len(queries), 0), int)
        own = np.arange(len(keys) - len(queries), len(keys)) // block_size
        scores = queries @ keys.T
        scores[np.arange(len(keys))[None, :] >= (own * block_size)[:, None]] = -2
        return (np.argmax(scores, axis=1) // block_size)[:, None].tolist()


class Routers(unittest.TestCase):
    def test_tensors_and_counts_are_those_of_the_kernel(self):
        """The same rule finds the same needles, probe for probe: scores that near-tie within rounding are none of these."""
        for dtype in ("fp32", "bf16"):
            for others in ({}, {"cluster_size": 3, "mu_cluster": 0.3}, {"model": "text", "seq_len": 512, "key_mean": 0.5}):
                asked = {**ASKED, "dtype": dtype, **others}
                kernel, own = mobalab.route(**asked), mobalab.route(router=mean_router, **asked)
                with self.subTest(asked=asked):
                    if dtype == "fp32":
                        self.assertEqual(own.misses.values.tolist(), kernel.misses.values.tolist())
                    self.assertEqual(own.trials.values.tolist(), kernel.trials.values.tolist())
                    # 16-bit centroids are rounded in the kernel and not here: a near tie now and then.
                    self.assertLess(abs(int(own.misses.values[0]) - int(kernel.misses.values[0])), 20)

    def test_tensors_are_rounded_and_whole(self):
        seen = []

        def look(queries, keys, block_size, topk):
            seen.append((queries, keys, block_size, topk))
            return np.empty((len(queries), 0), int)
        found = mobalab.route(router=look, dtype="bf16", key_sets=2, **ASKED)
        self.assertEqual(found.misses.values.tolist(), found.trials.values.tolist())
        for queries, keys, block_size, topk in seen:
            self.assertEqual((block_size, topk, queries.dtype, keys.dtype), (16, 4, np.float32, np.float32))
            for tensor in (queries, keys):
                np.testing.assert_allclose(np.linalg.norm(tensor, axis=1), 1.0, atol=0.01)
                self.assertFalse(np.any(tensor.view(np.uint32) & 0xFFFF), "more digits than bf16 has")
                self.assertFalse(tensor.flags.writeable)
            self.assertLessEqual(len(keys), 1000)
            self.assertGreaterEqual(len(keys) - len(queries), 16)
        whole = {keys.tobytes() for _, keys, _, _ in seen if len(keys) == 1000}
        self.assertEqual(len(whole), 2)

    def test_the_planted_needle_is_there(self):
        found = mobalab.route(router=Judge(), topk=2, mu_signal=0.95, head_dim=64, seq_len=1024, block_size=16, probes=1000)
        self.assertEqual(int(found.misses.values[0]), 0)
        self.assertGreater(float(found.high.values[0]), 0.0)

    def test_each_topk_is_routed_by_itself(self):
        """A router need not put the best first: a smaller topk is no prefix of a larger one."""
        asked = {**ASKED, "topk": [2, 4, 8]}
        kernel, own = mobalab.route(**asked), mobalab.route(router=sorted_mean_router, **asked)
        self.assertEqual(own.misses.values.tolist(), kernel.misses.values.tolist())
        alone = mobalab.route(router=sorted_mean_router, **ASKED)
        self.assertEqual(int(alone.misses.values[0]), int(own.misses.values[1]))

    def test_what_theory_says_of_it(self):
        kernel, own = mobalab.route(**ASKED), mobalab.route(router=latest_router, **ASKED)
        self.assertTrue(np.isnan(own.expected_miss.values[0]))
        self.assertEqual(own.miss_probability.values.tolist(), kernel.miss_probability.values.tolist())
        self.assertGreater(float(own.low.values[0]), float(kernel.high.values[0]))
        self.assertGreaterEqual(float(own.design_effect.values[0]), 1.0)
        self.assertIn("router __main__.latest_router", own.attrs["device"])

    def test_intervals_cover(self):
        """The latest 3 of c blocks hit with probability 3 / c whatever the keys. 40 independent seeds: one of their intervals of
        confidence 1 - 1e-11 misses the truth with probability 4e-10 at most; of those of confidence 0.5 fewer than three hold
        it with probability 7.5e-10 at most (binomial), and with 0.99 where they hold it once in a hundred times only."""
        inside_half = 0
        for seed in range(40):
            seen = []

            def latest(queries, keys, block_size, topk):
                seen.append(np.arange(len(keys) - len(queries), len(keys)) // block_size)
                return latest_router(queries, keys, block_size, topk)
            for confidence in (1 - 1e-11, 0.5):
                seen.clear()
                found = mobalab.route(router=latest, confidence=confidence, seed=seed, **ASKED)
                truth = 1.0 - np.mean(np.minimum(1.0, 3.0 / np.concatenate(seen)))
                inside = float(found.low.values[0]) <= truth <= float(found.high.values[0])
                if confidence > 0.9:
                    self.assertTrue(inside, f"seed {seed}")
                else:
                    inside_half += inside
        self.assertGreaterEqual(inside_half, 3)

    def test_validate_tells_the_right_rule_from_a_wrong_one(self):
        asked = dict(head_dim=32, seq_len=512, block_size=16, topk=[2, 4], probes=2000, trials=2000)
        self.assertTrue(mobalab.validate(router=mean_router, **asked))
        wrong = mobalab.validate(router=latest_router, **asked)
        self.assertFalse(wrong)
        self.assertIn("DISAGREEMENT", wrong.report)

    def test_a_file_knows_its_router_and_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.h5"
            calls = []

            def counting(queries, keys, block_size, topk):
                calls.append(len(queries))
                if len(calls) == 150:
                    raise KeyboardInterrupt
                return mean_router(queries, keys, block_size, topk)
            with self.assertRaises(KeyboardInterrupt):
                mobalab.route(router=counting, out=path, **ASKED)
            self.assertEqual(os.listdir(folder), ["a.h5.journal"])
            with self.assertRaisesRegex(mobalab.MobalabError, "a.h5"):  # another router's
                mobalab.route(router=mean_router, out=path, resume=True, **ASKED)
            with self.assertRaisesRegex(mobalab.MobalabError, "has no name that tells it from another one"):
                mobalab.route(router=lambda *given: mean_router(*given), out=path, resume=True, **ASKED)
            before = len(calls)
            found = mobalab.route(router=counting, out=path, resume=True, **ASKED)
            again = len(calls) - before
            mobalab.route(router=counting, **ASKED)
            whole = len(calls) - before - again
            print(f"calls: {whole} of a whole run, {again} of one that went on after {before - 1}")
            self.assertLess(again, whole)
            self.assertGreaterEqual(again + before - 1, whole)
            self.assertEqual(found.misses.values.tolist(), mobalab.route(**ASKED).misses.values.tolist())


class Errors(unittest.TestCase):
    def error_of(self, router, **others):
        with self.assertRaises(mobalab.MobalabError) as caught:
            mobalab.route(router=router, **{**ASKED, **others})
        return str(caught.exception)

    def test_selections_that_cannot_be(self):
        def of(value, columns=3):
            return lambda queries, keys, block_size, topk: np.full((len(queries), columns), value)
        self.assertRegex(self.error_of(of(500, 1)), r"router __main__.*: the query at position \d+ \(block size 16\) selects block "
                         r"500, which is none of its past blocks, 0 to \d+; -1 stands for no block$")
        self.assertRegex(self.error_of(of(0)), r"selects block 0, twice")
        self.assertRegex(self.error_of(of(-2)), r"selects block -2, which is none")
        self.assertRegex(self.error_of(of(0, 4)), r"has shape \[\d+, 4\]; it must be \[\d+, at most topk - 1 = 3\]")
        self.assertRegex(self.error_of(of(0.5)), "holds float64; blocks are integers")
        self.assertRegex(self.error_of(of(2**40, 1)), "selects block 1099511627776; blocks are below")
        self.assertRegex(self.error_of(lambda *_: 3), r"has shape \[\]")
        self.assertRegex(self.error_of(3), "router = 3: must be a function")
        self.assertRegex(self.error_of(mean_router, device="cpu"), "give one of the two")

    def test_what_the_function_raises_is_raised(self):
        def broken(*_):
            raise ZeroDivisionError("my own")
        with self.assertRaisesRegex(ZeroDivisionError, "my own"):
            mobalab.route(router=broken, **ASKED)

    def test_nothing_is_left(self):
        with tempfile.TemporaryDirectory() as folder:
            before, tempfile.tempdir = tempfile.tempdir, folder
            try:
                self.error_of(lambda *_: 3)
                mobalab.route(router=mean_router, **{**ASKED, "probes": 100})
                self.assertEqual(os.listdir(folder), [])
            finally:
                tempfile.tempdir = before


class Protocol(unittest.TestCase):
    """What the program says to other servers than Python's."""

    def run_against(self, serve):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/router"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen()
                thread = threading.Thread(target=self.accept, args=(listener, serve))
                thread.start()
                ran = subprocess.run([PROGRAM, "route", "--router", path, "--probes", "100"], capture_output=True, text=True)
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
        self.assertEqual((ran.returncode, ran.stdout), (2, ""))
        return ran.stderr.replace(path, "PATH")

    def accept(self, listener, serve):
        try:
            while True:
                connection, _ = listener.accept()
                with connection:
                    serve(connection)
        except OSError:
            pass  # the listener is shut

    def test_servers_that_are_none(self):
        self.assertEqual(self.run_against(lambda connection: None),
                         "mobalab route: error: router = PATH: what listens there has closed the connection\n")
        self.assertEqual(self.run_against(lambda connection: connection.sendall(struct.pack("q", 1 << 40))),
                         "mobalab route: error: router = PATH: its name has 1099511627776 bytes; it must have 1 to 200\n")
        self.assertEqual(self.run_against(lambda connection: connection.sendall(struct.pack("q", 3) + b"a\nb")),
                         "mobalab route: error: router = PATH: its name must be one line\n")
        self.assertEqual(self.run_against(lambda connection: connection.sendall(struct.pack("q", 3) + b"abc")),
                         "mobalab route: error: router = PATH: abc has closed the connection\n")

    def test_nobody_listens(self):
        ran = subprocess.run([PROGRAM, "route", "--router", "/nowhere/router"], capture_output=True, text=True)
        self.assertEqual((ran.returncode, ran.stderr),
                         (2, "mobalab route: error: router = /nowhere/router: no router listens there (No such file or "
                          "directory)\n"))
        ran = subprocess.run([PROGRAM, "route", "--router", "/" + 200 * "a"], capture_output=True, text=True)
        self.assertIn("a socket's path has at most 107 characters", ran.stderr)


if __name__ == "__main__":
    unittest.main()
