"""The drop-in for the official package flash_moba: names, argument order, return values, and what is refused.

Usage: python_flash_moba_test.py LIBRARY; skipped without torch 2.4. Everything runs on the CPU, and on the GPU where
there is one.
"""

import inspect
import os
import sys
import unittest
from pathlib import Path

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "kernels" / "python"))

import mobalab_kernels as mk  # noqa: E402

try:
    import torch
except ImportError:
    torch = None
NO_OPERATORS = torch is None or not hasattr(torch.library, "register_autograd")
if not NO_OPERATORS:
    import mobalab_kernels.flash_moba as flash_moba

SEED = 62
BLOCK, TOPK = 16, 4
QUERIES, KEYS = [0, 20, 20, 90], [0, 37, 50, 120]  # the last tokens of three sequences, one of them without queries
LONGEST = (70, 70)


class DropIn:
    device, dtype = "cpu", None

    def tensors(self, cu_q=QUERIES, cu_k=KEYS, heads_k=2, head_dim=32):
        g = torch.Generator().manual_seed(SEED)
        return [
            torch.randn(n, heads, head_dim, generator=g).to(self.device, self.dtype)
            for n, heads in ((cu_q[-1], 4), (cu_k[-1], heads_k), (cu_k[-1], heads_k))
        ]

    def packed(self, *boundaries):
        return [torch.tensor(cu, dtype=torch.int32, device=self.device) for cu in boundaries or (QUERIES, KEYS)]

    def gradients(self, out, leaves):
        d_out = torch.linspace(-1, 1, out.numel(), device=self.device).reshape(out.shape).to(out.dtype)
        return torch.autograd.grad(out, leaves, d_out)

    def test_signatures_are_the_official_ones(self):
        common = ["cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"]
        lists = ["moba_col_offsets", "moba_col_nnz", "moba_row_indices"]
        for function, names in (
            (flash_moba.flash_moba_varlen_func, ["q", "k", "v", *common, "moba_chunk_size", "moba_topk", "causal"]),
            (flash_moba.flash_topk_varlen_func, ["q", "k", *common, "moba_topk", "moba_chunk_size", "causal"]),
            (
                flash_moba.flash_moba_attn_varlen_func,
                [
                    "q",
                    "k",
                    "v",
                    *common,
                    *lists,
                    "lg_block_m",
                    "lg_block_n",
                    "dropout_p",
                    "softmax_scale",
                    "causal",
                    "softcap",
                    "alibi_slopes",
                    "deterministic",
                    "return_attn_probs",
                ],
            ),
        ):
            self.assertEqual(list(inspect.signature(function).parameters), names)

    def test_attention_is_moba_attention(self):
        for causal in (True, False):
            with self.subTest(causal=causal):
                self.check_attention(causal)

    def check_attention(self, causal):
        q, k, v = (x.requires_grad_() for x in self.tensors())
        cu_q, cu_k = self.packed()
        out = flash_moba.flash_moba_varlen_func(q, k, v, cu_q, cu_k, *LONGEST, BLOCK, TOPK, causal=causal)
        want = mk.moba_attention(q, k, v, BLOCK, TOPK, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, causal=causal)
        for got, right in zip((out, *self.gradients(out, (q, k, v))), (want, *self.gradients(want, (q, k, v)))):
            limit = 1e-6 if self.device == "cpu" else 2e-2
            self.assertLess(((got - right).float().norm() / right.float().norm()).item(), limit)
        named = flash_moba.flash_moba_varlen_func(
            q=q,
            k=k,
            v=v,
            cu_seqlens_q=cu_q,
            cu_seqlens_k=cu_k,
            max_seqlen_q=LONGEST[0],
            max_seqlen_k=LONGEST[1],
            moba_chunk_size=BLOCK,
            moba_topk=TOPK,
            **({} if causal else {"causal": False}),
        )
        self.assertTrue(torch.equal(named, out))

    def lists_by_hand(self, selection, cu_q, cu_k, columns, causal):
        """{(sequence, head, block): [rows]} of every block, own blocks included if causal."""
        lists = {}
        for b, (first, end) in enumerate(zip(cu_q, cu_q[1:])):
            for head in range(selection.shape[0]):
                for block in range(columns):
                    lists[b, head, block] = []
                for row in range(end - first):
                    position = row + cu_k[b + 1] - cu_k[b] - (end - first)
                    own = [position // BLOCK] if causal and position >= 0 else []
                    for block in own + [int(x) for x in selection[head, first + row] if x >= 0]:
                        lists[b, head, block].append(row)
        return lists

    def test_column_lists_are_those_of_the_selection(self):
        for causal in (True, False):
            with self.subTest(causal=causal):
                self.check_column_lists(causal)

    def check_column_lists(self, causal):
        q, k, _ = self.tensors()
        cu_q, cu_k = self.packed()
        offsets, counts, indices = flash_moba.flash_topk_varlen_func(
            q, k, cu_q, cu_k, *LONGEST, TOPK, BLOCK, **({"causal": True} if causal else {})
        )
        self.assertEqual((offsets.dtype, counts.dtype, indices.dtype), (torch.int64, torch.int32, torch.int32))
        self.assertEqual((tuple(offsets.shape), tuple(counts.shape)), ((3, 4, 5), (3, 4, 5)))
        self.assertEqual(indices.shape[0], 90 * 4 * TOPK)
        selection = mk.route(q, k, BLOCK, TOPK, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, causal=causal).cpu()
        indices = indices.cpu()
        for (b, head, block), rows in self.lists_by_hand(selection, QUERIES, KEYS, 5, causal).items():
            first, count = int(offsets[b, head, block]), int(counts[b, head, block])
            self.assertEqual(indices[first : first + count].tolist(), rows)
        self.assertTrue((indices[int(counts.sum()) :] == -1).all())

    def test_attention_over_column_lists(self):
        for causal in (True, False):
            with self.subTest(causal=causal):
                self.check_attention_over_column_lists(causal)

    def check_attention_over_column_lists(self, causal):
        q, k, v = (x.requires_grad_() for x in self.tensors())
        arguments = (*self.packed(), *LONGEST)
        lists = flash_moba.flash_topk_varlen_func(q, k, *arguments, TOPK, BLOCK, causal=causal)
        out, lse, nothing = flash_moba.flash_moba_attn_varlen_func(
            q, k, v, *arguments, *lists, 128, BLOCK, causal=causal, return_attn_probs=True
        )
        self.assertEqual((tuple(lse.shape), lse.dtype, nothing.numel()), ((4, 90), torch.float32, 0))
        whole = flash_moba.flash_moba_varlen_func(q, k, v, *arguments, BLOCK, TOPK, causal)
        for got, want in zip((out, *self.gradients(out, (q, k, v))), (whole, *self.gradients(whole, (q, k, v)))):
            self.assertTrue(torch.equal(got, want))
        scaled = flash_moba.flash_moba_attn_varlen_func(
            q, k, v, *arguments, *lists, 128, BLOCK, 0.0, 0.3, causal, deterministic=True
        )
        cu_q, cu_k = arguments[:2]
        sequences = {"cu_seqlens_q": cu_q, "cu_seqlens_k": cu_k}
        want = mk.moba_attention(q, k, v, BLOCK, TOPK, **sequences, scale=0.3, causal=causal)
        self.assertLess((scaled - want).abs().max().item(), 1e-5 if self.device == "cpu" else 3e-2)

    def test_lists_that_name_nothing(self):
        q, k, v = self.tensors()
        shape = (3, 4, 5)
        lists = (
            torch.zeros(shape, dtype=torch.int64, device=self.device),
            torch.zeros(shape, dtype=torch.int32, device=self.device),
            torch.full((8,), -1, dtype=torch.int32, device=self.device),
        )
        out, lse, _ = flash_moba.flash_moba_attn_varlen_func(
            q, k, v, *self.packed(), *LONGEST, *lists, 128, BLOCK, causal=False, return_attn_probs=True
        )
        self.assertTrue((out == 0).all() and (lse == torch.inf).all())

    def test_more_queries_than_keys(self):
        cu_q, cu_k = [0, 40, 60], [0, 30, 60]
        q, k, v = self.tensors(cu_q, cu_k)
        arguments = (*self.packed(cu_q, cu_k), 40, 30)
        lists = flash_moba.flash_topk_varlen_func(q, k, *arguments, 2, BLOCK, causal=True)
        out = flash_moba.flash_moba_attn_varlen_func(q, k, v, *arguments, *lists, 128, BLOCK, causal=True)
        self.assertTrue(torch.equal(out, flash_moba.flash_moba_varlen_func(q, k, v, *arguments, BLOCK, 2)))
        self.assertTrue((out[:10] == 0).all() and (out[10:] != 0).any(dim=(1, 2)).all())

    def test_any_head_dim(self):
        leaves = [x.requires_grad_() for x in self.tensors(head_dim=59)]
        arguments = (*self.packed(), *LONGEST)
        out = flash_moba.flash_moba_varlen_func(*leaves, *arguments, BLOCK, TOPK)
        lists = flash_moba.flash_topk_varlen_func(*leaves[:2], *arguments, TOPK, BLOCK, True)
        again = flash_moba.flash_moba_attn_varlen_func(*leaves, *arguments, *lists, 128, BLOCK, causal=True)
        wide = [torch.nn.functional.pad(x.detach().cpu(), (0, 5)).requires_grad_() for x in leaves]
        cu_q, cu_k = (cu.cpu() for cu in arguments[:2])
        want = mk.moba_attention(*wide, BLOCK, TOPK, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, scale=59**-0.5)[..., :59]
        limit = 1e-5 if self.device == "cpu" else 2e-2
        d_out = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        wanted = [want, *(x[..., :59] for x in torch.autograd.grad(want, wide, d_out.to(self.dtype)))]
        for result in (out, again):
            gradients = torch.autograd.grad(result, leaves, d_out.to(self.device, self.dtype))
            for got, right in zip((result, *gradients), wanted):
                self.assertLess(((got.cpu() - right).float().norm() / right.float().norm()).item(), limit)

    def test_one_graph(self):
        leaves = [x.requires_grad_() for x in self.tensors()]
        arguments = (*self.packed(), *LONGEST)

        def program(q, k, v):
            lists = flash_moba.flash_topk_varlen_func(q, k, *arguments, TOPK, BLOCK, True)
            return flash_moba.flash_moba_varlen_func(q, k, v, *arguments, BLOCK, TOPK), *lists

        torch._dynamo.reset()
        compiled = torch.compile(program, fullgraph=True, backend="aot_eager")(*leaves)
        for got, want in zip(compiled, program(*leaves)):
            self.assertTrue(torch.equal(got, want))

    def test_what_is_refused(self):
        q, k, v = self.tensors()
        cu_q, cu_k = self.packed()
        good = {
            "q": q,
            "k": k,
            "v": v,
            "cu_seqlens_q": cu_q,
            "cu_seqlens_k": cu_k,
            "max_seqlen_q": 70,
            "max_seqlen_k": 70,
        }
        moba = {**good, "moba_chunk_size": BLOCK, "moba_topk": TOPK}
        names = ("moba_col_offsets", "moba_col_nnz", "moba_row_indices")
        lists = dict(zip(names, flash_moba.flash_topk_varlen_func(q, k, cu_q, cu_k, 70, 70, TOPK, BLOCK, True)))
        attend = {**good, **lists, "lg_block_n": BLOCK, "causal": True}
        without_own = lists["moba_col_nnz"].clone()
        without_own[0, 0, 2] = 0  # where the last query of sequence 0 stands
        for function, arguments, kind, text in (
            ("flash_moba_varlen_func", {**moba, "causal": 1}, TypeError, "causal = 1"),
            ("flash_moba_varlen_func", {**moba, "moba_topk": 0}, ValueError, "moba_topk = 0"),
            ("flash_moba_varlen_func", {**moba, "moba_chunk_size": 1.0}, TypeError, "moba_chunk_size = 1.0"),
            ("flash_moba_varlen_func", {**moba, "max_seqlen_q": None}, TypeError, "max_seqlen_q = None"),
            ("flash_moba_varlen_func", {**moba, "q": [1]}, TypeError, "q is a list"),
            (
                "flash_moba_varlen_func",
                {**moba, "cu_seqlens_q": cu_q.long()},
                TypeError,
                "cu_seqlens_q has dtype int64",
            ),
            ("flash_moba_varlen_func", {**moba, "k": k.double()}, TypeError, "k has dtype float64"),
            ("flash_moba_attn_varlen_func", {**attend, "causal": None}, TypeError, "causal = None"),
            ("flash_moba_attn_varlen_func", {**attend, "lg_block_n": 0}, ValueError, "lg_block_n = 0"),
            ("flash_moba_attn_varlen_func", {**attend, "dropout_p": 0.1}, ValueError, "dropout_p = 0.1"),
            ("flash_moba_attn_varlen_func", {**attend, "softcap": 30.0}, ValueError, "softcap = 30.0"),
            ("flash_moba_attn_varlen_func", {**attend, "alibi_slopes": q}, ValueError, "alibi_slopes"),
            ("flash_moba_attn_varlen_func", {**attend, "moba_col_nnz": without_own}, ValueError, "their own blocks"),
            (
                "flash_moba_attn_varlen_func",
                {**attend, "moba_col_nnz": lists["moba_col_nnz"] + 2000},
                ValueError,
                "moba_col_nnz point outside",
            ),
            (
                "flash_moba_attn_varlen_func",
                {**attend, "moba_col_offsets": lists["moba_col_offsets"] + 2000},
                ValueError,
                "moba_col_offsets point outside",
            ),
            (
                "flash_moba_attn_varlen_func",
                {**attend, "moba_row_indices": lists["moba_row_indices"] + 70},
                ValueError,
                "moba_row_indices point outside",
            ),
            (
                "flash_moba_attn_varlen_func",
                {**attend, "moba_row_indices": lists["moba_row_indices"].float()},
                TypeError,
                "moba_row_indices has dtype",
            ),
            (
                "flash_moba_attn_varlen_func",
                {**attend, "moba_col_nnz": lists["moba_col_nnz"][:, :2]},
                ValueError,
                "moba_col_nnz has shape",
            ),
            ("flash_moba_varlen_func", {**moba, "k": k[..., :27]}, ValueError, "k has shape"),
            *(
                ("flash_moba_attn_varlen_func", {**attend, **changed}, kind, text)
                for changed, kind, text in (
                    ({"cu_seqlens_q": self.packed([0, 20, 10, 90])[0]}, ValueError, r"cu_seqlens_q\[2\] = 10: must be at least"),
                    ({"cu_seqlens_q": self.packed([])[0]}, ValueError, r"cu_seqlens_k has shape .* cu_seqlens_q \(0,\)"),
                    ({"cu_seqlens_k": self.packed([0, 37, 50, 121])[0]}, ValueError, r"cu_seqlens_k\[3\] = 121"),
                    ({"q": q[None]}, ValueError, "q has shape"),
                    ({"max_seqlen_q": 69}, ValueError, "max_seqlen_q = 69: must be at least the longest sequence"),
                    ({"softmax_scale": "x"}, TypeError, "softmax_scale = 'x'"),
                    ({"softmax_scale": 0.0}, ValueError, "softmax_scale = 0.0"),
                    ({"return_attn_probs": "no"}, TypeError, "return_attn_probs = 'no'"),
                )
            ),
        ):
            with self.subTest(text), self.assertRaisesRegex(kind, text) as raised:
                getattr(flash_moba, function)(**arguments)
            self.assertIsInstance(raised.exception, mk.Error)


@unittest.skipIf(NO_OPERATORS, "needs torch 2.4")
class OnCpu(DropIn, unittest.TestCase):
    def setUp(self):
        self.dtype = torch.float32


@unittest.skipIf(
    NO_OPERATORS or not torch.cuda.is_available() or mk.backend_available("cuda") is not None,
    "needs torch with CUDA and the CUDA backend",
)
class OnCuda(DropIn, unittest.TestCase):
    device = "cuda"

    def setUp(self):
        self.dtype = torch.bfloat16


if __name__ == "__main__":
    unittest.main()
