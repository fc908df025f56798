"""attn_implementation="mobalab" of Hugging Face transformers, on small random models: training, prefill, decoding.

Usage: python_hugging_face_test.py LIBRARY; skipped with a message without torch 2.4 or transformers 4.56. Everything runs on
the CPU, and on the GPU where there is one.
"""

import gc
import os
import sys
import unittest
import unittest.mock
import weakref
from pathlib import Path

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "kernels" / "python"))

import hugging_face_models as models  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from hugging_face_models import BLOCK, SEED, TOPK, Models, gap  # noqa: E402

import mobalab_kernels as mk  # noqa: E402
from mobalab_kernels import hugging_face  # noqa: E402

hugging_face.register(BLOCK, 1000, name="mobalab_all")


class Attention(Models):
    def test_all_blocks_are_dense_attention(self):
        ids = self.text()
        got, want = (self.model(name)(ids, labels=ids) for name in ("mobalab_all", "sdpa"))
        self.assertLess(gap(got.logits, want.logits), self.limit)
        sparse = self.model()(ids).logits
        self.assertGreater(gap(sparse, want.logits), 0.3)

    def test_gradients_are_those_of_dense_attention(self):
        ids, gradients = self.text(), []
        for name in ("mobalab_all", "sdpa"):
            model = self.model(name).train()
            model.gradient_checkpointing_enable()
            model(ids, labels=ids).loss.backward()
            gradients.append({n: p.grad for n, p in model.named_parameters()})
        for name, want in gradients[1].items():
            error = ((gradients[0][name] - want).float().norm() / want.float().norm()).item()
            self.assertLess(error, 3 * self.limit, name)

    def test_padding_on_either_side_changes_no_token(self):
        model, lengths = self.model(), (100, 37, 61)
        for left in (False, True):
            ids, mask = self.padded(lengths, left)
            with torch.no_grad():
                together = model(ids, attention_mask=mask).logits
            for row, n in enumerate(lengths):
                real = mask[row] == 1
                with torch.no_grad():
                    alone = model(ids[row][real][None]).logits[0]
                self.assertLess(gap(together[row][real], alone), self.limit, f"{n} tokens, left {left}")

    def test_equal_padding_of_all_rows(self):
        model, ids = self.model(), self.text(2, 50)
        padding = torch.zeros(2, 7, dtype=torch.long, device=self.device)
        with torch.no_grad():
            want = model(ids).logits
            for left in (False, True):
                wide = torch.cat([padding, ids] if left else [ids, padding], dim=1)
                got = model(wide, attention_mask=(wide != 0).long()).logits
                self.assertLess(gap(got[:, 7:] if left else got[:, :50], want), self.limit)

    def test_decoding_token_by_token_is_the_prefill(self):
        model, ids = self.model(), self.text()
        with torch.no_grad():
            whole = model(ids).logits
            cache, steps = None, []
            for part in (ids[:, :40], ids[:, 40:71], *ids[:, 71:].split(1, dim=1)):  # a prefill, a chunk, then tokens
                step = model(part, past_key_values=cache, use_cache=True)
                cache = step.past_key_values
                steps.append(step.logits)
        self.assertLess(gap(torch.cat(steps, dim=1), whole), self.limit)

    def test_generation_of_a_padded_batch_is_that_of_each_text(self):
        model, lengths = self.model(), (70, 33, 51)
        ids, mask = self.padded(lengths, left=True)
        alone = [self.generated(model, ids[row, -n:][None]) for row, n in enumerate(lengths)]
        for options in ({}, {"cache_implementation": "static", "disable_compile": True}):
            with self.subTest(**options):
                self.assert_same_texts(*self.generated(model, ids, mask, **options), alone)

    def test_a_cache_of_fixed_length_is_one_that_grows(self):
        model, ids = self.model(), self.text(2, 40)
        tokens, logits = self.generated(model, ids)
        fixed, others = self.generated(model, ids, cache_implementation="static", disable_compile=True)
        for row in range(2):
            same = self.until_they_part(tokens[row], fixed[row])
            self.assertLess(gap(others[row, :same], logits[row, :same]), self.limit)

    def test_packed_texts_are_those_alone(self):
        model, ids = self.model(), self.text(1, 100)
        cu = torch.tensor([0, 37, 100], dtype=torch.int32, device=self.device)
        positions = torch.cat([torch.arange(37), torch.arange(63)])[None].to(self.device)
        with torch.no_grad():
            packed = model(
                ids,
                position_ids=positions,
                cu_seq_lens_q=cu,
                cu_seq_lens_k=cu,
                max_length_q=63,
                max_length_k=63,
                use_cache=False,
            ).logits
            alone = torch.cat([model(ids[:, :37]).logits, model(ids[:, 37:]).logits], dim=1)
            self.assertLess(gap(packed, alone), self.limit)
            with self.assertRaisesRegex(ValueError, "cu_seq_lens_q"):  # or else they would see each other
                model(ids, position_ids=positions, use_cache=False)

    def test_one_graph(self):
        model, ids = self.model(), self.text()
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            self.assertLess(gap(compiled(ids, use_cache=True).logits, model(ids).logits), self.limit)

    def test_windows_that_hold_the_whole_text_are_none(self):
        ids = self.text()
        with torch.no_grad():
            want = self.model(kind="Mistral", sliding_window=None)(ids).logits
            self.assertLess(gap(self.model(kind="Mistral", sliding_window=100)(ids).logits, want), self.limit)
        with self.assertRaisesRegex(ValueError, "layer 0 has a sliding window of 50 tokens"):
            self.model(kind="Mistral", sliding_window=50)(ids)

    def test_windows_that_are_passed_in_decoding_are_refused(self):
        model, ids = self.model(kind="Mistral", sliding_window=50), self.text(1, 40)
        with self.assertRaisesRegex(ValueError, "sliding.window"):
            model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)

    def test_packed_texts_in_windows_are_refused_too(self):
        model, ids = self.model(kind="Mistral", sliding_window=200), self.text(1, 100)
        positions = torch.cat([torch.arange(37), torch.arange(63)])[None].to(self.device)
        with self.assertRaisesRegex(ValueError, "layer 0 has a mask of its own"):  # or else they would see each other
            model(ids, position_ids=positions, use_cache=False)

    def test_a_mask_without_a_column_for_each_token_is_refused(self):
        model, (ids, mask) = self.model(), self.padded((40, 28), left=True)
        with torch.no_grad():
            cache = model(ids, attention_mask=mask, use_cache=True).past_key_values
            with self.assertRaisesRegex(ValueError, r"attention_mask has shape \(2, 1\)"):
                model(ids[:, :1], attention_mask=mask[:, -1:], past_key_values=cache, use_cache=True)

    def test_packed_texts_have_no_padding(self):
        model, ids = self.model(), self.text(1, 100)
        cu = torch.tensor([0, 37, 100], dtype=torch.int32, device=self.device)
        mask = torch.ones_like(ids)
        mask[:, :5] = 0
        packed = {"cu_seq_lens_q": cu, "cu_seq_lens_k": cu, "max_length_q": 63, "max_length_k": 63, "use_cache": False}
        with self.assertRaisesRegex(ValueError, "cu_seq_lens_q given with padding"):
            model(ids, attention_mask=mask, **packed)

    def test_what_changes_scores_or_weights_is_refused(self):
        attend = transformers.AttentionInterface()["mobalab"]
        q, k = (torch.randn(1, heads, 20, 32, device=self.device, dtype=self.dtype) for heads in (4, 2))
        for name in ("softcap", "s_aux", "sinks", "position_bias", "head_mask"):
            with self.subTest(name), self.assertRaisesRegex(ValueError, f"has {name}"):
                attend(torch.nn.Module(), q, k, k, None, **{name: torch.ones(4)})

    def test_a_mask_is_read_once_a_pass_and_not_kept(self):
        reads, masks = [], []
        plain = hugging_face._Places.__init__

        def counted(places, mask):
            reads.append(1)
            masks.append(weakref.ref(mask))
            plain(places, mask)

        ids, mask = self.padded((60, 37), left=True)
        with unittest.mock.patch.object(hugging_face._Places, "__init__", counted), torch.no_grad():
            self.model()(ids, attention_mask=mask)
        gc.collect()
        self.assertEqual((len(reads), [alive() for alive in masks]), (1, [None]))

    def test_centred_centroids_are_taken(self):
        """Keys in 16 bits whose mean is 50 spreads: other blocks are chosen than by plain centroids."""
        g = torch.Generator().manual_seed(SEED)
        q, k = (torch.randn(1, heads, 512, 32, generator=g) for heads in (4, 2))
        q, k = (x.to(self.device, torch.float16) for x in (q, k + 50 * torch.randn(2, 1, 32, generator=g)))
        hugging_face.register(BLOCK, TOPK, name="mobalab_centred", centred_centroids=True)
        attend = transformers.AttentionInterface()["mobalab_centred"]
        out, _ = attend(torch.nn.Module(), q, k, q[:, :2], None)
        plain, centred = (
            mk.moba_attention(*(x.transpose(1, 2) for x in (q, k, q[:, :2])), BLOCK, TOPK, centred_centroids=centred)
            for centred in (False, True)
        )
        self.assertTrue(torch.equal(out, centred))
        self.assertFalse(torch.equal(plain, centred))

    def test_what_is_refused(self):
        ids = self.text()
        with self.assertRaisesRegex(ValueError, "dropout = 0.5: must be 0"):
            self.model(attention_dropout=0.5).train()(ids)
        square = torch.ones(2, 1, 100, 100, dtype=self.dtype, device=self.device)
        with self.assertRaisesRegex(ValueError, "attention_mask is a"):
            self.model()(ids, attention_mask=square)
        for kind, text, options in (
            (ValueError, "topk = 0", {"topk": 0}),
            (TypeError, "block_size = 16.0", {"block_size": 16.0}),
            (ValueError, "name = ''", {"name": ""}),
            (ValueError, "scorer = 'men'", {"scorer": "men"}),
            (TypeError, "keep_first = 1", {"keep_first": 1}),
            (ValueError, "fp32_centroids, centred_centroids", {"fp32_centroids": True, "centred_centroids": True}),
        ):
            with self.assertRaisesRegex(kind, text) as raised:
                hugging_face.register(**{"block_size": 16, "topk": 3, "name": "refused", **options})
            self.assertIsInstance(raised.exception, mk.Error)


class OnCpu(models.OnCpu, Attention, unittest.TestCase):
    pass


class OnCuda(models.OnCuda, Attention, unittest.TestCase):
    pass


if __name__ == "__main__":
    print("transformers", transformers.__version__, "torch", torch.__version__)
    unittest.main()
