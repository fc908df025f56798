"""The Python module on NumPy arrays and the CPU backend: routing, attention, gradients, convolution, errors.

Usage: python_test.py LIBRARY

What every argument may be is python_arguments_test.py's; torch's side is python_torch_test.py's.
"""

import copy
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "kernels" / "python"))

import mobalab_kernels as mk  # noqa: E402
from arguments import workers  # noqa: E402

SEED = 20
BLOCK, TOPK = 16, 3


def tensors(batch=2, seq=100, heads_q=4, heads_k=2, dim=8, count=3):
    rng = np.random.default_rng(SEED)
    heads = (heads_q,) + (heads_k,) * (count - 1)
    return [rng.standard_normal((batch, seq, h, dim)).astype(np.float32) for h in heads]


def kept_blocks(q, k, keep_first=False):
    """Kept blocks (batch, head, row) by the definition, in float64: in order, the own block last."""
    batch, seq, heads, _ = q.shape
    group = heads // k.shape[2]
    kept = {}
    for b in range(batch):
        for h in range(heads):
            keys = k[b, :, h // group].astype(np.float64)
            means = np.stack([keys[s:s + BLOCK].mean(0) for s in range(0, seq, BLOCK)])
            for row in range(seq):
                own = row // BLOCK
                scores = means[:own] @ q[b, row, h]
                if keep_first:
                    scores[:1] = np.inf
                best = sorted(range(own), key=lambda j: (-scores[j], -j))[: TOPK - 1]
                kept[b, h, row] = best + [own]
    return kept


def attention(q, k, v, kept):
    out = np.zeros(q.shape)
    group = q.shape[2] // k.shape[2]
    for (b, h, row), blocks in kept.items():
        columns = [j for block in blocks for j in range(block * BLOCK, min((block + 1) * BLOCK, row + 1))]
        scores = k[b, columns, h // group].astype(np.float64) @ q[b, row, h] * q.shape[-1] ** -0.5
        weights = np.exp(scores - scores.max())
        out[b, row, h] = weights / weights.sum() @ v[b, columns, h // group]
    return out


def crashing_judge(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return 1 / 0 if number == 4 else "wrong" if number == 3 else None


def refused_call():
    q, k = tensors(heads_q=3, count=2)
    mk.route(q, k, BLOCK, TOPK)


class PythonModule(unittest.TestCase):
    def test_route_selects_the_best_blocks_in_order(self):
        q, k = tensors(count=2)
        selection = mk.route(q, k, BLOCK, TOPK)
        self.assertEqual(selection.shape, (4, 200, TOPK - 1))
        for (b, h, row), blocks in kept_blocks(q, k).items():
            picked = [int(j) for j in selection[h, b * 100 + row] if j >= 0]
            self.assertEqual(picked, blocks[:-1], (b, h, row))

    def test_scorers_have_names_and_summaries_of_their_own(self):
        self.assertEqual(mk.SCORERS[:5], ("mean", "quest", "max", "submean-R", "random"))
        (k,) = tensors(count=1, heads_q=2)
        self.assertEqual(mk.compute_centroids(k, BLOCK).shape, (14, 2, 8))
        shapes = {"quest": (2, 14), "max": (1, 14), "submean-8": (1, 8 * 14), "random": (0, 14)}
        for scorer, (parts, rows) in shapes.items():
            self.assertEqual(mk.compute_centroids(k, BLOCK, scorer=scorer).shape, (rows, parts, 2, 8), scorer)
        quest = mk.compute_centroids(k, BLOCK, scorer="quest").reshape(2, 7, 2, 2, 8)
        np.testing.assert_array_equal(quest[:, 2, 0], k[:, 32:48].max(1))
        np.testing.assert_array_equal(quest[:, 6, 1], k[:, 96:].min(1))
        halves = mk.compute_centroids(k, BLOCK, scorer="submean-2").reshape(2, 14, 2, 8)
        np.testing.assert_array_equal(halves[:, 13], 0)  # behind the last of 100 keys
        with self.assertRaisesRegex(ValueError, "'maxx'.*nearest valid choice: 'max'"):
            mk.route(k, k, BLOCK, TOPK, scorer="maxx")

    def test_one_pooling_serves_chunks_of_queries(self):
        q, k = tensors(count=2)
        for scorer in ("mean", "quest", "submean-4", "random"):
            whole = mk.route(q, k, BLOCK, TOPK, scorer=scorer).reshape(4, 2, 100, -1)
            kept = mk.compute_centroids(k, BLOCK, scorer=scorer)
            for rows in (1, 33, 100):
                chunk = mk.route_with_centroids(q[:, 100 - rows:], kept, 100, BLOCK, TOPK, scorer=scorer)
                np.testing.assert_array_equal(chunk.reshape(4, 2, rows, -1), whole[:, :, 100 - rows:], scorer)

    def test_block_0_is_kept_first(self):
        q, k, v = tensors()
        kept = kept_blocks(q, k, keep_first=True)
        selection, scores = mk.route(q, k, BLOCK, TOPK, keep_first=True, return_scores=True)
        for (b, h, row), blocks in kept.items():
            picked = [int(j) for j in selection[h, b * 100 + row] if j >= 0]
            self.assertEqual(picked, blocks[:-1], (b, h, row))
        np.testing.assert_array_equal(scores[..., 0], np.where(selection[..., 0] == 0, np.inf, -np.inf))
        given = mk.route_with_centroids(q, mk.compute_centroids(k, BLOCK), 100, BLOCK, TOPK, keep_first=True)
        np.testing.assert_array_equal(given, selection)
        out, lse, same = mk.moba_forward(q, k, v, BLOCK, TOPK, keep_first=True)
        np.testing.assert_array_equal(same, selection)
        np.testing.assert_allclose(out, attention(q, k, v, kept), rtol=0, atol=1e-5)
        rng = np.random.default_rng(SEED + 2)
        d_out, direction = (rng.standard_normal(out.shape) for _ in range(2))
        dq, _, _ = mk.attention_backward(q, k, v, out, d_out.astype(np.float32), lse, selection, BLOCK, TOPK)
        step = 1e-6  # along which no row is routed anew: the kept blocks are given
        rise = attention(q + step * direction, k, v, kept) - attention(q - step * direction, k, v, kept)
        slope = (rise * d_out).sum() / (2 * step)
        self.assertAlmostEqual(float((dq * direction).sum()), slope, delta=1e-4 * np.abs(dq * direction).sum())

    def test_forward_is_the_softmax_over_the_kept_keys(self):
        q, k, v = tensors()
        out, lse, selection = mk.moba_forward(q, k, v, BLOCK, TOPK)
        np.testing.assert_allclose(out, attention(q, k, v, kept_blocks(q, k)), rtol=0, atol=1e-5)
        again, _ = mk.attention_forward(q, k, v, selection, BLOCK, TOPK)
        np.testing.assert_array_equal(out, again)
        self.assertTrue(np.isfinite(lse).all())

    def test_backward_is_the_slope_of_the_forward(self):
        q, k, v = tensors(batch=1, seq=40)
        out, lse, selection = mk.moba_forward(q, k, v, BLOCK, TOPK)
        rng = np.random.default_rng(SEED + 1)
        d_out = rng.standard_normal(out.shape).astype(np.float32)
        gradients = mk.attention_backward(q, k, v, out, d_out, lse, selection, BLOCK, TOPK)
        kept = kept_blocks(q, k)
        for x, gradient in zip((q, k, v), gradients):
            direction = rng.standard_normal(x.shape)
            step = 1e-4
            moved = [[y.astype(np.float64) + (s * step * direction if y is x else 0) for y in (q, k, v)] for s in (1, -1)]
            slope = sum(((attention(*moved[0], kept) - attention(*moved[1], kept)) * d_out).flat) / (2 * step)
            self.assertAlmostEqual(float((gradient * direction).sum()), slope, delta=2e-3 * (1 + abs(slope)))

    def test_key_convolution_and_its_slope(self):
        (k,) = tensors(batch=1, seq=20, heads_q=2, count=1)
        rng = np.random.default_rng(SEED + 2)
        weight = rng.standard_normal((2, 8, 3)).astype(np.float32)

        def convolve(keys, taps):
            padded = np.concatenate([np.zeros((1, 2, 2, 8)), keys], axis=1)
            z = sum(padded[:, 2 - lag:2 - lag + 20] * taps[None, None, :, :, lag] for lag in range(3))
            return keys + z / (1 + np.exp(-z))

        np.testing.assert_allclose(mk.key_conv_forward(k, weight), convolve(k.astype(float), weight), atol=1e-5)
        out, centroids = mk.key_conv_centroids(k, weight, BLOCK)
        np.testing.assert_array_equal(out, mk.key_conv_forward(k, weight))
        np.testing.assert_array_equal(centroids, mk.compute_centroids(out, BLOCK))
        d_out = rng.standard_normal(k.shape).astype(np.float32)
        dk, dw = mk.key_conv_backward(k, weight, d_out)
        for which, gradient in ((0, dk), (1, dw)):
            direction = rng.standard_normal(gradient.shape)
            moved = [[x.astype(float) + (s * 1e-5 * direction if i == which else 0) for i, x in enumerate((k, weight))]
                     for s in (1, -1)]
            slope = ((convolve(*moved[0]) - convolve(*moved[1])) * d_out).sum() / 2e-5
            self.assertAlmostEqual(float((gradient * direction).sum()), slope, delta=2e-3 * (1 + abs(slope)))

    def test_variable_length_sequences_do_not_see_each_other(self):
        q, k, v = (x.reshape(-1, *x.shape[2:]) for x in tensors(batch=1))
        cu = np.array([0, 37, 37, 100], dtype=np.int32)
        out, _, _ = mk.moba_forward(q, k, v, BLOCK, TOPK, cu_seqlens_q=cu, cu_seqlens_k=cu)
        for begin, end in ((0, 37), (37, 100)):
            alone, _, _ = mk.moba_forward(q[None, begin:end], k[None, begin:end], v[None, begin:end], BLOCK, TOPK)
            np.testing.assert_array_equal(out[begin:end], alone[0])

    def test_a_nan_key_shows_where_it_can_be_seen_and_nowhere_else(self):
        q, k, v = tensors(batch=1)
        clean = mk.moba_forward(q, k, v, BLOCK, TOPK)
        poisoned = k.copy()
        bad = 2 * BLOCK + 3  # in block 2, of key head 0: query heads 0 and 1
        poisoned[0, bad, 0] = np.nan
        out, lse, selection = mk.moba_forward(q, poisoned, v, BLOCK, TOPK)
        later = 3 * BLOCK  # rows that have block 2 among their candidates
        self.assertTrue((selection[:2, later:, 0] == 2).all(), "a NaN score ranks first")
        self.assertTrue(np.isnan(out[0, later:, :2]).all() and np.isnan(out[0, bad:later, :2]).all())
        for got, want in ((out, clean[0]), (lse, clean[1]), (selection, clean[2])):
            rows = (slice(None), slice(0, bad)) if got is out else (slice(0, 2), slice(0, bad))
            np.testing.assert_array_equal(got[rows], want[rows])
            heads = (slice(None), slice(None), slice(2, None)) if got is out else (slice(2, None),)
            np.testing.assert_array_equal(got[heads], want[heads])

    def test_routing_may_be_asked_for_all_blocks(self):
        q, k, v = tensors()
        everything, _, selection = mk.moba_forward(q, k, v, BLOCK, 1000)
        self.assertEqual(selection.shape[-1], -(-q.shape[1] // BLOCK) - 1)
        one_block, _, none = mk.moba_forward(q, k, v, 1024, 1)
        self.assertEqual(none.shape[-1], 0)
        np.testing.assert_allclose(everything, one_block, rtol=0, atol=1e-5)

    def test_lengths_read_once_serve_other_calls(self):
        q, k, v = (x.reshape(-1, *x.shape[2:]) for x in tensors(batch=1))
        cu = np.array([0, 37, 37, 100], dtype=np.int32)
        lengths = mk.sequence_lengths(q, k, BLOCK, cu, cu)
        self.assertEqual(lengths, {"max_seqlen_q": 63, "max_seqlen_k": 63, "total_blocks": 3 + 4})
        packed = {"cu_seqlens_q": cu, "cu_seqlens_k": cu}
        np.testing.assert_array_equal(mk.route(q, k, BLOCK, TOPK, **packed), mk.route(q, k, BLOCK, TOPK, **packed, **lengths))
        with self.assertRaisesRegex(TypeError, "cu_seqlens_q"):
            mk.sequence_lengths(q, k, BLOCK, None, cu)

    def test_errors_name_both_shapes(self):
        q, k, v = tensors()
        with self.assertRaisesRegex(ValueError, r"v has shape \(2, 90, 2, 8\).*k \(2, 100, 2, 8\)"):
            mk.moba_forward(q, k, v[:, :90], BLOCK, TOPK)
        out, lse, selection = mk.moba_forward(q, k, v, BLOCK, TOPK)
        with self.assertRaisesRegex(ValueError, r"lse has shape \(1, 1\).*q \(2, 100, 4, 8\).*\(4, 200\)"):
            mk.attention_backward(q, k, v, out, out, lse[:1, :1], selection, BLOCK, TOPK)
        with self.assertRaisesRegex(ValueError, r"selection has shape \(2, 4, 100, 2\)"):
            mk.attention_forward(q, k, v, selection.reshape(4, 2, 100, 2).swapaxes(0, 1), BLOCK, TOPK)

    def test_errors_come_out_of_a_worker_process(self):
        with self.assertRaises(mk.Error) as caught:
            mk.compute_centroids(np.zeros((1, 4, 0, 8), np.float32), BLOCK)
        for copied in (pickle.loads(pickle.dumps(caught.exception)), copy.copy(caught.exception)):
            self.assertEqual((type(copied), str(copied), copied.code),
                             (type(caught.exception), str(caught.exception), caught.exception.code))
        with multiprocessing.Pool(1) as pool:
            waiting = pool.apply_async(refused_call)
            with self.assertRaisesRegex(mk.Error, "heads_q"):  # a TimeoutError where it cannot be unpickled
                waiting.get(timeout=100)

    def test_what_is_no_library_of_this_version_is_refused(self):
        with self.assertRaisesRegex(FileNotFoundError, "nowhere.so"):
            mk.load("nowhere.so")
        with self.assertRaisesRegex(mk.Error, "another library"):
            mk.load(np.linalg._umath_linalg.__file__)
        with self.assertRaisesRegex(mk.Error, "cpu_reference"):
            mk.backend_available("gpu")
        self.assertIsNone(mk.backend_available("cpu"))

    def test_a_crash_fails_its_row_of_the_argument_table_and_no_other(self):
        found = {}
        workers.run_all(6, crashing_judge, "fork", 3, lambda number, wrong: found.__setitem__(number, wrong))
        self.assertEqual([wrong is None for wrong in found.values()], [True, False, True, False, False, True])
        self.assertIn("exit code -11", found[1])
        self.assertEqual(found[3], "wrong")
        self.assertIn("ZeroDivisionError", found[4])

    def test_where_the_library_is_looked_for(self):
        """In $MOBALAB_KERNELS_LIBRARY, else in the package, else in build/lib of the clone."""
        with tempfile.TemporaryDirectory(prefix="mobalab_test_") as folder:
            package = Path(folder, "kernels", "python", "mobalab_kernels")
            shutil.copytree(Path(mk.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            library = os.environ["MOBALAB_KERNELS_LIBRARY"]

            def loads(**environment):
                others = {name: value for name, value in os.environ.items() if not name.startswith("MOBALAB")}
                ran = subprocess.run(
                    [sys.executable, "-c", "import mobalab_kernels as mk; print(mk.abi())"],
                    env={**others, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", **environment},
                    text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100)
                return ran.stdout.strip().split("\n")[-1]

            inside, built = package / "libmobalab_kernels.so", Path(folder, "build", "lib", "libmobalab_kernels.so")
            self.assertRegex(loads(), f"FileNotFoundError.*{inside}, {built}")
            built.parent.mkdir(parents=True)
            shutil.copy(library, built)
            self.assertEqual(loads(), str(mk.abi()))
            inside.write_text("no library")
            self.assertIn(str(inside), loads())
            self.assertEqual(loads(MOBALAB_KERNELS_LIBRARY=library), str(mk.abi()))
            shutil.copy(library, inside)
            built.write_text("no library")
            self.assertEqual(loads(), str(mk.abi()))

    def test_star_import_gives_all_that_can_run(self):
        names = {}
        exec("from mobalab_kernels import *", names)
        self.assertIs(names["route"], mk.route)

    def test_errors_name_the_value_and_the_rule(self):
        q, k = tensors(heads_q=3, count=2)
        with self.assertRaisesRegex(mk.Error, "heads_q"):
            mk.route(q, k, BLOCK, TOPK)
        with self.assertRaisesRegex(mk.Error, "topk"):
            mk.route(k, k, BLOCK, 0)
        with self.assertRaisesRegex(TypeError, "float64"):
            mk.route(q.astype(np.float64), k.astype(np.float64), BLOCK, TOPK)
        with self.assertRaisesRegex(ValueError, "stride"):
            mk.route(k[..., ::2], k[..., ::2], BLOCK, TOPK)


if __name__ == "__main__":
    unittest.main()
