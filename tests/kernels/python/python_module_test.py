"""MobaAttention, the layer.

Usage: python_module_test.py LIBRARY; skipped without torch 2.4. Everything runs on the CPU, and on the GPU where there
is one.
"""

import copy
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

SEED = 63
NO_OPERATORS = torch is None or not hasattr(torch.library, "register_autograd")


def turned(q, k):
    """A stand-in for rotary positions."""
    return q.roll(1, -1), k.roll(2, -1)


class Layer:
    device, dtype = "cpu", None

    def layer(self, **options):
        torch.manual_seed(SEED)
        options = {"block_size": 16, "topk": 3, "conv_width": 3, **options}
        layer = mk.MobaAttention(96, 6, 2, head_dim=32, device=self.device, dtype=self.dtype, **options)
        if layer.conv_weight is not None:
            torch.nn.init.normal_(layer.conv_weight, std=0.3)
        return layer

    def tokens(self, *shape):
        g = torch.Generator().manual_seed(SEED)
        return torch.randn(*shape, 96, generator=g).to(self.device, self.dtype)

    def test_it_is_projections_around_moba_attention(self):
        options = {"scale": 0.3, "scorer": "quest", "keep_first": True}
        layer, x = self.layer(**options), self.tokens(2, 100)
        q, k, v = layer.qkv(x).reshape(2, 100, 10, 32).split([6, 2, 2], dim=2)
        out, chosen = mk.moba_attention(
            *turned(q, k), v, 16, 3, conv_weight=layer.conv_weight, return_selection=True, **options
        )
        got, selection = layer(x, rotary=turned, return_selection=True)
        self.assertTrue(torch.equal(got, layer.out(out.reshape(2, 100, -1))) and torch.equal(selection, chosen))

    def test_a_selection_is_kept(self):
        layer, x = self.layer(), self.tokens(2, 100)
        out, selection = layer(x, return_selection=True)
        self.assertTrue(torch.equal(layer(x, selection=selection), out))
        self.assertFalse(torch.equal(layer(x, selection=torch.zeros_like(selection)), out))

    def test_every_parameter_learns(self):
        layer, x = self.layer(bias=True), self.tokens(2, 100)
        optimizer = torch.optim.Adam(layer.parameters(), lr=3e-3)
        losses = []
        for _ in range(8):
            loss = (layer(x).float() - x.float()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            for name, parameter in layer.named_parameters():
                self.assertGreater(parameter.grad.abs().max().item(), 0, name)
            optimizer.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], losses[0])

    def test_packed_sequences_are_those_alone(self):
        layer, x = self.layer(), self.tokens(100)
        cu = torch.tensor([0, 40, 100], dtype=torch.int32, device=self.device)
        packed = layer(x, cu_seqlens=cu, max_seqlen=60)
        alone = torch.cat([layer(x[None, :40])[0], layer(x[None, 40:])[0]])
        self.assertLess((packed - alone).abs().max().item(), 1e-5 if self.device == "cpu" else 2e-2)

    def test_a_graph_and_a_copy_are_the_same_layer(self):
        layer, x = self.layer(), self.tokens(2, 100)
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        self.assertTrue(torch.equal(compiled(x), layer(x)))
        other = mk.MobaAttention(
            96, 6, 2, head_dim=32, block_size=16, topk=3, conv_width=3, device=self.device, dtype=self.dtype
        )
        other.load_state_dict(layer.state_dict())
        self.assertTrue(torch.equal(other(x), layer(x)))
        self.assertTrue(torch.equal(copy.deepcopy(layer)(x), layer(x)))

    def test_the_convolution_begins_as_none(self):
        x = self.tokens(1, 50)
        torch.manual_seed(SEED)
        layer = mk.MobaAttention(96, 3, block_size=16, topk=2, conv_width=4, device=self.device, dtype=self.dtype)
        self.assertEqual((layer.head_dim, layer.heads_k, layer.conv_weight.dtype), (32, 3, torch.float32))
        plain = mk.MobaAttention(96, 3, block_size=16, topk=2, device=self.device, dtype=self.dtype)
        plain.load_state_dict({n: p for n, p in layer.state_dict().items() if n != "conv_weight"})
        self.assertTrue(torch.equal(layer(x), plain(x)))
        self.assertIn("block_size=16, topk=2", repr(layer))

    def test_what_is_refused(self):
        for kind, text, arguments in (
            (ValueError, "heads_k = 4: must be a divisor of heads = 6", {"heads_k": 4}),
            (ValueError, "heads = 7: must be a divisor of width = 96", {"heads": 7, "heads_k": 7}),
            (ValueError, "width = 0", {"width": 0}),
            (TypeError, "heads = 6.0", {"heads": 6.0}),
            (TypeError, "conv_width = True", {"conv_width": True}),
            (TypeError, "conv_width = False", {"conv_width": False}),
            (TypeError, "conv_width = 0.0", {"conv_width": 0.0}),
            (ValueError, r"conv_width = 9: must be in \[0, 8\]", {"conv_width": 9}),
            (ValueError, "topk = 0", {"topk": 0}),
            (TypeError, "block_size = 16.0", {"block_size": 16.0}),
            (ValueError, "scale = -1", {"scale": -1}),
            (ValueError, "scorer = 'men'", {"scorer": "men"}),
            (TypeError, "scorer_seed = None", {"scorer_seed": None}),
            (TypeError, "threads = '2'", {"threads": "2"}),
            (TypeError, "keep_first = 1", {"keep_first": 1}),
            (
                ValueError,
                "fp32_centroids, centred_centroids",
                {"fp32_centroids": True, "centred_centroids": True},
            ),
            (TypeError, "scorers is no argument", {"scorers": "mean"}),
        ):
            with self.subTest(text), self.assertRaisesRegex(kind, text) as raised:
                mk.MobaAttention(**{"width": 96, "heads": 6, "block_size": 16, "topk": 3, **arguments})
            self.assertIsInstance(raised.exception, mk.Error)
        layer = self.layer()
        layer.topk = 0
        with self.assertRaisesRegex(ValueError, "topk = 0"):
            layer(self.tokens(1, 20))


@unittest.skipIf(NO_OPERATORS, "needs torch 2.4")
class OnCpu(Layer, unittest.TestCase):
    def setUp(self):
        self.dtype = torch.float32


@unittest.skipIf(
    NO_OPERATORS or not torch.cuda.is_available() or mk.backend_available("cuda") is not None,
    "needs torch with CUDA and the CUDA backend",
)
class OnCuda(Layer, unittest.TestCase):
    device = "cuda"

    def setUp(self):
        self.dtype = torch.bfloat16


if __name__ == "__main__":
    unittest.main()
