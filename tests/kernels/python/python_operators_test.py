"""moba_attention in what torch makes of programs: torch.compile, CUDA graphs, checkpoints, torch.func, torch.library.

Usage: python_operators_test.py LIBRARY; skipped without torch 2.4. Everything runs on the CPU, and on the GPU where
there is one. Compiled with the backend aot_eager, which traces as inductor does and compiles nothing, results have the
bits of eager mode.
"""

import itertools
import os
import sys
import unittest
from pathlib import Path

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "kernels" / "python"))

import mobalab_kernels as mk  # noqa: E402

try:
    import torch
    from torch.utils import _python_dispatch, checkpoint
except ImportError:
    torch = None

SEED = 61
BLOCK, TOPK = 16, 3
BOUNDARIES = [0, 37, 37, 120]
LONGEST = 83
NO_OPERATORS = torch is None or not hasattr(torch.library, "register_autograd")


def compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


class Operators:
    """The tests, for a device and the dtype its kernels take best."""

    device, dtype = "cpu", None

    def leaves(self, seq=120, packed=False, seed=SEED):
        """q, k, v and a key convolution that require grad."""
        g = torch.Generator().manual_seed(seed)
        extents = (seq,) if packed else (2, seq)
        tensors = [torch.randn(*extents, heads, 32, generator=g).to(self.device, self.dtype) for heads in (4, 2, 2)]
        tensors.append(torch.randn(2, 32, 3, generator=g).to(self.device))
        return [tensor.requires_grad_() for tensor in tensors]

    def boundaries(self):
        return torch.tensor(BOUNDARIES, dtype=torch.int32, device=self.device)

    def gradients(self, function, leaves):
        """(out, its gradients by a fixed d_out)"""
        out = function(*leaves)
        d_out = torch.linspace(-1, 1, out.numel(), device=self.device).reshape(out.shape).to(out.dtype)
        return (out, *torch.autograd.grad(out, leaves, d_out))

    def assert_all_equal(self, got, want):
        self.assertEqual(len(got), len(want))
        for a, b in zip(got, want):
            self.assertTrue(torch.equal(a, b), f"off by up to {(a - b).abs().max().item()}")

    def programs(self):
        """{name: (a function of the leaves, whether they are packed)}"""
        cu = self.boundaries()
        options = {"scorer": "submean-4", "keep_first": True, "scale": 0.2}

        def given_selection(q, k, v, w):
            selection = torch.zeros(4, 240, TOPK - 1, dtype=torch.int32, device=q.device)
            return mk.moba_attention(q, k, v, BLOCK, TOPK, conv_weight=w, selection=selection)

        return {
            "plain": (lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w), False),
            "options": (lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w, **options), False),
            "between other operations": (
                lambda q, k, v, w: mk.moba_attention(q * 2, k.sin(), v + 1, BLOCK, TOPK, w.exp()).cos(),
                False,
            ),
            "heads before tokens": (
                lambda q, k, v, w: mk.moba_attention(
                    *(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)), BLOCK, TOPK, w
                ),
                False,
            ),
            "head_dim that is not contiguous": (
                lambda q, k, v, w: mk.moba_attention(
                    *(x.transpose(1, 3).contiguous().transpose(1, 3) for x in (q, k, v)), BLOCK, TOPK, w
                ),
                False,
            ),
            "packed": (
                lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w, cu_seqlens=cu, max_seqlen=LONGEST),
                True,
            ),
            "packed, lengths of both sides": (
                lambda q, k, v, w: mk.moba_attention(
                    q,
                    k,
                    v,
                    BLOCK,
                    TOPK,
                    w,
                    cu_seqlens_q=cu,
                    cu_seqlens_k=cu,
                    max_seqlen_q=LONGEST,
                    max_seqlen_k=LONGEST,
                    total_blocks=9,
                ),
                True,
            ),
            "selection given": (given_selection, False),
        }

    def test_one_graph_has_the_bits_of_eager_mode(self):
        for name, (program, packed) in self.programs().items():
            with self.subTest(name):
                leaves = self.leaves(packed=packed)
                self.assert_all_equal(self.gradients(compiled(program), leaves), self.gradients(program, leaves))

    def test_one_graph_for_any_length(self):
        program = compiled(lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w), dynamic=True)
        for seq in (120, 96, 50, 20):
            with self.subTest(seq):
                leaves = self.leaves(seq)
                eager = self.gradients(lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w), leaves)
                self.assert_all_equal(self.gradients(program, leaves), eager)

    def test_selection_leaves_a_graph(self):
        leaves = self.leaves()
        program = lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w, return_selection=True)  # noqa: E731
        out, selection = compiled(program)(*leaves)
        again, routed = program(*leaves)
        self.assert_all_equal((out, selection), (again, routed))
        self.assertEqual((selection.dtype, selection.requires_grad), (torch.int32, False))

    def test_autocast_inside_and_around_a_graph(self):
        leaves = [x.detach().float().requires_grad_() for x in self.leaves()]

        def inside(*tensors):
            with torch.autocast(self.device, dtype=torch.bfloat16):
                return mk.moba_attention(*tensors[:3], BLOCK, TOPK, tensors[3])

        want = self.gradients(inside, leaves)
        self.assertEqual(want[0].dtype, torch.bfloat16)
        self.assert_all_equal(self.gradients(compiled(inside), leaves), want)
        plain = compiled(lambda *tensors: mk.moba_attention(*tensors[:3], BLOCK, TOPK, tensors[3]))
        with torch.autocast(self.device, dtype=torch.bfloat16):
            self.assert_all_equal(self.gradients(plain, leaves), want)

    def test_a_graph_refuses_what_eager_mode_refuses(self):
        q, k, v, _ = (x.detach() for x in self.leaves())
        cu = self.boundaries()
        for call in (
            lambda: mk.moba_attention(q, k, v, 0, TOPK),
            lambda: mk.moba_attention(q, k, v, BLOCK, 1.5),
            lambda: mk.moba_attention(q, k.double(), v, BLOCK, TOPK),
            lambda: mk.moba_attention(q, k, v, BLOCK, TOPK, scorer="men"),
            lambda: mk.moba_attention(q, k, v, BLOCK, TOPK, keep_first=1),
            lambda: mk.moba_attention(q, k, v, BLOCK, TOPK, scale=0.0),
            lambda: mk.moba_attention(q[0], k[0], v[0], BLOCK, TOPK),
        ):
            for run in (call, compiled(call)):
                with self.assertRaises((mk.Error, torch._dynamo.exc.TorchDynamoException)):
                    run()
        without_length = compiled(lambda: mk.moba_attention(q[0], k[0], v[0], BLOCK, TOPK, cu_seqlens=cu))
        with self.assertRaisesRegex(Exception, "max_seqlen_k = None: must be given"):
            without_length()

    def test_the_other_functions_break_a_graph_and_run(self):
        q, k, v, w = (x.detach() for x in self.leaves())
        selection = mk.route(q, k, BLOCK, TOPK)
        for call in (
            lambda: mk.route(q + 1, k, BLOCK, TOPK) + 1,
            lambda: mk.compute_centroids(k + 1, BLOCK) + 1,
            lambda: mk.moba_forward(q + 1, k, v, BLOCK, TOPK)[0] + 1,
            lambda: mk.attention_forward(q + 1, k, v, selection, BLOCK, TOPK)[0] + 1,
            lambda: mk.key_conv_forward(k + 1, w) + 1,
        ):
            torch._dynamo.reset()
            self.assertTrue(torch.equal(torch.compile(call, backend="eager")(), call()))

    def test_checkpoints_choose_the_same_blocks_again(self):
        for name, (program, packed) in self.programs().items():
            for reentrant in (False, True):
                with self.subTest(name, reentrant=reentrant):
                    leaves = self.leaves(packed=packed)
                    saved = lambda *x: checkpoint.checkpoint(program, *x, use_reentrant=reentrant)  # noqa: E731, B023
                    self.assert_all_equal(self.by_backward(saved, leaves), self.by_backward(program, leaves))

    def by_backward(self, function, leaves):
        """gradients(), as .backward() leaves them: checkpoints of the older kind know no other way."""
        out = function(*leaves)
        out.backward(torch.linspace(-1, 1, out.numel(), device=self.device).reshape(out.shape).to(out.dtype))
        gradients = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        return (out, *gradients)

    def test_a_selective_checkpoint_keeps_what_was_routed(self):
        attention = torch.ops.mobalab.moba_forward.default
        counts = []

        class Count(_python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                counts.append(function is attention)
                return function(*args, **(kwargs or {}))

        def policy(context, function, *args, **kwargs):
            keep = checkpoint.CheckpointPolicy
            return keep.MUST_SAVE if function is attention else keep.PREFER_RECOMPUTE

        def program(q, k, v, w):
            return checkpoint.checkpoint(
                lambda *x: mk.moba_attention(*x[:3], BLOCK, TOPK, x[3]).sin(),
                q,
                k,
                v,
                w,
                use_reentrant=False,
                context_fn=lambda: checkpoint.create_selective_checkpoint_contexts(policy),
            )

        leaves = self.leaves()
        with Count():
            got = self.gradients(program, leaves)
        self.assertEqual(sum(counts), 1)
        plain = lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w).sin()  # noqa: E731
        self.assert_all_equal(got, self.gradients(plain, leaves))

    def test_transforms_of_torch_func(self):
        for name, (program, packed) in self.programs().items():
            with self.subTest(name):
                leaves = self.leaves(packed=packed)
                wanted = torch.autograd.grad(program(*leaves).sum(), leaves)
                plain = [x.detach() for x in leaves]
                gradient = torch.func.grad(lambda *x: program(*x).sum(), argnums=(0, 1, 2, 3))  # noqa: B023
                self.assert_all_equal(gradient(*plain), wanted)
                out, pulled_back = torch.func.vjp(program, *plain)
                self.assert_all_equal(pulled_back(torch.ones_like(out)), wanted)
        if [int(part) for part in torch.__version__.split(".")[:2]] >= [2, 15]:  # older ones may not compile transforms
            self.assert_all_equal(compiled(gradient)(*plain), wanted)

    def test_values_of_another_width(self):
        for packed in (False, True):
            q, k, v, w = self.leaves(packed=packed)
            v = torch.cat([v, v[..., :8]], dim=-1).detach().requires_grad_()
            sequences = {"cu_seqlens": self.boundaries(), "max_seqlen": LONGEST} if packed else {}

            def program(q, k, v, w):
                return mk.moba_attention(q, k, v, BLOCK, TOPK, w, **sequences)  # noqa: B023

            torch._dynamo.reset()
            out = program(q, k, v, w)
            self.assertEqual(tuple(out.shape), (*q.shape[:-1], v.shape[-1]))
            compiled = torch.compile(program, fullgraph=True, backend="aot_eager")(q, k, v, w)
            self.assert_all_equal([compiled], [out])
            wanted = torch.autograd.grad(out.sum(), (q, k, v, w))
            self.assert_all_equal(torch.autograd.grad(compiled.sum(), (q, k, v, w)), wanted)
            narrow = program(q, k, v[..., :32], w)
            limit = 1e-5 if self.device == "cpu" else 3e-2
            self.assertLess((out[..., :32] - narrow).abs().max().item(), limit)
            self.assertLess((out[..., 32:] - narrow[..., :8]).abs().max().item(), limit)

    def test_torch_checks_the_operators(self):
        for packed, causal in itertools.product((False, True), (True, False)):
            q, k, v, w = self.leaves(packed=packed)
            cu = self.boundaries() if packed else None
            longest = LONGEST if packed else None
            options = {
                "block_size": BLOCK,
                "topk": TOPK,
                "causal": causal,
                "max_seqlen_q": longest,
                "max_seqlen_k": longest,
                "total_blocks": None,
                "scale": None,
                "threads": 0,
            }
            routing = {"fp32_centroids": False, "centred_centroids": False, "scorer": "quest", "scorer_seed": 1, "keep_first": True}
            conv = {"max_seqlen_k": longest, "threads": 0}
            operators = torch.ops.mobalab
            with torch.no_grad():
                out, lse, selection = operators.moba_forward(q, k, v, cu, cu, **options, **routing)
            plain = [x.detach() for x in (q, k, v, w)]
            d_out = torch.ones_like(out)
            for operator, arguments, keywords in (
                (operators.route, (q, k, cu, cu), {**{n: o for n, o in options.items() if n != "scale"}, **routing}),
                (operators.moba_forward, (q, k, v, cu, cu), {**options, **routing}),
                (operators.attention_forward, (q, k, v, selection, cu, cu), options),
                (operators.attention_backward, (*plain[:3], out, d_out, lse, selection, cu, cu), options),
                (operators.key_conv_forward, (k, w, cu), conv),
                (operators.key_conv_backward, (plain[1], plain[3], plain[1], cu), conv),
            ):
                with self.subTest(str(operator), packed=packed, causal=causal):
                    torch._dynamo.reset()
                    torch.library.opcheck(operator.default, arguments, keywords)

    def test_packed_sequences_are_those_alone_with_every_gradient(self):
        leaves = self.leaves(packed=True)
        whole = self.gradients(
            lambda q, k, v, w: mk.moba_attention(q, k, v, BLOCK, TOPK, w, cu_seqlens=self.boundaries()), leaves
        )
        d_out = torch.linspace(-1, 1, whole[0].numel(), device=self.device).reshape(whole[0].shape).to(self.dtype)
        d_weight = torch.zeros_like(leaves[3])
        for a, b in ((0, 37), (37, 120)):
            alone = [x.detach()[None, a:b].requires_grad_() for x in leaves[:3]] + [leaves[3]]
            out = mk.moba_attention(*alone[:3], BLOCK, TOPK, alone[3])
            gradients = torch.autograd.grad(out, alone, d_out[None, a:b])
            for got, want in zip(whole[:4], (out, *gradients[:3])):
                error = (got[a:b] - want[0]).float().norm() / want.float().norm()
                self.assertLess(error.item(), 1e-6 if self.device == "cpu" else 1e-2)
            d_weight += gradients[3]
        self.assertLess(((whole[4] - d_weight).norm() / d_weight.norm()).item(), 1e-5 if self.device == "cpu" else 1e-2)

    def test_longer_lengths_than_needed_change_nothing_but_slots(self):
        q, k, v, w = self.leaves(packed=True)
        cu = self.boundaries()
        call = lambda n: mk.moba_attention(  # noqa: E731
            q, k, v, BLOCK, 20, w, cu_seqlens=cu, max_seqlen=n, return_selection=True
        )
        out, selection = call(None)
        self.assertEqual(selection.shape[2], 5)  # the longest sequence has 6 blocks
        longer, slots = call(120)
        self.assertEqual(slots.shape[2], 7)
        self.assertTrue(torch.equal(slots[..., :5], selection) and (slots[..., 5:] == -1).all())
        self.assertLess((longer - out).abs().max().item(), 1e-6 if self.device == "cpu" else 2e-2)

    def test_a_selection_is_attended_to_as_it_was_routed(self):
        leaves = self.leaves()
        out, selection = mk.moba_attention(*leaves[:3], BLOCK, TOPK, leaves[3], return_selection=True)
        again, same = mk.moba_attention(*leaves[:3], BLOCK, TOPK, leaves[3], selection=selection, return_selection=True)
        self.assertIs(same, selection)
        d_out = torch.ones_like(out)
        self.assert_all_equal(
            (again, *torch.autograd.grad(again, leaves, d_out)), (out, *torch.autograd.grad(out, leaves, d_out))
        )

    def test_centred_centroids_reach_every_router(self):
        """Keys in 16 bits whose mean is 50 spreads: rounding changes every plain selection of so many rows."""
        g = torch.Generator().manual_seed(SEED)
        q, k = (torch.randn(1, 512, heads, 32, generator=g) for heads in (4, 2))
        q, k = (x.to(self.device, torch.float16) for x in (q, k + 50 * torch.randn(2, 32, generator=g)))
        plain = mk.route(q, k, BLOCK, TOPK)
        wanted = mk.route(q, k, BLOCK, TOPK, centred_centroids=True)
        self.assertFalse(torch.equal(plain, wanted))
        for centred, selection in ((True, wanted), (False, plain)):
            options = {"centred_centroids": centred}
            self.assertTrue(torch.equal(mk.moba_forward(q, k, k, BLOCK, TOPK, **options)[2], selection))
            attended = mk.moba_attention(q, k, k, BLOCK, TOPK, return_selection=True, **options)
            self.assertTrue(torch.equal(attended[1], selection))

    def test_centred_centroids_reach_the_layer(self):
        torch.manual_seed(SEED)
        options = {"head_dim": 32, "block_size": BLOCK, "topk": TOPK, "device": self.device, "dtype": torch.float16}
        layer = mk.MobaAttention(64, 4, 2, bias=True, centred_centroids=True, **options)
        torch.nn.init.normal_(layer.qkv.bias[128:192], std=50)  # of the keys, whose spread is below 1
        x = torch.randn(1, 512, 64).to(self.device, torch.float16)
        with torch.no_grad():
            q, k, _ = layer.qkv(x).unflatten(-1, (-1, 32)).split([4, 2, 2], dim=2)
            _, selection = layer(x, return_selection=True)
        wanted = mk.route(q, k, BLOCK, TOPK, centred_centroids=True)
        self.assertTrue(torch.equal(selection, wanted))
        self.assertFalse(torch.equal(mk.route(q, k, BLOCK, TOPK), wanted))

    def test_arguments_that_contradict_each_other(self):
        q, k, v, _ = (x.detach() for x in self.leaves(packed=True))
        cu = self.boundaries()
        selection = mk.moba_attention(q, k, v, BLOCK, TOPK, cu_seqlens=cu, return_selection=True)[1]
        for kind, text, options in (
            (TypeError, "cu_seqlens given with cu_seqlens_q", {"cu_seqlens": cu, "cu_seqlens_q": cu}),
            (
                TypeError,
                "cu_seqlens given with max_seqlen_q",
                {"cu_seqlens": cu, "max_seqlen_q": 83, "max_seqlen_k": 83, "total_blocks": 9},
            ),
            (TypeError, "max_seqlen given without cu_seqlens", {"max_seqlen": 83}),
            (TypeError, "max_seqlen = 1.5", {"cu_seqlens": cu, "max_seqlen": 1.5}),
            (ValueError, "max_seqlen = -1", {"cu_seqlens": cu, "max_seqlen": -1}),
            (TypeError, "cu_seqlens is a list", {"cu_seqlens": BOUNDARIES}),
            (TypeError, "cu_seqlens_q has dtype int64", {"cu_seqlens": cu.long()}),
            (TypeError, "return_selection = 1", {"cu_seqlens": cu, "return_selection": 1}),
            (TypeError, "selection is a list", {"cu_seqlens": cu, "selection": [1]}),
            (ValueError, "selection has shape", {"cu_seqlens": cu, "selection": selection[..., :1].contiguous()}),
            (
                ValueError,
                "selection given with scorer = 'max'",
                {"cu_seqlens": cu, "selection": selection, "scorer": "max"},
            ),
            (
                ValueError,
                "selection given with keep_first = True",
                {"cu_seqlens": cu, "selection": selection, "keep_first": True},
            ),
        ):
            with self.subTest(text), self.assertRaisesRegex(kind, text) as raised:
                mk.moba_attention(q, k, v, BLOCK, TOPK, **options)
            self.assertIsInstance(raised.exception, mk.Error)

    def test_forward_mode_is_refused(self):
        q, k, v = (x.detach() for x in self.leaves()[:3])
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(q, torch.ones_like(q))
            for tensors in ((dual, k, v), (q, k, torch.autograd.forward_ad.make_dual(v, torch.ones_like(v)))):
                with self.assertRaises((NotImplementedError, RuntimeError)):  # torch's: there is no jvp
                    mk.moba_attention(*tensors, BLOCK, TOPK)
                with self.assertRaisesRegex(mk.Error, "has a tangent"):
                    mk.moba_forward(*tensors, BLOCK, TOPK)
            out = mk.moba_attention(q, k, v, BLOCK, TOPK)  # without one
        self.assertTrue(torch.equal(out, mk.moba_attention(q, k, v, BLOCK, TOPK)))


@unittest.skipIf(NO_OPERATORS, "needs torch 2.4")
class OnCpu(Operators, unittest.TestCase):
    def setUp(self):
        self.dtype = torch.float32

    def test_a_length_too_short_is_refused(self):
        q, k, v, _ = (x.detach() for x in self.leaves(packed=True))
        with self.assertRaisesRegex(ValueError, "max_seqlen_q = 80: must be at least .* nearest valid choice: 83"):
            mk.moba_attention(q, k, v, BLOCK, TOPK, cu_seqlens=self.boundaries(), max_seqlen=80)

    def test_inductor(self):
        leaves = self.leaves()
        program, _ = self.programs()["between other operations"]
        torch._dynamo.reset()
        try:
            got = self.gradients(torch.compile(program, fullgraph=True), leaves)
        except torch._inductor.exc.InductorError as error:
            self.skipTest(f"inductor cannot compile here: {str(error).splitlines()[0]}")
        for a, b in zip(got, self.gradients(program, leaves)):
            self.assertLess(((a - b).norm() / b.norm()).item(), 1e-4)


@unittest.skipIf(
    NO_OPERATORS or not torch.cuda.is_available() or mk.backend_available("cuda") is not None,
    "needs torch with CUDA and the CUDA backend",
)
class OnCuda(Operators, unittest.TestCase):
    device = "cuda"

    def setUp(self):
        self.dtype = torch.bfloat16

    def test_cuda_graphs_replay_forward_and_backward(self):
        for name in ("plain", "options", "packed", "selection given"):
            program, packed = self.programs()[name]
            with self.subTest(name):
                leaves = self.leaves(packed=packed)
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    self.gradients(program, leaves)
                torch.cuda.current_stream().wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    captured = self.gradients(program, leaves)
                for seed in (1, 2):
                    fresh = self.leaves(packed=packed, seed=seed)
                    with torch.no_grad():
                        for leaf, values in zip(leaves, fresh):
                            leaf.copy_(values)
                    graph.replay()
                    self.assert_all_equal(captured, self.gradients(program, fresh))

    def test_inductor_with_cuda_graphs(self):
        program, _ = self.programs()["between other operations"]
        torch._dynamo.reset()
        fast = torch.compile(program, fullgraph=True, mode="reduce-overhead")
        for seed in range(4):  # the first calls warm up and capture
            leaves = self.leaves(seed=seed)
            got = [x.clone() for x in self.gradients(fast, leaves)]
            for a, b in zip(got, self.gradients(program, leaves)):
                self.assertLess(((a - b).float().norm() / b.float().norm()).item(), 2e-2)


if __name__ == "__main__":
    unittest.main()
