"""The differentiable attention of the Python module on the GPU beside torch's autograd through a dense masked attention.

Usage: python_cuda_test.py LIBRARY; skipped without torch, a CUDA device or the CUDA backend.
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

SEED = 40
# batch, seq, heads_q, heads_k, dim, block, topk
SHAPES = [
    (2, 1000, 4, 4, 128, 128, 3),
    (1, 777, 4, 1, 64, 64, 4),
    (2, 600, 2, 2, 128, 16, 8),
    (1, 1300, 2, 1, 128, 256, 3),
    (1, 500, 2, 2, 96, 32, 4),
    (1, 300, 2, 1, 32, 16, 5),
    (1, 700, 2, 1, 256, 128, 3),
]


def mask_of(selection, batch, seq, heads, block_size):
    position = torch.arange(seq, device="cuda")
    own = position // block_size
    blocks = int(own[-1]) + 1
    picks = selection.view(heads, batch, seq, -1).permute(1, 0, 2, 3).long()
    keep = torch.zeros(batch, heads, seq, blocks + 1, dtype=torch.bool, device="cuda")
    keep.scatter_(3, torch.where(picks < 0, blocks, picks), True)
    keep[:, :, position, own] = True
    return keep[..., own] & (position[None, :] <= position[:, None])


def dense_gradients(q, k, v, d_out, mask, dtype):
    """dq, dk, dv by autograd in `dtype`, with every step rounded to it."""
    q, k, v = (x.detach().to(dtype).requires_grad_() for x in (q, k, v))
    group = q.shape[2] // k.shape[2]
    keys, values = (x.repeat_interleave(group, dim=2) for x in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, keys) * q.shape[-1] ** -0.5
    out = torch.einsum("bhqk,bkhd->bqhd", scores.masked_fill(~mask, -torch.inf).softmax(-1), values)
    out.backward(d_out.to(dtype))
    return q.grad, k.grad, v.grad


@unittest.skipIf(torch is None or not torch.cuda.is_available(), "needs torch with CUDA")
@unittest.skipIf(mk.backend_available("cuda") is not None, "needs the CUDA backend")
class Gradients(unittest.TestCase):
    def check(self, shape, dtype):
        batch, seq, heads_q, heads_k, dim, block, topk = shape
        g = torch.Generator(device="cuda").manual_seed(SEED)
        q, k, v, d_out = (torch.randn(batch, seq, h, dim, generator=g, device="cuda", dtype=dtype)
                          for h in (heads_q, heads_k, heads_k, heads_q))
        for x in (q, k, v):
            x.requires_grad_()
        mk.moba_attention(q, k, v, block, topk).backward(d_out)
        mask = mask_of(mk.route(q.detach(), k.detach(), block, topk), batch, seq, heads_q, block)
        exact = dense_gradients(q, k, v, d_out, mask, torch.float64)
        theirs = dense_gradients(q, k, v, d_out, mask, dtype)
        for name, ours, other, want in zip(("dq", "dk", "dv"), (q.grad, k.grad, v.grad), theirs, exact):
            error = (ours.double() - want).abs().max().item()
            limit = 3 * (other.double() - want).abs().max().item()
            self.assertLessEqual(error, limit, f"{name} of {shape} {dtype}: not within 3x of torch's own error")

    def test_at_most_three_times_the_error_of_torch(self):
        for dtype in (torch.bfloat16, torch.float16):
            for shape in SHAPES:
                with self.subTest(shape=shape, dtype=dtype):
                    self.check(shape, dtype)

    def test_key_convolution(self):
        g = torch.Generator(device="cuda").manual_seed(SEED)
        k, d_out = (torch.randn(2, 3000, 3, 64, generator=g, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        for width in (1, 3, 5, 8):
            weight = torch.randn(3, 64, width, generator=g, device="cuda")
            dk, d_weight = mk.key_conv_backward(k, weight, d_out)
            wide, w = k.double().requires_grad_(), weight.double().requires_grad_()
            padded = torch.nn.functional.pad(wide, (0, 0, 0, 0, width - 1, 0))
            z = sum(padded[:, width - 1 - lag : width - 1 - lag + 3000] * w[..., lag] for lag in range(width))
            (wide + torch.nn.functional.silu(z)).backward(d_out.double())
            self.assertLess(((dk.double() - wide.grad).norm() / wide.grad.norm()).item(), 4e-3)
            self.assertLess(((d_weight.double() - w.grad).norm() / w.grad.norm()).item(), 1e-5)

    def test_repeats_agree_bit_for_bit(self):
        g = torch.Generator(device="cuda").manual_seed(SEED)
        q, k, v, d_out = (torch.randn(2, 4096, 4, 128, generator=g, device="cuda", dtype=torch.bfloat16)
                          for _ in range(4))
        out, lse, selection = mk.moba_forward(q, k, v, 128, 8)
        first = mk.attention_backward(q, k, v, out, d_out, lse, selection, 128, 8)
        for _ in range(20):
            again = mk.attention_backward(q, k, v, out, d_out, lse, selection, 128, 8)
            for a, b in zip(first, again):
                self.assertTrue(torch.equal(a, b))


if __name__ == "__main__":
    unittest.main()
