"""Steps over a cache from Python: NumPy arrays, torch tensors on CPU and GPU, MobaCache, CUDA graphs, torch.compile; every
argument of the functions, refused or right.

Usage: python_decode_test.py LIBRARY; what needs torch or a GPU is skipped with a message where there is none.
"""

import os
import sys
import unittest
from pathlib import Path

import numpy as np

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "kernels" / "python"))

import mobalab_kernels as mk  # noqa: E402

try:
    import torch
except ImportError:
    torch = None

SEED = 81
BATCH, KEYS, HEADS, HEADS_K, DIM, BLOCK, TOPK = 2, 150, 4, 2, 32, 16, 4
OTHER_DIM = 24  # of values that have a width of their own
LENGTHS = (150, 67)
OPTIONS = (
    {},
    {"scorer": "quest"},
    {"scorer": "max", "keep_first": True},
    {"scorer": "submean-4"},
    {"scorer": "random", "scorer_seed": 2**64 - 1},
    {"centred_centroids": True, "scale": 0.5},
)
NO_TORCH = torch is None or not hasattr(torch.library, "register_autograd")


def paged(array, lengths, page_size, rng, none):
    """(the pages of an array [batch, keys, ...], its block table): shuffled, `none` where no key is."""
    columns = -(-array.shape[1] // page_size)
    table = rng.permutation(array.shape[0] * columns + 2)[: array.shape[0] * columns]
    table = table.reshape(array.shape[0], columns).astype(np.int32)
    pages = np.full((array.shape[0] * columns + 2, page_size, *array.shape[2:]), none, array.dtype)
    for b, length in enumerate(lengths):
        for t in range(length):
            pages[table[b, t // page_size], t % page_size] = array[b, t]
    return pages, table


class Case:
    """NumPy arrays of a step, good ones."""

    def __init__(self, rows=1, dim_v=DIM):
        rng = np.random.default_rng(SEED)
        self.rng = rng
        self.q = rng.standard_normal((BATCH, rows, HEADS, DIM), dtype=np.float32)
        self.k, self.v = (rng.standard_normal((BATCH, KEYS, HEADS_K, d), dtype=np.float32) for d in (DIM, dim_v))
        self.lengths = np.array(LENGTHS, np.int32)
        self.centroids = mk.compute_centroids(self.k, BLOCK)
        self.selection = np.full((HEADS, BATCH * rows, TOPK - 1), -1, np.int32)
        for b, length in enumerate(LENGTHS):
            self.k[b, length:] = self.v[b, length:] = np.nan


class Numpy(unittest.TestCase):
    def test_a_step_is_the_last_rows_of_the_whole_sequences(self):
        for rows in (1, 3):
            for options in OPTIONS:
                with self.subTest(rows=rows, **options):
                    self.check_step(rows, options)

    def test_values_of_another_width(self):
        for rows, dim_v in ((1, OTHER_DIM), (3, 2 * DIM), (1, 1)):
            with self.subTest(rows=rows, dim_v=dim_v):
                self.check_step(rows, {}, dim_v)

    def check_step(self, rows, options, dim_v=DIM):
        c = Case(rows, dim_v)
        pooling = {"scorer": options.get("scorer", "mean")}
        centred = options.get("centred_centroids", False)
        kept = mk.compute_centroids(np.zeros_like(c.k), BLOCK, centred=centred, **pooling)
        kept[:] = np.nan
        out, lse, selection = mk.moba_decode(
            c.q, c.k, c.v, kept, c.lengths, BLOCK, TOPK, appended=KEYS, **options
        )
        self.assertEqual(out.shape, (BATCH, rows, HEADS, dim_v))
        blocks = -(-KEYS // BLOCK)
        for b, length in enumerate(LENGTHS):
            k, v = c.k[b : b + 1, :length], c.v[b : b + 1, :length]
            own = mk.compute_centroids(k, BLOCK, centred=centred, **pooling)
            if options.get("scorer") == "random":
                continue  # nothing is kept, and scores hang on the number of the sequence
            self.assertTrue(np.array_equal(kept.reshape(BATCH, -1, *kept.shape[1:])[b, : len(own)], own))
            whole, whole_lse, whole_selection = mk.moba_forward(c.q[b : b + 1], k, v, BLOCK, TOPK, **options)
            mine = slice(b * rows, (b + 1) * rows)
            self.assertTrue(np.array_equal(selection[:, mine], whole_selection))
            np.testing.assert_allclose(out[b], whole[0], atol=2e-6)
            np.testing.assert_allclose(lse[:, mine], whole_lse, atol=1e-5)
        route_options = {n: v for n, v in options.items() if n in ("scorer", "scorer_seed", "keep_first")}
        again, scores = mk.decode_route(
            c.q, kept, c.lengths, KEYS, BLOCK, TOPK, return_scores=True, **route_options
        )
        self.assertTrue(np.array_equal(again, selection))
        self.assertTrue(np.array_equal(np.isneginf(scores), selection < 0))
        apart = mk.decode_attention(c.q, c.k, c.v, selection, c.lengths, BLOCK, TOPK, scale=options.get("scale"))
        self.assertTrue(np.array_equal(apart[0], out) and np.array_equal(apart[1], lse))
        self.assertEqual(kept.shape[0] % blocks, 0)

    def test_pages_change_no_bit(self):
        for page_size, dim_v in ((1, DIM), (7, DIM), (16, OTHER_DIM), (200, DIM)):
            c = Case(dim_v=dim_v)
            plain = mk.moba_decode(c.q, c.k, c.v, c.centroids, c.lengths, BLOCK, TOPK, appended=KEYS)
            k, table = paged(c.k, LENGTHS, page_size, np.random.default_rng(1), np.nan)
            v, _ = paged(c.v, LENGTHS, page_size, np.random.default_rng(1), np.nan)
            blocks = -(-table.shape[1] * page_size // BLOCK)
            kept = np.full((BATCH * blocks, HEADS_K, DIM), np.nan, np.float32)
            out, lse, selection = mk.moba_decode(
                c.q, k, v, kept, c.lengths, BLOCK, TOPK, appended=KEYS, block_table=table
            )
            for got, want in zip((out, lse, selection), plain):
                self.assertTrue(np.array_equal(got, want))
            alone = np.full_like(kept, np.nan)
            self.assertIs(mk.append_centroids(alone, k, c.lengths, BLOCK, KEYS, block_table=table), alone)
            self.assertTrue(np.array_equal(alone, kept, equal_nan=True))

    def test_token_by_token(self):
        c = Case()
        kept, lengths = np.full_like(c.centroids, np.nan), np.zeros(BATCH, np.int32)
        for length in range(1, 68):
            lengths[:] = length
            mk.append_centroids(kept, c.k, lengths, BLOCK)
            want = mk.compute_centroids(c.k[:, :length], BLOCK).reshape(BATCH, -1, HEADS_K, DIM)
            got = kept.reshape(BATCH, -1, HEADS_K, DIM)
            self.assertTrue(np.array_equal(got[:, : want.shape[1]], want))
            self.assertTrue(np.isnan(got[:, want.shape[1] :]).all())

    def test_nothing_in_a_batch_of_nothing(self):
        c = Case()
        out, lse, selection = mk.moba_decode(
            c.q[:0], c.k[:0], c.v[:0], c.centroids[:0], c.lengths[:0], BLOCK, TOPK
        )
        self.assertEqual((out.shape, lse.shape, selection.shape), ((0, 1, HEADS, DIM), (HEADS, 0), (HEADS, 0, TOPK - 1)))


APPEND = ("append_centroids", ("centroids", "k", "lengths"), {"block_size": BLOCK})
ROUTE = ("decode_route", ("q", "centroids", "lengths"), {"keys": KEYS, "block_size": BLOCK, "topk": TOPK})
ATTEND = ("decode_attention", ("q", "k", "v", "selection", "lengths"), {"block_size": BLOCK, "topk": TOPK})
STEP = ("moba_decode", ("q", "k", "v", "centroids", "lengths"), {"block_size": BLOCK, "topk": TOPK})
ALL = (APPEND, ROUTE, ATTEND, STEP)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def table_of(rows, columns, value=0, dtype=np.int32):
    return lambda c: np.full((rows, columns), value, dtype)


# function, what is changed (a value, or a function of the Case), the kind of error and what it must name.
ROWS = [
    *((f, {name: (lambda n: lambda c: getattr(c, n)[None, None])(name)}, ValueError, (name, "shape")) for f in ALL for name in f[1]),
    *((f, {name: (lambda n: lambda c: getattr(c, n).astype(np.float64))(name)}, TypeError, (name, "dtype float64")) for f in ALL for name in f[1]),
    *((f, {name: lambda c: [1, 2]}, TypeError, (name, "is a list")) for f in ALL for name in f[1]),
    *((f, {"block_size": 0}, ValueError, ("block_size = 0", "[1, ", "1")) for f in ALL),
    *((f, {"block_size": 16.0}, TypeError, ("block_size", "an integer", "16")) for f in ALL),
    *((f, {"threads": -1}, ValueError, ("threads = -1", "0")) for f in ALL),
    *((f, {"lengths": lambda c: c.lengths.astype(np.int64)}, TypeError, ("lengths", "int32")) for f in ALL),
    *((f, {"lengths": lambda c: np.array([150, 151], np.int32)}, ValueError, ("lengths[1] = 151", "[0, 150]", "150")) for f in ALL),
    *((f, {"lengths": lambda c: np.array([-1, 0], np.int32)}, ValueError, ("lengths[0] = -1", "0")) for f in ALL),
    *((f, {"lengths": lambda c: np.zeros(3, np.int32)}, ValueError, ("lengths", "(3,)", "(2,)")) for f in ALL),
    *((f, {"lengths": lambda c: np.zeros(4, np.int32)[::2]}, ValueError, ("lengths", "contiguous")) for f in ALL),
    *((f, {"topk": 0}, ValueError, ("topk = 0", "1")) for f in (ROUTE, ATTEND, STEP)),
    *((f, {"scorer": "medan"}, ValueError, ("scorer", "mean")) for f in (APPEND, ROUTE, STEP)),
    *((f, {"scorer": "submean-5", "centroids": lambda c: np.zeros((100, 1, HEADS_K, DIM), np.float32)}, ValueError, ("sub_blocks = 5", "divide", "4")) for f in (APPEND, ROUTE, STEP)),
    *((f, {"q": lambda c: c.q[0]}, ValueError, ("q has shape (1, 4, 32)", "q[None] of shape (1, 1, 4, 32)")) for f in (ROUTE, ATTEND, STEP)),
    *((f, {"scorer": "quest"}, ValueError, ("centroids", "shape")) for f in (APPEND, ROUTE, STEP)),
    *((f, {"scorer_seed": -1}, ValueError, ("scorer_seed = -1", "0")) for f in (ROUTE, STEP)),
    *((f, {"keep_first": 1}, TypeError, ("keep_first", "True")) for f in (ROUTE, STEP)),
    *((f, {"scale": -1.0}, ValueError, ("scale = -1.0",)) for f in (ATTEND, STEP)),
    *((f, {"scale": "1"}, TypeError, ("scale", "a number or None")) for f in (ATTEND, STEP)),
    *((f, {"appended": -1}, ValueError, ("appended = -1", "0")) for f in (APPEND, STEP)),
    *((f, {"appended": 1.5}, TypeError, ("appended", "an integer")) for f in (APPEND, STEP)),
    *((f, {"centroids": lambda c: read_only(c.centroids)}, TypeError, ("centroids", "read-only", "copy")) for f in (APPEND, STEP)),
    *((f, {"centroids": lambda c: c.centroids[:-1]}, ValueError, ("centroids", "(20, 2, 32)")) for f in (APPEND, ROUTE, STEP)),
    *((f, {"block_table": table_of(BATCH, 10, 5)}, ValueError, ("block_table[0][0] = 5", "[0, 1]", "1")) for f in (ATTEND,)),
    *((f, {"block_table": table_of(BATCH, 10, dtype=np.int64)}, TypeError, ("block_table", "int32")) for f in (APPEND, ATTEND, STEP)),
    *((f, {"block_table": table_of(3, 10)}, ValueError, ("(3, 10)", "lengths")) for f in (APPEND,)),
    *((f, {"block_table": lambda c: np.zeros(10, np.int32)}, ValueError, ("block_table", "shape (10,)")) for f in (APPEND, ATTEND, STEP)),
    *((f, {"block_table": lambda c: np.zeros((20, BATCH), np.int32).T}, ValueError, ("block_table", "contiguous")) for f in (APPEND,)),
    (APPEND, {"centred": 1}, TypeError, ("centred", "True")),
    (STEP, {"centred_centroids": 1}, TypeError, ("centred", "True")),
    (APPEND, {"centred": True, "scorer": "max", "centroids": lambda c: mk.compute_centroids(c.k, BLOCK, scorer="max")}, ValueError, ("centred", "max")),
    (ROUTE, {"keys": -1}, ValueError, ("keys = -1", "0")),
    (ROUTE, {"keys": 200}, ValueError, ("centroids", "shape")),
    (ROUTE, {"return_scores": 1}, TypeError, ("return_scores", "True")),
    (STEP, {"v": lambda c: c.v[:, :-1]}, ValueError, ("v", "shape", "(2, 150, 2, 32)")),
    (STEP, {"q": lambda c: c.q[..., :8]}, ValueError, ("head_dim",)),
    *((f, {"v": lambda c: c.v[..., :0]}, ValueError, ("head_dim of v = 0", "1")) for f in (ATTEND, STEP)),
    *((f, {"v": lambda c: c.v[:, :, :1, :8]}, ValueError, ("v has shape (2, 150, 1, 8)", "head_dim_v", "(2, 150, 2, 8)")) for f in (ATTEND, STEP)),
    (ATTEND, {"v": lambda c: c.v[:1, :, :, :8], "block_table": table_of(BATCH, 10)}, ValueError, ("v has shape (1, 150, 2, 8)", "pages", "(2, 150, 2, 8)")),
    (STEP, {"q": lambda c: c.q[:, :, :3]}, ValueError, ("heads_q = 3", "heads_k = 2")),
    (STEP, {"k": lambda c: c.k[:, ::-1]}, ValueError, ("k", "negative")),
    (ATTEND, {"selection": lambda c: c.selection[..., :2]}, ValueError, ("selection", "(4, 2, 3)")),
]  # fmt: skip


class Arguments(unittest.TestCase):
    def arguments(self, function, changes):
        c = Case()
        values = {name: getattr(c, name) for name in function[1]}
        values.update(function[2])
        values.update({name: x(c) if callable(x) else x for name, x in changes.items()})
        return values

    def test_every_argument_is_taken_as_it_is(self):
        for function in ALL:
            with self.subTest(function[0]):
                getattr(mk, function[0])(**self.arguments(function, {}))

    def test_every_argument_is_checked(self):
        for function, changes, kind, texts in ROWS:
            with self.subTest(f"{function[0]}: {', '.join(changes)}", texts=texts):
                with self.assertRaises(kind) as raised:
                    getattr(mk, function[0])(**self.arguments(function, changes))
                self.assertIsInstance(raised.exception, mk.Error)
                for text in (*texts, "nearest valid choice"):
                    self.assertIn(text, str(raised.exception))
                self.assertNotIn("\n", str(raised.exception))


class Torch:
    """The tests, for a device and the dtype its kernels take."""

    device, dtype, tolerance = "cpu", None, 2e-6

    def tokens(self, tokens, seed=SEED):
        g = torch.Generator().manual_seed(seed)
        shapes = ((BATCH, tokens, heads, DIM) for heads in (HEADS, HEADS_K, HEADS_K))
        return [torch.randn(shape, generator=g).to(self.device, self.dtype) for shape in shapes]

    def cache(self, page_size=None, dim_v=DIM, **options):
        if page_size is None:
            widths = {} if dim_v == DIM else {"head_dim_v": dim_v}
            return mk.MobaCache.empty(
                BATCH, KEYS, HEADS_K, DIM, BLOCK, TOPK, dtype=self.dtype, device=self.device, **widths, **options
            )
        columns = -(-KEYS // page_size)
        table = torch.randperm(BATCH * columns, generator=torch.Generator().manual_seed(3)).int()
        shape = (BATCH * columns, page_size, HEADS_K)
        k, v = (torch.full((*shape, d), torch.nan, dtype=self.dtype, device=self.device) for d in (DIM, dim_v))
        return mk.MobaCache(k, v, BLOCK, TOPK, block_table=table.view(BATCH, -1).to(self.device), **options)

    def test_a_cache_generates_what_whole_sequences_do(self):
        q, k, whole_v = self.tokens(120)
        for page_size, dim_v in ((None, DIM), (7, DIM), (None, OTHER_DIM), (7, 2 * DIM)):
            v = torch.cat([whole_v, whole_v.flip(1)], dim=-1)[..., :dim_v]
            for options in (*OPTIONS, {"fp32_centroids": True}) if dim_v == DIM else ({},):
                with self.subTest(page_size=page_size, dim_v=dim_v, **options):
                    cache = self.cache(page_size, dim_v, **options)
                    cache.append(k[:, :100], v[:, :100])
                    for t in range(100, 120):
                        now = slice(t, t + 1)
                        out = cache.step(q[:, now], k[:, now], v[:, now])
                        want = mk.moba_attention(q[:, now], k[:, : t + 1], v[:, : t + 1], BLOCK, TOPK, **options)
                        self.assertLess((out - want).abs().max().item(), 4 * self.tolerance, t)
                        self.assertTrue(torch.equal(cache.attend(q[:, now]), out))

    def test_a_cache_of_tensors_that_are_there(self):
        q, k, v = self.tokens(KEYS)
        lengths = torch.tensor(LENGTHS, dtype=torch.int32, device=self.device)
        cache = mk.MobaCache(k, v, BLOCK, TOPK, lengths=lengths)
        out = cache.attend(q[:, -1:])
        for b, length in enumerate(LENGTHS):
            one = slice(b, b + 1)
            want = mk.moba_attention(q[one, -1:], k[one, :length], v[one, :length], BLOCK, TOPK)
            self.assertLess((out[one] - want).abs().max().item(), 4 * self.tolerance)
        lengths -= 20  # the caller's own bookkeeping
        cache.update(BLOCK)
        cache.append(k[:, :20], v[:, :20])
        self.assertEqual(lengths.tolist(), list(LENGTHS))
        with self.assertRaisesRegex(mk.Error, "tokens = 1: must be at most 0"):
            cache.append(k[:, :1], v[:, :1])
        cache.reset()
        cache.append(k[:, :1], v[:, :1])
        self.assertEqual(lengths.tolist(), [1, 1])

    def test_what_a_cache_refuses(self):
        _, k, v = self.tokens(KEYS)
        lengths = torch.zeros(BATCH, dtype=torch.int32, device=self.device)
        make = lambda *args, **kw: lambda: mk.MobaCache(*args, **kw)  # noqa: E731
        cases = [
            (make(k, v, BLOCK, TOPK, scorre="mean"), "scorre is no argument"),
            (make(k, v, 0, TOPK), "block_size = 0"),
            (make(k, v, BLOCK, 0), "topk = 0"),
            (make(k, v[:, :-1], BLOCK, TOPK), "v has shape"),
            (make(k[0], v[0], BLOCK, TOPK), "k has shape"),
            (make(k.tolist(), v, BLOCK, TOPK), "k is a list"),
            (make(k, v, BLOCK, TOPK, lengths=lengths.long()), "lengths has dtype torch.int64"),
            (make(k, v, BLOCK, TOPK, lengths=lengths[:1]), "lengths has shape"),
            (make(k, v, BLOCK, TOPK, lengths=lengths + KEYS + 1), "lengths = .151, 151.: must be in .0, 150."),
            (make(k, v, BLOCK, TOPK, scorer="best"), "scorer = 'best'"),
            (make(k, v, BLOCK, TOPK, keep_first=2), "keep_first = 2"),
            (make(k, v, BLOCK, TOPK, scale=0.0), "scale = 0.0"),
            (make(k, v, BLOCK, TOPK, threads=-1), "threads = -1"),
            (make(k, v, BLOCK, TOPK, fp32_centroids=True, centred_centroids=True), "fp32_centroids, centred_centroids"),
            (make(k.clone().requires_grad_(), v, BLOCK, TOPK), "k requires grad"),
            (lambda: mk.MobaCache.empty(0, 10, 1, 8, BLOCK, TOPK), "batch = 0"),
            (lambda: mk.MobaCache.empty(1, 10, 1, 8, BLOCK, TOPK, head_dim_v=0), "head_dim_v = 0"),
            (lambda: self.cache(dim_v=OTHER_DIM).append(k, v), r"v has shape .*: must be .*\(2, 150, 2, 24\)"),
            (lambda: self.cache().append(k[:1], v[:1]), "k has shape"),
            (lambda: self.cache().append(k, v.double()), "v has dtype torch.float64"),
            (lambda: self.cache().append(k.clone().requires_grad_(), v), "k requires grad"),
        ]
        for call, text in cases:
            with self.subTest(text), self.assertRaisesRegex(mk.Error, text):
                call()

    def test_a_refused_step_leaves_the_sequences_as_they_were(self):
        q, k, v = self.tokens(120)
        now = slice(100, 101)
        for page_size in (None, 7):
            cache, other = self.cache(page_size), self.cache(page_size)
            for each in (cache, other):
                each.append(k[:, :100], v[:, :100])
            for wrong, text in (
                (q[:, now].clone().requires_grad_(), "q requires grad"),
                (q[:, now].double(), "q"),
                (q[:, now, :, :-8], "q"),
                (q[:1, now], "q"),
            ):
                with self.subTest(text, page_size=page_size), self.assertRaisesRegex(mk.Error, text):
                    cache.step(wrong, k[:, now], v[:, now])
                self.assertEqual(cache.lengths.tolist(), [100] * BATCH)
            for t in range(100, 120):
                now = slice(t, t + 1)
                step = (q[:, now], k[:, now], v[:, now])
                self.assertTrue(torch.equal(cache.step(*step), other.step(*step)), t)

    def test_pages_that_are_none_are_not_written_to(self):
        _, k, v = self.tokens(12)
        pages = [torch.zeros(4, 8, HEADS_K, DIM, dtype=self.dtype, device=self.device) for _ in range(2)]
        table = torch.tensor([[0, -1], [2, 3]], dtype=torch.int32, device=self.device)
        if self.device != "cpu":
            self.skipTest("an assertion on the device, which ends the process's use of it")
        for wrong, text in ((-1, r"block_table\[0\]\[1\] = -1: must be in \[0, 3\]"), (4, r"= 4: must be in")):
            cache = mk.MobaCache(*pages, BLOCK, TOPK, block_table=table)
            cache.append(k[:, :8], v[:, :8])
            table[0, 1] = wrong
            with self.subTest(wrong), self.assertRaisesRegex(mk.Error, text):
                cache.append(k[:, 8:], v[:, 8:])
            self.assertEqual(cache.lengths.tolist(), [8, 8])
            self.assertFalse(pages[0][3].any() or pages[1][3].any())  # the other sequence's
            table[0, 1] = 1
            cache.append(k[:, 8:], v[:, 8:])
            self.assertTrue(torch.equal(pages[0][1, :4], k[0, 8:]) and torch.equal(pages[0][3, :4], k[1, 8:]))
            for page in pages:
                page.zero_()

    def test_the_operator(self):
        q, k, v = self.tokens(100)
        cache = self.cache()
        cache.append(k, v)
        tensors = (q[:, -1:], cache.k, cache.v, cache.centroids, cache.lengths, None)
        options = {"block_size": BLOCK, "topk": TOPK, "appended": 1, "centred_centroids": False, "scorer": "mean"}
        options |= {"scorer_seed": 0, "keep_first": False, "scale": None, "threads": 0}
        torch.library.opcheck(torch.ops.mobalab.moba_decode.default, tensors, options)
        narrow = (*tensors[:2], cache.v[..., :OTHER_DIM], *tensors[3:])
        torch.library.opcheck(torch.ops.mobalab.moba_decode.default, narrow, options)
        with self.assertRaisesRegex(mk.Error, "q requires grad"):
            torch.ops.mobalab.moba_decode(tensors[0].clone().requires_grad_(), *tensors[1:], **options)
        torch._dynamo.reset()
        attend = torch.compile(lambda q: cache.attend(q) + 1, fullgraph=True, backend="aot_eager")
        self.assertTrue(torch.equal(attend(q[:, -1:]), cache.attend(q[:, -1:]) + 1))


@unittest.skipIf(NO_TORCH, "needs torch 2.4")
class TorchOnCpu(Torch, unittest.TestCase):
    def setUp(self):
        self.dtype = torch.float32


@unittest.skipIf(NO_TORCH or not torch.cuda.is_available(), "needs torch with CUDA")
@unittest.skipIf(mk.backend_available("cuda") is not None, "needs the CUDA backend")
class TorchOnGpu(Torch, unittest.TestCase):
    device, tolerance = "cuda", 8e-3

    def setUp(self):
        self.dtype = torch.bfloat16

    def test_a_graph_replays_steps_that_grow(self):
        q, k, v = self.tokens(120)
        eager, replayed = self.cache(), self.cache()
        for cache in (eager, replayed):
            cache.append(k[:, :60], v[:, :60])
        now = [tensor[:, :1].clone() for tensor in (q, k, v)]
        side = torch.cuda.Stream()  # what torch asks of a warm-up
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            replayed.step(*now)
            replayed.lengths -= 1
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = replayed.step(*now)
        for t in range(60, 120):
            for place, tensor in zip(now, (q, k, v)):
                place.copy_(tensor[:, t : t + 1])
            graph.replay()
            want = eager.step(*(tensor[:, t : t + 1] for tensor in (q, k, v)))
            self.assertTrue(torch.equal(out, want), t)
            self.assertTrue(torch.equal(replayed.selection, eager.selection), t)
        self.assertEqual(replayed.lengths.tolist(), [120] * BATCH)
        filled = -(-120 // BLOCK)
        for kept in (replayed, eager):
            self.assertTrue(
                torch.equal(
                    kept.centroids.view(BATCH, -1, HEADS_K, DIM)[:, :filled],
                    mk.compute_centroids(k[:, :120], BLOCK).view(BATCH, -1, HEADS_K, DIM),
                )
            )


if __name__ == "__main__":
    unittest.main()
