"""Decoding by attn_implementation="mobalab" of Hugging Face transformers with summaries that are kept from pass to pass,
against passes over whole texts and against caches of which nothing is kept.

Usage: python_hugging_face_decode_test.py LIBRARY; skipped with a message without torch 2.4 or transformers 4.56.
Everything runs on the CPU, and on the GPU where there is one.
"""

import contextlib
import copy
import gc
import importlib
import io
import os
import sys
import unittest
import unittest.mock
from pathlib import Path

os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "kernels" / "python"))

import hugging_face_models as models  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from hugging_face_models import BLOCK, LAYERS, SEED, TOPK, Models, gap  # noqa: E402

import mobalab_kernels as mk  # noqa: E402
from mobalab_kernels import _decode, _kept_summaries, _summarised_cache, hugging_face  # noqa: E402


@contextlib.contextmanager
def appended_keys():
    """The numbers of keys that steps over kept summaries are told to summarise, in the order of calls."""
    appended, plain = [], _decode.moba_decode

    def counted(*args, **options):
        appended.append(options["appended"])
        return plain(*args, **options)

    with unittest.mock.patch.object(_decode, "moba_decode", counted):
        yield appended


class KeptSummaries(Models):
    def caches(self, model):
        """Caches whose keys stay where they are, by name."""
        yield "summarised", hugging_face.SummarisedCache()
        yield "room from the start", hugging_face.SummarisedCache(max_tokens=300)
        yield "static", transformers.StaticCache(config=model.config, max_cache_len=160)

    def passes(self, model, cache, ids, first=0, **options):
        """Logits of one pass over the first tokens and one for each of the others."""
        parts = (*([ids[:, :first]] if first else []), *ids[:, first:].split(1, dim=1))
        with torch.no_grad():
            return torch.cat([model(part, past_key_values=cache, **options).logits for part in parts], dim=1)

    def whole(self, model, ids):
        with torch.no_grad():
            return model(ids).logits

    def test_a_step_summarises_what_has_arrived(self):
        model, ids = self.model(), self.text(2, 100)
        whole = self.whole(model, ids)
        for name, cache in self.caches(model):
            with self.subTest(name), appended_keys() as appended:
                logits = self.passes(model, cache, ids, 60)
                self.assertLess(gap(logits, whole), self.limit)
                self.assertEqual(appended, [61] * LAYERS + [1] * 39 * LAYERS)
        with appended_keys() as appended:  # its keys are copied at each step
            self.passes(model, transformers.DynamicCache(), ids, 60)
            self.assertEqual(appended, [])

    def test_every_greedy_token_is_that_of_the_whole_text_before_it(self):
        model, ids = self.model(), self.text(2, 40)
        for name, cache in self.caches(model):
            with self.subTest(name):
                made = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    past_key_values=cache,
                    max_new_tokens=60,
                    do_sample=False,
                    disable_compile=True,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
                self.assertEqual(made.sequences.shape, (2, 100))
                whole = self.whole(model, made.sequences)
                self.assertLess(gap(torch.stack(made.logits, dim=1), whole[:, 39:-1]), self.limit)

    def test_chunks_between_steps(self):
        model, ids = self.model(), self.text(2, 120)
        whole = self.whole(model, ids)
        for name, cache in self.caches(model):
            with self.subTest(name), appended_keys() as appended, torch.no_grad():
                ends = (30, 31, 33, 70, 80, 81, 120)  # of 30, 1, 2, 37, 10, 1, 39 tokens
                parts = [ids[:, a:b] for a, b in zip((0, *ends), ends)]
                logits = torch.cat([model(part, past_key_values=cache).logits for part in parts], dim=1)
                self.assertLess(gap(logits, whole), self.limit)
                self.assertEqual(appended[::LAYERS], [31, 2, 47, 1])

    def test_a_cache_that_was_cropped(self):
        model, ids, others = self.model(), self.text(2, 80), self.text(2, 100)
        for removed in (1, 40):
            for name, cache in self.caches(model):
                if name == "static" and not hasattr(transformers.cache_utils.StaticLayer, "crop"):
                    continue  # before version 5
                with self.subTest(name, removed=removed), appended_keys() as appended:
                    self.passes(model, cache, ids, 72)
                    cache.crop(-removed)
                    kept = 80 - removed
                    text = torch.cat([ids[:, :kept], others[:, kept : kept + 20].flip(0)], dim=1)
                    logits = self.passes(model, cache, text[:, kept:])
                    self.assertLess(gap(logits, self.whole(model, text)[:, kept:]), self.limit)
                    self.assertEqual(appended[LAYERS:], [1] * 27 * LAYERS)

    def test_entries_of_the_batch_in_another_order(self):
        model, ids = self.model(), self.text(4, 90)
        changes = {
            "reordered": (lambda cache: cache.reorder_cache(torch.tensor([2, 2, 0, 3])), [2, 2, 0, 3]),
            "repeated": (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2, 3, 3]),
            "selected": (lambda cache: cache.batch_select_indices(torch.tensor([3, 1])), [3, 1]),
            "selected by a mask": (lambda cache: cache.batch_select_indices(torch.tensor([True, False, True, False])), [0, 2]),
        }  # fmt: skip
        for name, (change, entries) in changes.items():
            with self.subTest(name), appended_keys() as appended:
                cache = hugging_face.SummarisedCache()
                self.passes(model, cache, ids[:, :60], 40)
                change(cache)
                text = torch.cat([ids[entries, :60], self.text(9, 90)[-len(entries) :, 60:]], dim=1)
                logits = self.passes(model, cache, text[:, 60:])
                self.assertLess(gap(logits, self.whole(model, text)[:, 60:]), self.limit)
                self.assertEqual(appended[::LAYERS], [41] + [1] * 49)
        both = hugging_face.SummarisedCache(), transformers.DynamicCache()
        for cache in both:
            self.passes(model, cache, ids[:, :60], 40)
            for layer in cache.layers:
                layer.keys[:, :, 5:40] *= -3  # which no summary has seen
            cache.reorder_cache(torch.tensor([2, 2, 0, 3]))
        got, want = (self.passes(model, cache, ids[:, 60:]) for cache in both)
        self.assertLess(gap(got, want), self.limit)
        both = hugging_face.SummarisedCache(), transformers.DynamicCache()
        for cache in both:
            self.passes(model, cache, ids[:, :60], 40)
            for layer in cache.layers:  # tensors of somebody else's
                layer.keys, layer.values = layer.keys.flip(2), layer.values.flip(2)
            cache.reorder_cache(torch.tensor([2, 2, 0, 3]))
        got, want = (self.passes(model, cache, ids[:, 60:]) for cache in both)
        self.assertLess(gap(got, want), self.limit)
        static = transformers.StaticCache(config=model.config, max_cache_len=100)
        self.passes(model, static, ids[:, :60], 40)
        static.reorder_cache(torch.tensor([2, 2, 0, 3]))  # other tensors, of which nothing is known
        text = torch.cat([ids[[2, 2, 0, 3], :60], ids[:, 60:]], dim=1)
        logits = self.passes(model, static, text[:, 60:])
        self.assertLess(gap(logits, self.whole(model, text)[:, 60:]), self.limit)

    def test_beams(self):
        model = self.model()
        ids, mask = self.padded((50, 31), left=True)
        options = {"attention_mask": mask, "num_beams": 3, "max_new_tokens": 20, "do_sample": False}
        options |= {"output_scores": True, "return_dict_in_generate": True}
        with appended_keys() as appended:
            kept = model.generate(ids, past_key_values=hugging_face.SummarisedCache(), **options)
            self.assertEqual(set(appended[LAYERS:]), {1})
        plain = model.generate(ids, **options)
        self.assertLess(gap(kept.sequences_scores, plain.sequences_scores), self.limit)  # other beams may be as good
        if self.device == "cpu":
            self.assertEqual(kept.sequences.tolist(), plain.sequences.tolist())

    def test_another_text_in_the_same_cache(self):
        model = self.model()
        for name, cache in self.caches(model):
            batches = (2, 2, 2 if name == "static" else 3)  # a static one has the batch of its first text
            for number, batch in enumerate(batches):
                with self.subTest(name, batch=batch):
                    ids = self.text(batch + number, 70)[number:]
                    cache.reset()
                    if cache.get_seq_length() > 0:  # before version 5 tokens stay, of zeros
                        cache.crop(-int(cache.get_seq_length()))
                    logits = self.passes(model, cache, ids, 50)
                    self.assertLess(gap(logits, self.whole(model, ids)), self.limit)

    def test_keys_that_somebody_else_wrote(self):
        model, ids = self.model(), self.text(2, 90)
        for name, cache in self.caches(model):
            with self.subTest(name), appended_keys() as appended:
                plain = transformers.DynamicCache()
                for one in (cache, plain):
                    self.passes(model, one, ids[:, :80], 60)
                    with torch.no_grad():
                        for layer in one.layers:
                            layer.keys[:, :, 5:40].mul_(-3)  # one write, the fewest
                got, want = (self.passes(model, one, ids[:, 80:]) for one in (cache, plain))
                self.assertLess(gap(got, want), self.limit)
                self.assertEqual(appended[-10 * LAYERS :], [81] * LAYERS + [1] * 9 * LAYERS)

    def test_padding_that_is_another_one_later(self):
        model, ids = self.model(), self.text(2, 90)
        early, late, none = torch.ones_like(ids), torch.ones_like(ids), torch.ones_like(ids)
        early[0, :9] = late[0, :20] = late[1, 30:41] = 0
        masks = (early, early, early, late, late, none, early, none, none)
        ends = (60, 61, 62, 63, 64, 65, 66, 67, 68)

        def logits(cache):
            parts = zip((0, *ends), ends, masks)
            with torch.no_grad():
                return torch.cat([
                    model(ids[:, a:b], attention_mask=mask[:, :b], past_key_values=cache).logits for a, b, mask in parts
                ], dim=1)  # fmt: skip

        want = logits(transformers.DynamicCache())
        for name, cache in self.caches(model):
            with self.subTest(name), appended_keys() as appended:
                got = logits(cache)
                self.assertLess(gap(got[:, 60:], want[:, 60:]), self.limit)
                self.assertEqual(appended[::LAYERS], [61, 1, 63, 1, 65, 66, 67, 1])

    def test_a_copy_goes_on_by_itself(self):
        model, ids, others = self.model(), self.text(2, 90), self.text(4, 90)[2:]
        for name, cache in self.caches(model):
            if name == "static":
                continue  # transformers' own
            self.passes(model, cache, ids[:, :60], 40)
            saved = io.BytesIO()
            torch.save(cache, saved)
            saved.seek(0)
            loaded = torch.load(saved, weights_only=False)
            shallow = copy.copy(cache)
            shallow.layers = [copy.copy(layer) for layer in cache.layers]
            ways = {
                "itself": (cache, ids),
                "deep": (copy.deepcopy(cache), others),
                "shallow": (shallow, others.flip(0)),
                "loaded": (loaded, ids.flip(0)),
            }
            for first in (60, 75):  # the others have gone on in between
                for way, (one, text) in ways.items():
                    with self.subTest(name, way=way, first=first):
                        text = torch.cat([ids[:, :60], text[:, 60:]], dim=1)
                        logits = self.passes(model, one, text[:, first : first + 15])
                        whole = self.whole(model, text)[:, first : first + 15]
                        self.assertLess(gap(logits, whole), self.limit)

    def test_two_names_on_one_cache(self):
        model, ids = self.model(), self.text(2, 90)
        hugging_face.register(block_size=8, topk=2, scorer="quest", name="mobalab_quest")
        hugging_face.register(BLOCK, TOPK, scorer="max", name="mobalab_max")
        cache, plain = hugging_face.SummarisedCache(), transformers.DynamicCache()
        got, want = [], []
        for logits, one in ((got, cache), (want, plain)):
            model.set_attn_implementation("mobalab")
            logits.append(self.passes(model, one, ids[:, :70], 50))
            for end in range(71, 91):
                model.set_attn_implementation(("mobalab", "mobalab", "mobalab_quest", "mobalab_max")[end % 4])
                logits.append(self.passes(model, one, ids[:, end - 1 : end]))
        self.assertLess(gap(torch.cat(got, dim=1), torch.cat(want, dim=1)), self.limit)

    def test_other_scorers_are_kept_as_well(self):
        ids = self.text(2, 90)
        for number, options in enumerate((
            {"scorer": "submean-4"}, {"scorer": "max", "keep_first": True}, {"scorer": "random", "scorer_seed": 2**64 - 1},
            {"fp32_centroids": True}, {"centred_centroids": True}, {"topk": 1000},
        )):  # fmt: skip
            with self.subTest(**options), appended_keys() as appended:
                name = f"mobalab_{number}"
                hugging_face.register(**{"block_size": BLOCK, "topk": TOPK, "name": name, **options})
                model = self.model(name)
                cache = hugging_face.SummarisedCache()
                logits = [self.passes(model, cache, ids[:, :70])]
                cache.reorder_cache(torch.tensor([0, 1]))
                logits.append(self.passes(model, cache, ids[:, 70:]))
                self.assertLess(gap(torch.cat(logits, dim=1), self.whole(model, ids)), self.limit)
                self.assertEqual(appended, [2] * LAYERS + [1] * 88 * LAYERS)

    def test_rooms_that_grow(self):
        model, ids = self.model(), self.text(2, 90)
        with appended_keys() as appended, unittest.mock.patch.object(_summarised_cache, "_ROOM", 16):
            logits = self.passes(model, hugging_face.SummarisedCache(), ids, 30)  # room for 46, then 63 and 80
            self.assertLess(gap(logits, self.whole(model, ids)), self.limit)
            again = [n for n in appended[::LAYERS] if n > 1]
            self.assertEqual(again, [31, 48, 65, 82])  # from the second pass over a room on

    def test_values_of_another_width(self):
        attend = transformers.AttentionInterface()["mobalab"]
        g = torch.Generator().manual_seed(SEED)
        shapes = ((4, 32), (2, 32), (2, 24))
        q, k, v = (torch.randn(2, heads, 90, d, generator=g).to(self.device, self.dtype) for heads, d in shapes)
        mask = torch.ones(2, 90, dtype=torch.long, device=self.device)
        mask[1, :30] = 0
        for padded in (False, True):
            cache = hugging_face.SummarisedCache()
            with self.subTest(padded=padded), appended_keys() as appended, torch.no_grad():
                for first, end in ((0, 60), *((t, t + 1) for t in range(60, 90))):
                    keys, values = cache.update(k[:, :, first:end], v[:, :, first:end], 0)
                    given = hugging_face._mask(2, end - first, end, first, attention_mask=mask) if padded else None
                    out, _ = attend(torch.nn.Module(), q[:, :, first:end], keys, values, given)
                for row in range(2):
                    begin = 30 if padded and row else 0
                    of_row = (x[row : row + 1, :, begin:].transpose(1, 2) for x in (q, k, v))
                    want = mk.moba_attention(*of_row, BLOCK, TOPK)[0, -1]
                    self.assertLess(gap(out[row, -1], want), self.limit)
                self.assertEqual(appended, [61] + [1] * 29)

    def test_keys_of_two_layers_in_one_tensor(self):
        attend = transformers.AttentionInterface()["mobalab"]
        g = torch.Generator().manual_seed(SEED)
        q, k = (torch.randn(LAYERS, 2, heads, 90, 32, generator=g).to(self.device, self.dtype) for heads in (4, 2))
        together = torch.zeros_like(k)
        with torch.no_grad():
            for t in range(60, 90):
                for layer in range(LAYERS):
                    together[layer, :, :, : t + 1] = k[layer, :, :, : t + 1]
                    keys = together[layer, :, :, : t + 1]
                    out, _ = attend(torch.nn.Module(), q[layer, :, :, t : t + 1], keys, keys, None)
                    want = mk.moba_attention(*(x[layer].transpose(1, 2) for x in (q[..., t : t + 1, :], k[..., : t + 1, :],
                                                                                  k[..., : t + 1, :])), BLOCK, TOPK)  # fmt: skip
                    self.assertLess(gap(out, want), self.limit)

    def test_a_tensor_that_got_other_memory(self):
        attend = transformers.AttentionInterface()["mobalab"]
        g = torch.Generator().manual_seed(SEED)
        q, k, others = (torch.randn(2, heads, 90, 32, generator=g).to(self.device, self.dtype) for heads in (4, 2, 2))
        keys = k[:, :, :64].clone()
        rows = lambda *tensors: (x.transpose(1, 2) for x in tensors)  # noqa: E731
        with torch.no_grad(), appended_keys() as appended:
            for data in (k, k, others, others):
                keys.data = data[:, :, :64].clone()
                out, _ = attend(torch.nn.Module(), q[:, :, 63:64], keys, keys, None)
                self.assertLess(gap(out, mk.moba_attention(*rows(q[:, :, 63:64], keys, keys), BLOCK, TOPK)), self.limit)
            self.assertEqual(appended, [64] * 3)

    def test_nothing_is_kept_of_tensors_that_are_gone(self):
        model, ids = self.model(), self.text()
        gc.collect()
        before = len(_kept_summaries._known)
        cache = hugging_face.SummarisedCache()
        self.passes(model, cache, ids, 90)
        self.assertEqual(len(_kept_summaries._known), before + LAYERS)
        del cache
        gc.collect()
        self.assertEqual(len(_kept_summaries._known), before)

    def test_passes_without_kept_summaries(self):
        """Where gradients or inference tensors rule them out, and where a step does not take what attention takes."""
        model, ids = self.model(), self.text(2, 80)
        whole = self.whole(model, ids)
        static = lambda: transformers.StaticCache(config=model.config, max_cache_len=100)  # noqa: E731
        with appended_keys() as appended:
            with torch.inference_mode():
                self.assertLess(gap(self.passes(model, static(), ids, 70), whole), self.limit)
            self.assertEqual(appended, [])
            with torch.inference_mode():  # where its own tensors count
                self.assertLess(gap(self.passes(model, hugging_face.SummarisedCache(), ids, 70), whole), self.limit)
            self.assertEqual(appended[::LAYERS], [71] + [1] * 9)
        refused = mk.Error(_kept_summaries.UNSUPPORTED, "more than a step takes")
        with unittest.mock.patch.object(_decode, "moba_decode", side_effect=refused):
            self.assertLess(gap(self.passes(model, hugging_face.SummarisedCache(), ids, 70), whole), self.limit)
        cache = hugging_face.SummarisedCache()
        self.passes(model, cache, ids[:, :70], 60)
        with self.assertRaisesRegex(ValueError, "k requires grad: must be without it in SummarisedCache"):
            model(ids[:, 70:], past_key_values=cache)

    def test_what_a_cache_refuses(self):
        cache = hugging_face.SummarisedCache()
        k = torch.zeros(2, 2, 5, 8, dtype=self.dtype, device=self.device)
        cache.update(k, k, 0)
        for keys, values, text in (
            (k[:1], k, r"keys of new tokens have shape \(1, 2, 5, 8\): must be like those of the cache, \(2, 2, 5, 8\)"),
            (k, k[..., :4], r"values of new tokens have shape \(2, 2, 5, 4\)"),
            (k.double(), k, "keys of new tokens have dtype torch.float64"),
        ):
            with self.assertRaisesRegex(ValueError, text):
                cache.update(keys, values, 0)
        with self.assertRaisesRegex(ValueError, "max_tokens = 0"):
            hugging_face.SummarisedCache(max_tokens=0)
        with self.assertRaisesRegex(TypeError, "max_tokens = 2.5"):
            hugging_face.SummarisedCache(max_tokens=2.5)

    def test_generation_of_a_padded_batch_is_that_of_each_text(self):
        model, lengths = self.model(), (70, 33, 51)
        ids, mask = self.padded(lengths, left=True)
        alone = [self.generated(model, ids[row, -n:][None]) for row, n in enumerate(lengths)]
        static = {"cache_implementation": "static", "disable_compile": True}
        for options in (static, {"past_key_values": hugging_face.SummarisedCache()}):
            with self.subTest(**options), appended_keys() as appended:
                tokens, logits = self.generated(model, ids, mask, **options)
                self.assertEqual(appended, [71] * LAYERS + [1] * 10 * LAYERS)
                self.assert_same_texts(tokens, logits, alone)

    def test_an_older_transformers_is_named(self):
        with unittest.mock.patch.dict(sys.modules, {"transformers.cache_utils": None}):
            del sys.modules["mobalab_kernels._summarised_cache"], sys.modules["mobalab_kernels.hugging_face"]
            with self.assertRaisesRegex(ImportError, "transformers .*: must be 4.56 or later"):
                importlib.import_module("mobalab_kernels.hugging_face")


class OnCpu(models.OnCpu, KeptSummaries, unittest.TestCase):
    pass


class OnCuda(models.OnCuda, KeptSummaries, unittest.TestCase):
    pass


if __name__ == "__main__":
    print("transformers", transformers.__version__, "torch", torch.__version__)
    unittest.main()
