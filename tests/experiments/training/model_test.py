#!/usr/bin/env python3
"""The attention layers and the model against plain definitions.

Usage: model_test.py LIBRARY; skipped without torch.
"""

import unittest

import with_torch  # noqa: F401
import mobalab_kernels as mk
import torch
from training.arms import ARMS, Arm, chosen, moba
from training.attention import convolve_keys, local_attention, rotate, rotations
from training.errors import InputError
from training.model import Intervention, Model, ModelConfig

SEED = 3
CPU = torch.device("cpu")


def tensors(tokens, batch=2, heads=2, dim=32):
    g = torch.Generator().manual_seed(SEED)
    return [torch.randn(batch, tokens, heads, dim, generator=g) for _ in range(3)]


def masked_attention(q, k, v, mask):
    """Softmax attention by its definition, in double."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def largest_difference(a, b):
    return (a.double() - b.double()).abs().max().item()


def model_of(arm, width=64, layers=2):
    torch.manual_seed(SEED)
    return Model(arm.config(width, layers))


class LocalAttention(unittest.TestCase):
    def test_it_is_dense_attention_under_the_window_mask(self):
        for tokens, window in ((128, 16), (100, 16), (7, 16), (48, 1), (64, 64)):
            with self.subTest(tokens=tokens, window=window):
                q, k, v = tensors(tokens)
                i, j = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
                want = masked_attention(q, k, v, (j <= i) & (i - j < window))
                self.assertLess(largest_difference(local_attention(q, k, v, window), want), 1e-5)

    def test_gradients_stay_in_the_window(self):
        q, k, v = (x.requires_grad_() for x in tensors(96))
        local_attention(q, k, v, 16)[:, 50].sum().backward()
        self.assertEqual(v.grad.abs().sum((0, 2, 3)).nonzero().flatten().tolist(), list(range(35, 51)))


class Rotations(unittest.TestCase):
    def test_affinities_depend_on_the_distance_alone(self):
        q, k, _ = (x[:, :1].expand(-1, 40, -1, -1) for x in tensors(1))
        cos, sin = rotations(40, 32, CPU)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        affinity = torch.einsum("bqhd,bkhd->bhqk", q, k)
        self.assertLess(largest_difference(affinity[..., 5, 2], affinity[..., 35, 32]), 1e-4)
        self.assertGreater(largest_difference(affinity[..., 5, 2], affinity[..., 35, 22]), 1e-2)


class KeyConvolution(unittest.TestCase):
    def test_the_linear_part_is_the_slope_of_the_kernel(self):
        """silu(x) = x/2 + x^2/4 - ..., so for small keys only the linear part is left."""
        _, k, _ = tensors(50)
        weight = torch.randn(2, 32, 3, generator=torch.Generator().manual_seed(SEED))
        k = 1e-4 * k
        linear, exact = (convolve_keys(k, weight, how) for how in ("linear", "kept"))
        self.assertLess(largest_difference(linear, exact), 1e-6)
        self.assertGreater(largest_difference(linear, convolve_keys(k, weight, "removed")), 1e-5)


class Models(unittest.TestCase):
    def test_moba_over_all_blocks_is_dense_attention(self):
        tokens = torch.randint(64, (2, 96), generator=torch.Generator().manual_seed(SEED))
        want = model_of(Arm("dense", head_dim=32))(tokens)
        all_blocks, two = (model_of(Arm("moba", 16, topk, 0, 32, "mean"))(tokens) for topk in (6, 2))
        self.assertLess(largest_difference(all_blocks, want), 1e-4)
        self.assertGreater(largest_difference(two, want), 1e-4)
        self.assertLess(largest_difference(two[:, :32], want[:, :32]), 1e-4)  # two blocks are all they have

    def test_no_token_sees_a_later_one(self):
        tokens = torch.randint(64, (1, 96), generator=torch.Generator().manual_seed(SEED))
        later = tokens.clone()
        later[0, 70] += 1
        for arm in (Arm("dense", head_dim=32), Arm("local", head_dim=32), Arm("moba", 16, 3, 3, 32, "mean")):
            difference = (model_of(arm)(tokens) - model_of(arm)(later)).abs().amax(-1)[0]
            self.assertLess(difference[:70].max().item(), 1e-5)
            self.assertGreater(difference[70].item(), 1e-3)

    def test_positions_asked_for_are_those_of_all(self):
        model, tokens = model_of(Arm("dense", head_dim=32)), torch.arange(96)[None] % 60
        at = torch.tensor([[3, 95, 40]])
        self.assertLess(largest_difference(model(tokens, at), model(tokens)[:, [3, 95, 40]]), 1e-5)

    def test_interventions_change_what_they_name(self):
        model, tokens = model_of(Arm("moba", 16, 3, 3, 32, "mean")), torch.arange(96)[None] % 60
        plain = model(tokens)
        for intervention in (Intervention(silent=(0,)), Intervention(convolution="removed")):
            self.assertGreater(largest_difference(model(tokens, intervention=intervention), plain), 1e-3)
        without = model_of(Arm("moba", 16, 3, 0, 32, "mean"))
        without.load_state_dict({n: p for n, p in model.state_dict().items() if not n.endswith("conv")})
        self.assertTrue(torch.equal(model(tokens, intervention=Intervention(convolution="removed")), without(tokens)))

    def test_without_relays_only_asked_positions_see_routed_blocks(self):
        model, alone = model_of(moba(16, 64, key_conv=3)), model_of(Arm("moba", 16, 1, 3, 64, "mean"))
        alone.load_state_dict(model.state_dict())
        tokens = torch.randint(0, 4096, (2, 96), generator=torch.Generator().manual_seed(SEED))
        cut = Intervention(relays=False)
        every = torch.arange(96).expand(2, -1)
        self.assertTrue(torch.equal(model(tokens, every, cut), model(tokens)))
        asked = torch.tensor([[40, 90], [50, 95]])
        index = asked[..., None].expand(-1, -1, 4096)
        found, routed, own = model.hidden(tokens, cut, asked=asked), model.hidden(tokens), alone.hidden(tokens)
        at = asked[..., None].expand(-1, -1, found.shape[-1])
        self.assertTrue(torch.equal(found, own.scatter(1, at, routed.gather(1, at))))
        self.assertGreater(largest_difference(routed, own), 1e-3)
        self.assertTrue(torch.equal(model(tokens, asked, cut), model(tokens).gather(1, index)))

    def test_every_parameter_has_a_gradient(self):
        for arm in (Arm("dense", head_dim=32), Arm("local", head_dim=32), Arm("moba", 16, 3, 5, 32, "mean")):
            model = model_of(arm)
            model(torch.arange(96)[None] % 60).square().mean().backward()
            lacking = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
            self.assertEqual(lacking, [])

    def test_odd_layers_have_the_attention_under_test(self):
        config = ModelConfig(100, layers=4, attention="moba")
        self.assertEqual([config.kind(i) for i in range(4)], ["local", "moba", "local", "moba"])


class Arms(unittest.TestCase):
    def test_all_arms_are_there_once_and_can_run(self):
        names = [arm.name for arm in ARMS]
        self.assertEqual(len(names), len({*names}))
        wanted = {Arm("dense"), Arm("local"), moba(32, scorer="random"), moba(32, scorer="quest")}
        for budget in (256, 512):
            wanted |= {moba(b, budget, conv) for b in (16, 32, 64, 128) for conv in (0, 3, 5)}
        wanted |= {moba(32, head_dim=dim) for dim in (32, 64, 128)}
        self.assertLessEqual(wanted, {*ARMS})
        for arm in ARMS:
            if arm.attention == "moba":
                self.assertIn(arm.block_size * arm.topk, (256, 512))
                q, k, _ = tensors(256, dim=arm.head_dim)
                mk.route(q, k, arm.block_size, arm.topk, scorer=arm.scorer)

    def test_names_choose_in_the_order_of_importance(self):
        picked = chosen(["local-d64", "dense-d64"])
        self.assertEqual([arm.name for arm in picked], ["dense-d64", "local-d64"])
        with self.assertRaisesRegex(InputError, "moba-B32-k8-d64-mean"):
            chosen(["moba-B32-k8-d64-maen"])


if __name__ == "__main__":
    unittest.main()
