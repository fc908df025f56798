"""The referee on torch tensors: bfloat16, gradients by autograd, and the CUDA backend where there is a device.

Usage: audit_torch_test.py LIBRARY; skipped without torch.
"""

import os
import sys
import unittest
from pathlib import Path

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path[:0] = [str(Path(__file__).resolve().parents[4] / "kernels" / "python"), str(Path(__file__).resolve().parent)]

try:
    import torch
except ImportError:
    torch = None

import mobalab_kernels as mk  # noqa: E402
from mobalab_kernels.audit import Settings, Subject, arrays_of, audit  # noqa: E402
from mobalab_kernels.audit.subjects import target  # noqa: E402

SMALL = Settings(seq_len=512, heads=2, heads_k=1, head_dim=32, block_size=32, topk=3, dtype="bfloat16")


class Recorded:
    """The differentiable attention of this package."""

    def attention(self, q, k, v, block_size, topk):
        return mk.moba_attention(q[None], k[None], v[None], block_size, topk)[0]


class NotRecorded:
    def attention(self, q, k, v, block_size, topk):
        return Recorded().attention(q.detach(), k.detach(), v.detach(), block_size, topk)


class WrongGradients:
    """The gradient of k is lost for every other token."""

    def attention(self, q, k, v, block_size, topk):
        even = (torch.arange(len(k), device=k.device) % 2 == 0)[:, None, None]
        return Recorded().attention(q, torch.where(even, k, k.detach()), v, block_size, topk)


class SumsInBfloat16:
    """Means as a sum in bfloat16 leaves them, the best blocks by them."""

    def summaries(self, k, block_size):
        means = []
        for block in k.split(block_size):
            total = torch.zeros_like(block[0])
            for key in block:
                total = total + key
            means.append(total / len(block))
        return torch.stack(means)

    def route(self, q, k, block_size, topk):
        means = self.summaries(k, block_size).repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        scores = torch.einsum("thd,bhd->htb", q.float(), means.float())
        own = torch.arange(len(q), device=q.device) // block_size
        past = torch.arange(scores.shape[2], device=q.device) < own[:, None]
        best, blocks = scores.masked_fill(~past, -torch.inf).topk(topk - 1, dim=2)
        return torch.where(best == -torch.inf, -1, blocks)


def statuses(subject, device="cpu", settings=SMALL):
    verdicts = audit(Subject("subject", subject, arrays_of("torch", device, settings.dtype)), settings)
    return {v.check: v.status for v in verdicts}, [f"{v.check}: {v.said}" for v in verdicts]


@unittest.skipIf(torch is None, "needs torch")
class OnTheCpu(unittest.TestCase):
    def test_ours_passes_in_every_dtype(self):
        for dtype in ("float32", "bfloat16", "float16"):
            found, said = statuses(target("ours", "cpu"), settings=SMALL._replace(dtype=dtype))
            self.assertEqual(set(found.values()), {"passed", "reported"}, said)

    def test_the_official_layout_is_read_right(self):
        import official_layout

        official_layout.install()
        found, said = statuses(target("flash_moba", "cuda"))
        self.assertEqual(set(found.values()), {"passed", "reported"}, said)

    def test_what_the_official_package_does_not_take_is_refused_before_the_first_check(self):
        import official_layout

        official_layout.install()
        with self.assertRaisesRegex(ValueError, "dtype = float32: must be bfloat16 or float16 for flash_moba"):
            target("flash_moba", "cuda", SMALL._replace(dtype="float32"))
        target("flash_moba", "cuda", SMALL)
        target("ours", "cpu", SMALL._replace(dtype="float32"))
        with self.assertRaisesRegex(ValueError, "device = meta"):
            target("ours", "meta", SMALL)

    def test_gradients_come_from_autograd_where_it_follows(self):
        found, said = statuses(Recorded())
        self.assertEqual((found["attention"], found["gradients"], found["top-k"]), ("passed", "passed", "not offered"), said)
        self.assertEqual(statuses(NotRecorded())[0]["gradients"], "not offered")

    def test_wrong_gradients_are_found(self):
        found, said = statuses(WrongGradients())
        self.assertEqual({name for name, status in found.items() if status == "failed"}, {"gradients"}, said)

    def test_sums_in_bfloat16_are_found_and_their_top_k_is_not_blamed(self):
        found, said = statuses(SumsInBfloat16())
        self.assertEqual((found["summaries"], found["top-k"]), ("failed", "failed"), said)
        self.assertEqual(found["top-k of its own centroids"], "passed", said)


@unittest.skipIf(torch is None or not torch.cuda.is_available(), "needs torch with CUDA")
@unittest.skipIf(mk.backend_available("cuda") is not None, "needs the CUDA backend")
class OnCuda(unittest.TestCase):
    def test_ours_passes(self):
        for dtype, head_dim, block_size in (("bfloat16", 64, 64), ("bfloat16", 128, 128), ("float16", 128, 32)):
            settings = Settings(8192, 4, 2, head_dim, block_size, 8, dtype, 1)
            found, said = statuses(target("ours", "cuda"), "cuda", settings)
            self.assertEqual(set(found.values()), {"passed", "reported"}, said)

    def test_what_the_backend_does_not_take_is_refused_before_the_first_check(self):
        target("ours", "cuda", SMALL)
        for name, value in (("dtype", "float32"), ("head_dim", 36)):
            with self.assertRaisesRegex(mk.Error, name):
                target("ours", "cuda", SMALL._replace(**{name: value}))
        target("ours_centred", "cuda", SMALL)


if __name__ == "__main__":
    unittest.main()
