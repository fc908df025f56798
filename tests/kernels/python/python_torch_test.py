"""The Python module under torch: autocast, gradients, layouts without copies, streams and devices.

Usage: python_torch_test.py LIBRARY; skipped without torch. Everything runs on the CPU, and on the GPU where there is
one.
"""

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

SEED = 60
BLOCK, TOPK = 16, 3


def tensors(device, dtype, batch=2, seq=120, heads_q=4, heads_k=2, dim=32):
    g = torch.Generator().manual_seed(SEED)
    return [torch.randn(batch, seq, heads, dim, generator=g).to(device, dtype) for heads in (heads_q, heads_k, heads_k)]


class Module:
    """The tests, for a device and the dtype its kernels take best."""

    device, dtype = "cpu", None

    def inputs(self, **shape):
        return tensors(self.device, self.dtype, **shape)

    def leaves(self, **shape):
        return [x.requires_grad_() for x in self.inputs(**shape)]

    def assert_same(self, got, want):
        """The same bits; on the GPU, where sums are cut by what else is in the call, almost."""
        if self.device == "cpu":
            self.assertTrue(torch.equal(got, want))
        self.assertLess((got - want).float().norm().item(), 1e-2 * want.float().norm().item())

    def test_autocast_casts_as_torchs_attention_does(self):
        low = torch.bfloat16
        q, k, v = (x.float().requires_grad_() for x in tensors(self.device, low))
        weight = torch.randn(2, 32, 3, device=self.device, generator=torch.Generator(self.device).manual_seed(SEED))
        for conv in (None, weight.requires_grad_()):
            inputs = [q, k, v] + ([conv] if conv is not None else [])
            with torch.autocast(self.device, dtype=low):
                out = mk.moba_attention(q, k, v, BLOCK, TOPK, conv)
            self.assertEqual(out.dtype, low)
            d_out = torch.ones_like(out)
            gradients = torch.autograd.grad(out, inputs, d_out)
            self.assertEqual({g.dtype for g in gradients}, {torch.float32})
            plain = mk.moba_attention(q.to(low), k.to(low), v.to(low), BLOCK, TOPK, conv)
            self.assertTrue(torch.equal(out, plain))
            for got, want in zip(gradients, torch.autograd.grad(plain, inputs, d_out)):
                self.assertTrue(torch.equal(got, want))
        mixed = [q, k.detach().to(low), v.detach().half()]
        with torch.autocast(self.device, dtype=low):
            self.assertEqual(mk.moba_attention(*mixed, BLOCK, TOPK).dtype, low)
            with self.assertRaisesRegex(TypeError, "float64"):  # autocast leaves it alone
                mk.moba_attention(q.double(), k.double(), v.double(), BLOCK, TOPK)
        with self.assertRaisesRegex(TypeError, "dtype of q"):
            mk.moba_attention(*mixed, BLOCK, TOPK)

    def test_a_gradient_of_the_gradient_is_refused(self):
        q, k, v = self.leaves()
        for conv in (None, torch.randn(2, 32, 3, device=self.device, requires_grad=True)):
            out = mk.moba_attention(q, k, v, BLOCK, TOPK, conv)
            (dk,) = torch.autograd.grad(out.sum(), k, create_graph=True)
            with self.assertRaisesRegex(mk.Error, "differentiable once"):
                torch.autograd.grad(dk.sum(), q)

    def test_gradients_of_some_inputs_are_those_of_all(self):
        q, k, v = self.leaves()
        weight = torch.randn(2, 32, 3, device=self.device, requires_grad=True)
        inputs = [q, k, v, weight]
        whole = torch.autograd.grad(mk.moba_attention(q, k, v, BLOCK, TOPK, weight).sum(), inputs)
        for at, leaf in enumerate(inputs):
            given = [x if x is leaf else x.detach() for x in inputs]
            (alone,) = torch.autograd.grad(mk.moba_attention(*given[:3], BLOCK, TOPK, given[3]).sum(), leaf)
            self.assertTrue(torch.equal(alone, whole[at]))
        self.assertFalse(mk.moba_attention(*(x.detach() for x in inputs[:3]), BLOCK, TOPK).requires_grad)

    def test_gradients_of_expanded_heads_are_summed(self):
        q, k, v = self.inputs(heads_k=1)
        k1, v1 = k.clone().requires_grad_(), v.clone().requires_grad_()
        out = mk.moba_attention(q, k1.expand(-1, -1, 4, -1), v1.expand(-1, -1, 4, -1), BLOCK, TOPK)
        k2, v2 = k.clone().requires_grad_(), v.clone().requires_grad_()
        same = mk.moba_attention(q, k2, v2, BLOCK, TOPK)
        self.assertTrue(torch.equal(out, same))
        d_out = torch.ones_like(out)
        got, want = torch.autograd.grad(out, (k1, v1), d_out), torch.autograd.grad(same, (k2, v2), d_out)
        for a, b in zip(got, want):
            self.assertLess(
                ((a - b).float().norm() / b.float().norm()).item(), 1e-5 if self.dtype is torch.float32 else 3e-2
            )

    def test_views_are_not_copied(self):
        q, k, v = self.inputs()
        one_head = k[:, :, :1]
        packed = torch.cat([q, k, v], dim=2)
        views = {
            "expanded heads": (q, one_head.expand(-1, -1, 2, -1), one_head.expand(-1, -1, 2, -1)),
            "expanded sequences": (q[:1].expand(2, -1, -1, -1), k[:1].expand(2, -1, -1, -1), v),
            "[batch, heads, tokens, dim]": tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)),
            "packed qkv": packed.split([4, 2, 2], dim=2),
            "the last tokens": (q[:, -1:], k, v),
        }
        for label, tensors_ in views.items():
            leaves = [x.detach().requires_grad_() for x in tensors_]  # detach keeps the strides
            out = mk.moba_attention(*leaves, BLOCK, TOPK)
            for given, saved in zip(leaves, out.grad_fn.saved_tensors):
                self.assertEqual((saved.data_ptr(), saved.stride()), (given.data_ptr(), given.stride()), label)
            contiguous = [x.detach().contiguous().requires_grad_() for x in tensors_]
            same = mk.moba_attention(*contiguous, BLOCK, TOPK)
            self.assertTrue(torch.equal(out, same), label)
            for got, want in zip(torch.autograd.grad(out.sum(), leaves), torch.autograd.grad(same.sum(), contiguous)):
                self.assertTrue(torch.equal(got, want), label)

    def test_packed_sequences_have_the_gradients_of_each_alone(self):
        q, k, v = (x[0] for x in self.inputs(batch=1))
        weight = torch.randn(2, 32, 3, device=self.device)
        boundaries = [0, 37, 37, 120]
        cu = torch.tensor(boundaries, dtype=torch.int32, device=self.device)
        leaves = [x.clone().requires_grad_() for x in (q, k, v, weight)]
        out = mk.moba_attention(*leaves[:3], BLOCK, TOPK, leaves[3], cu_seqlens_q=cu, cu_seqlens_k=cu)
        whole = torch.autograd.grad(out.sum(), leaves)
        total = torch.zeros_like(weight)
        for a, b in ((0, 37), (37, 120)):
            alone = [x[None, a:b].clone().requires_grad_() for x in (q, k, v)] + [weight.clone().requires_grad_()]
            same = mk.moba_attention(*alone[:3], BLOCK, TOPK, alone[3])
            self.assert_same(out[a:b], same[0])
            gradients = torch.autograd.grad(same.sum(), alone)
            for got, want in zip(whole[:3], gradients):
                self.assert_same(got[a:b], want[0])
            total += gradients[3]
        self.assertTrue(torch.allclose(whole[3], total, rtol=1e-4, atol=1e-4))

    def test_gradients_follow_the_blocks_that_are_kept_first(self):
        q, k, v = self.leaves()
        with torch.no_grad():
            out, lse, selection = mk.moba_forward(q, k, v, BLOCK, TOPK, keep_first=True)
            self.assertFalse(torch.equal(selection, mk.route(q, k, BLOCK, TOPK)))
            wanted = mk.attention_backward(q, k, v, out, torch.ones_like(out), lse, selection, BLOCK, TOPK)
        attended = mk.moba_attention(q, k, v, BLOCK, TOPK, keep_first=True)
        self.assertTrue(torch.equal(attended, out))
        for got, want in zip(torch.autograd.grad(attended, (q, k, v), torch.ones_like(out)), wanted):
            self.assertTrue(torch.equal(got, want))

    def test_what_autograd_would_lose_is_refused(self):
        q, k, v = self.leaves()
        with self.assertRaisesRegex(ValueError, "moba_attention"):
            mk.moba_forward(q, k, v, BLOCK, TOPK)
        with torch.no_grad():
            out, _, selection = mk.moba_forward(q, k, v, BLOCK, TOPK)
        self.assertTrue(torch.equal(selection, mk.route(q, k, BLOCK, TOPK)))
        with torch.inference_mode():
            self.assertTrue(torch.equal(out, mk.moba_attention(q, k, v, BLOCK, TOPK)))

    def test_a_changed_input_is_noticed(self):
        q, k, v = self.leaves()
        values = v * 1
        out = mk.moba_attention(q, k, values, BLOCK, TOPK)
        values.add_(1)
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
            out.sum().backward()

    def test_numpy_arrays_have_no_autograd(self):
        q, k, v = self.inputs()
        with self.assertRaisesRegex(TypeError, "moba_forward"):
            mk.moba_attention(q.float().cpu().numpy(), k, v, BLOCK, TOPK)


@unittest.skipIf(torch is None, "needs torch")
class OnCpu(Module, unittest.TestCase):
    def setUp(self):
        self.dtype = torch.float32


@unittest.skipIf(
    torch is None or not torch.cuda.is_available() or mk.backend_available("cuda") is not None,
    "needs torch with CUDA and the CUDA backend",
)
class OnCuda(Module, unittest.TestCase):
    device = "cuda"

    def setUp(self):
        self.dtype = torch.bfloat16

    def test_tensors_run_where_they_are(self):
        if torch.cuda.device_count() < 2:
            self.skipTest("needs two devices")
        expected = mk.moba_forward(*self.inputs(), BLOCK, TOPK)
        second = tensors("cuda:1", self.dtype)
        self.assertEqual(torch.cuda.current_device(), 0)
        for got, want in zip(mk.moba_forward(*second, BLOCK, TOPK), expected):
            self.assertEqual(got.device.index, 1)
            self.assertTrue(torch.equal(got.cpu(), want.cpu()))
        self.assertEqual(torch.cuda.current_device(), 0)
        with self.assertRaisesRegex(ValueError, "cuda:1"):
            mk.route(self.inputs()[0], second[1], BLOCK, TOPK)

    def test_calls_follow_the_current_stream(self):
        q, k, v = self.inputs(seq=4096)
        expected = mk.moba_forward(q, k, v, BLOCK, TOPK)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(5):
                late = [x.clone() for x in (q, k, v)]
                torch.cuda._sleep(10**6)
                for x in late:
                    x.mul_(1)
                again = mk.moba_forward(*late, BLOCK, TOPK)
        side.synchronize()
        for got, want in zip(again, expected):
            self.assertTrue(torch.equal(got, want))


if __name__ == "__main__":
    unittest.main()
