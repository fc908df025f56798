"""The recorder without torch: NumPy arrays, rounding, needles, the file, the command's errors, the README, the trace
that the repository ships.

Usage: record_test.py (needs no library of kernels); models are record_models_test.py's.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np

FOLDER = Path(__file__).resolve().parents[4] / "kernels" / "python"
TRACES = Path(__file__).resolve().parents[4] / "experiments" / "traces"
sys.path.insert(0, str(FOLDER))

from mobalab_kernels import Error  # noqa: E402
from mobalab_kernels.record import Needle, Recorder, read_needles, token_needles  # noqa: E402
from mobalab_kernels.record._arrays import round_to_bf16  # noqa: E402
from trace_reading import read_trace  # noqa: E402

SEED = 71
TOKENS, HEADS, KEY_HEADS, DIM = 40, 6, 3, 8


def tensors(tokens=TOKENS):
    rng = np.random.default_rng(SEED)
    shapes = ((tokens, HEADS, DIM), (tokens, KEY_HEADS, DIM), (tokens, KEY_HEADS, DIM))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "trace.safetensors"

    def recorder(self, **options):
        return Recorder(self.path, **{"model": "m", "text": "t; CC0", "rope": "none", "dtype": "fp32", **options})

    def refuses(self, *parts):
        return self.assertRaisesRegex(Error, ".*".join(parts))


class File(InFolder):
    def test_one_layer_has_plain_names(self):
        q, k, v = tensors()
        with self.recorder(q_start=30, token_ids=range(TOKENS), metadata={"layers": "12"}) as r:
            r.capture(7, q, k, v)
        arrays, metadata = read_trace(self.path)
        np.testing.assert_array_equal(arrays["q"], q[30:])
        np.testing.assert_array_equal(arrays["k"], k)
        np.testing.assert_array_equal(arrays["v"], v)
        np.testing.assert_array_equal(arrays["token_ids"], np.arange(TOKENS))
        self.assertEqual(
            metadata,
            {
                "format": "qkv-trace",
                "format_version": "1",
                "model": "m",
                "text": "t; CC0",
                "layer": "7",
                "layers": "12",
                "query_heads": "6",
                "key_heads": "3",
                "head_dim": "8",
                "scale": repr(8**-0.5),
                "causal": "1",
                "rope": "none",
                "q_start": "30",
                "k_start": "0",
                "tokens": "40",
                "layout": "token,head,dim",
                "dtype": "fp32",
                "needles": "[]",
            },
        )

    def test_several_layers_and_their_order(self):
        q, k, v = tensors()
        with self.recorder(layers=[9, 0, 4], q_start=5, q_rows=10, scale=0.5) as r:
            for layer in range(12):  # those that were not chosen are passed over
                r.capture(layer, q + layer, k, v)
        arrays, metadata = read_trace(self.path)
        self.assertEqual(metadata["recorded_layers"], "0,4,9")
        self.assertNotIn("layer", metadata)
        self.assertEqual(metadata["scale"], "0.5")
        self.assertEqual(sorted(arrays), sorted(f"layers.{n}.{x}" for n in (0, 4, 9) for x in "qkv"))
        for layer in (0, 4, 9):
            np.testing.assert_array_equal(arrays[f"layers.{layer}.q"], (q + layer)[5:15])

    def test_heads_come_with_their_key_heads(self):
        q, k, v = tensors()
        with self.recorder(heads=[4, 2, 3, 5]) as r:
            r.capture(0, q, k, v)
        arrays, metadata = read_trace(self.path)
        np.testing.assert_array_equal(arrays["q"], q[:, 2:6])
        np.testing.assert_array_equal(arrays["k"], k[:, 1:3])
        np.testing.assert_array_equal(arrays["v"], v[:, 1:3])
        self.assertEqual([metadata[n] for n in ("query_heads", "key_heads", "recorded_heads")], ["4", "2", "2,3,4,5"])

    def test_layouts_and_a_batch_of_one(self):
        q, k, v = tensors()
        with self.recorder(layout="head,token,dim") as r:
            r.capture(0, *(x.swapaxes(0, 1)[None] for x in (q, k, v)))
        np.testing.assert_array_equal(read_trace(self.path)[0]["q"], q)

    def test_without_values(self):
        q, k, _ = tensors()
        with self.recorder() as r:
            r.capture(0, q, k)
        self.assertEqual(sorted(read_trace(self.path)[0]), ["k", "q"])

    def test_dtypes(self):
        q, k, v = (x * 1e-3 for x in tensors())
        for dtype in ("fp32", "fp16", "bf16"):
            with self.recorder(dtype=dtype) as r:
                r.capture(0, q, k, v)
            arrays, metadata = read_trace(self.path)
            self.assertEqual(metadata["dtype"], dtype)
            want = {"fp32": q, "fp16": q.astype(np.float16)}.get(dtype)
            if want is None:
                want = (round_to_bf16(q).astype(np.uint32) << 16).view(np.float32)
            np.testing.assert_array_equal(arrays["q"], want)

    def test_an_error_leaves_what_was_there(self):
        self.path.write_bytes(b"old")
        q, k, v = tensors()
        with self.assertRaises(KeyError), self.recorder() as r:
            r.capture(0, q, k, v)
            raise KeyError
        with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
            with self.refuses("No space left"), self.recorder() as r:
                r.capture(0, q, k, v)
        self.assertEqual(self.path.read_bytes(), b"old")
        self.assertEqual(os.listdir(self.folder), ["trace.safetensors"])

    def test_is_whole_before_it_has_its_name(self):
        q, k, v = tensors()
        seen = []

        def replace(source, target):
            self.assertFalse(self.path.exists())
            seen.append(read_trace(source))
            os.rename(source, target)

        with mock.patch("os.replace", side_effect=replace), self.recorder() as r:
            r.capture(0, q, k, v)
        np.testing.assert_array_equal(seen[0][0]["q"], read_trace(self.path)[0]["q"])

    def test_permissions_and_links_stay(self):
        q, k, v = tensors()
        self.path.write_bytes(b"old")
        self.path.chmod(0o640)
        link = self.folder / "link.safetensors"
        link.symlink_to(self.path)
        with Recorder(link, model="m", text="t", rope="none") as r:
            r.capture(0, q, k, v)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)
        read_trace(self.path)


class Rounding(unittest.TestCase):
    def test_bf16_is_the_nearest_and_even_among_two(self):
        rng = np.random.default_rng(SEED)
        drawn = np.concatenate([rng.standard_normal(2000), np.exp(rng.uniform(-80, 80, 2000))]).astype(np.float32)
        ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0, -0.0, 2.0**-130], np.float32)
        for x in np.concatenate([drawn, ties]):
            at = int(np.float32(abs(x)).view(np.uint32)) >> 16
            around = [Fraction(float(np.uint32(i << 16).view(np.float32))) for i in (at, at + 1)]
            off = [abs(Fraction(float(abs(x))) - y) for y in around]
            want = at + (off[1] < off[0] or (off[0] == off[1] and at % 2 == 1))
            self.assertEqual(int(round_to_bf16(np.array([x]))[0]), want | (0x8000 if np.signbit(x) else 0), x)


class Refusals(InFolder):
    def test_arguments(self):
        for options, *parts in (
            ({"rope": "after"}, "rope 'after'", "one of post, pre, none"),
            ({"dtype": "int8"}, "dtype 'int8'", "bf16, fp16, fp32"),
            ({"layout": "bhtd"}, "layout 'bhtd'", "token,head,dim"),
            ({"layers": [3, 3]}, "layers 3,3", "once"),
            ({"layers": []}, "layers", "at least one"),
            ({"layers": [-1]}, "layers -1", "at least 0"),
            ({"heads": [1.5]}, "heads 1.5", "whole number"),
            ({"q_start": -1}, "q_start -1", "at least 0"),
            ({"q_rows": 0}, "q_rows 0", "at least 1"),
            ({"model": 5}, "model 5", "a text"),
            ({"text": "\udce9"}, "text", "UTF-8"),
        ):
            with self.subTest(options), self.refuses(*parts):
                self.recorder(**options)

    def test_paths(self):
        for path, part in (
            (self.folder / "trace.npz", "safetensors"),
            (self.folder / "none" / "t.safetensors", "a folder that exists"),
        ):
            with self.refuses(part):
                Recorder(path, model="m", text="t", rope="none")
        (self.folder / "d.safetensors").mkdir()
        with self.refuses("regular file"):
            Recorder(self.folder / "d.safetensors", model="m", text="t", rope="none")

    def test_tensors(self):
        q, k, v = tensors()
        nan = q.copy()
        nan[3, 2, 1] = np.nan
        big = q.copy()
        big[3, 2, 1] = 1e6
        for options, arrays, *parts in (
            ({}, (q[1:], k, v), "q of layer 0 has 39 tokens", "40"),
            ({}, (q[:, :4], k, v), "4 heads", "multiple of the 3"),
            ({}, (q[..., :4], k, v), "head_dim 4", "8"),
            ({}, (q, k, v[:, :2]), "v of layer 0", r"\[40, 3, any\]"),
            ({}, (q[0], k, v), "q has shape", r"token,head,dim"),
            ({}, (np.stack([q, q]), k, v), "batch of one"),
            ({}, (q.astype(int), k, v), "q has dtype int64"),
            ({}, (q.tolist(), k, v), "q of type list"),
            ({}, (nan, k, v), "q is nan at token 3, head 2, channel 1"),
            ({"dtype": "fp16"}, (big, k, v), "q is 1000000.0", "finite in fp16", "fp32"),
            ({"q_start": 40}, (q, k, v), "q_start 40", "39"),
            ({"q_start": 30, "q_rows": 11}, (q, k, v), "q_rows 11", "10"),
            ({"token_ids": [1]}, (q, k, v), "token_ids has 1", "40"),
            ({"heads": [6]}, (q, k, v), "heads 6", "5"),
            ({"heads": [0, 2]}, (q, k, v), "heads 0,2", "groups of the 2", "0,1,2,3"),
            ({"scale": 0}, (q, k, v), "scale 0", "positive"),
        ):
            with self.subTest(parts), self.refuses(*parts), self.recorder(**options) as r:
                r.capture(0, *arrays)
        self.assertFalse(self.path.exists())

    def test_layers(self):
        q, k, v = tensors()
        with self.refuses("layer 0 came twice"), self.recorder() as r:
            r.capture(0, q, k, v)
            r.capture(0, q, k, v)
        with self.refuses("layers 2,5", "captured", "0"), self.recorder(layers=[0, 2, 5]) as r:
            r.capture(0, q, k, v)
        with self.refuses("layers none"), self.recorder():
            pass
        with self.refuses("layer 1", "like the layers before"), self.recorder() as r:
            r.capture(0, q, k, v)
            r.capture(1, q, k)


TEXT = "The code of Lyon is blue. Rain fell. The code of Lyon is blue. Now red."


def words(text):
    """A tokenizer for tests: words with the blank before them, full stops of their own."""
    offsets, at = [], 0
    for part in text.replace(".", "\0.").replace(" ", "\0 ").split("\0"):
        offsets.append((at, at + len(part)))
        at += len(part)
    ids = {}
    return [ids.setdefault(text[b:e], len(ids)) for b, e in offsets], offsets


def span(part, nth=0):
    at = -1
    for _ in range(nth + 1):
        at = TEXT.index(part, at + 1)
    return (at, at + len(part))


class Needles(InFolder):
    def tokens(self, needles, rows=range(100), count=None):
        ids, offsets = words(TEXT)
        return token_needles(needles, TEXT, offsets[:count], ids[:count], rows)

    def needle(self, **other):
        fact = span("The code of Lyon is blue.")
        return Needle(**{"name": "Lyon", "fact": fact, "answer": span("blue"), "asked": [span("blue", 1)], **other})

    def test_the_row_before_the_answer_looks_at_the_answer(self):
        # 0 The, 1 code, 2 of, 3 Lyon, 4 is, 5 blue, 6 ., 7 Rain, 8 fell, 9 ., 10 The, ..., 14 is, 15 blue, 16 .
        self.assertEqual(self.tokens([self.needle()]), [{"name": "Lyon", "query": [14], "key": [5], "fact": [0, 7]}])
        longer = self.needle(answer=span("Lyon is blue"), asked=[span("Lyon is blue", 1)])
        self.assertEqual(self.tokens([longer])[0]["query"], [12, 13, 14])
        self.assertEqual(self.tokens([longer])[0]["key"], [3, 4, 5])

    def test_asked_twice(self):
        twice = self.needle(answer=span("."), asked=[span(".", 2), span(".", 3)])
        self.assertEqual(self.tokens([twice])[0], {"name": "Lyon", "query": [15, 18], "key": [6, 6], "fact": [0, 7]})

    def test_tokens_without_characters_are_passed_over(self):
        ids, offsets = words(TEXT)
        got = token_needles([self.needle()], TEXT, [(0, 0), *offsets], [99, *ids], range(100))
        self.assertEqual(got, [{"name": "Lyon", "query": [15], "key": [6], "fact": [1, 8]}])

    def test_refusals(self):
        for needle, rows, count, *parts in (
            (self.needle(answer=(5, 5)), range(100), None, "answer .5, 5.", "71 characters"),
            (self.needle(asked=[(70, 72)]), range(100), None, "asked .70, 72.", "71 characters", r"\[70, 71\]"),
            (self.needle(asked=[(1.0, 2)]), range(100), None, "asked", "whole numbers"),
            (self.needle(asked=[]), range(100), None, "asked nowhere"),
            (self.needle(name=""), range(100), None, "needle name ''"),
            (self.needle(answer=span("Rain")), range(100), None, "within the fact"),
            (self.needle(asked=[span("blue")]), range(100), None, "asked", "after its fact"),
            (self.needle(asked=[span("red")]), range(100), None, "' ?red'|'red'", "tokens of the answer"),
            (self.needle(asked=[span("is blue", 1)]), range(100), None, "2 tokens", "blue"),
            (self.needle(), range(15, 100), None, "row 14", "recorded rows 15 to 99", "q_start 14"),
            (self.needle(), range(100), 12, "recorded tokens, which end at character", "more tokens"),
        ):
            with self.subTest(parts), self.refuses(*parts):
                self.tokens([needle], rows, count)
        with self.refuses("'Lyon'", "once", "Lyon 2"):
            self.tokens([self.needle(), self.needle()])

    def test_files(self):
        path = self.folder / "needles.json"
        entry = self.needle()._asdict()
        path.write_text(json.dumps([entry]))
        self.assertEqual(self.tokens(read_needles(path)), self.tokens([self.needle()]))
        for text, *parts in (
            ("[", "JSON file"),
            ("{}", "a JSON list"),
            ("[3]", "entry 0 has int"),
            (json.dumps([{"name": "x"}]), "entry 0 has .'name'.", "answer"),
            (json.dumps([{**entry, "asked": 3}]), "asked 3", "list of spans"),
        ):
            path.write_text(text)
            with self.subTest(text), self.refuses(*parts):
                read_needles(path)


class Command(InFolder):
    def run_it(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "mobalab_kernels.record", *map(str, arguments)],
            text=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(FOLDER)},
            timeout=300,
        )

    def test_one_line_for_each_error(self):
        text = self.folder / "text.txt"
        text.write_text("words")
        latin = self.folder / "latin.txt"
        latin.write_bytes(b"caf\xe9")
        needles = self.folder / "needles.json"
        about = ("--about", "t")
        for arguments, part in (
            ((), "the following arguments are required: model"),
            (("m", text, self.path), "--about"),
            (("m", self.folder / "none", self.path, *about), "No such file"),
            (("m", text, self.folder / "t.npz", *about), "t.safetensors"),
            (("m", latin, self.path, *about), "UTF-8 (byte 3 is not)"),
            (("m", text, self.path, *about, "--layers", "5-3"), "5-3"),
            (("m", text, self.path, *about, "--layers", "x"), "no list of numbers"),
            (("m", text, self.path, *about, "--dtype", "int8"), "bf16"),
            (("m", text, self.path, *about, "--needles", needles), "JSON file"),
            (("m", text, self.path, *about, "--threads", "0"), "at least 1"),
            (("m", text, self.path, *about, "--lay", "1"), "--lay"),
        ):
            ran = self.run_it(*arguments)
            with self.subTest(arguments):
                self.assertEqual(ran.returncode, 2)
                self.assertRegex(ran.stderr, r"\Aerror: [^\n]+\n\Z")
                self.assertIn(part, ran.stderr)
                self.assertEqual(ran.stdout, "")

    def test_says_what_it_needs(self):
        if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
            self.skipTest("torch and transformers are installed")
        text = self.folder / "text.txt"
        text.write_text("words")
        ran = self.run_it("m", text, self.path, "--about", "t")
        self.assertEqual(ran.returncode, 2)
        self.assertRegex(ran.stderr, r"\Aerror: recording needs torch and transformers [^\n]+\n\Z")


class Readme(InFolder):
    def test_example_runs(self):
        readme = (FOLDER / "mobalab_kernels" / "record" / "README.md").read_text()
        (example,) = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        ran = subprocess.run(
            [sys.executable, "-"],
            input=example,
            text=True,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(FOLDER)},
            timeout=300,
        )
        self.assertEqual(ran.returncode, 0, ran.stdout)
        arrays, metadata = read_trace(self.path)
        self.assertEqual((arrays["layers.1.q"].shape, metadata["recorded_layers"]), ((32, 8, 64), "0,1"))


class Shipped(unittest.TestCase):
    def test_is_what_its_readme_says(self):
        path = TRACES / "smollm2_small.safetensors"
        self.assertLess(path.stat().st_size, 1.2e6)
        arrays, metadata = read_trace(path)
        self.assertEqual(
            {name: x.shape for name, x in arrays.items()},
            {"q": (512, 3, 64), "k": (2048, 1, 64), "v": (2048, 1, 64), "token_ids": (2048,)},
        )
        said = {
            "layer": "18",
            "recorded_heads": "6,7,8",
            "q_start": "1536",
            "tokens": "2048",
            "rope": "post",
            "scale": "0.125",
            "dtype": "bf16",
            "query_heads": "3",
            "key_heads": "1",
            "head_dim": "64",
        }
        self.assertEqual({name: metadata[name] for name in said}, said)
        self.assertIn("public domain", metadata["text"])
        self.assertIn("Apache-2.0", metadata["model_file"])

    def test_needles_ask_for_tokens_that_come_again_and_heads_look_there(self):
        arrays, metadata = read_trace(TRACES / "smollm2_small.safetensors")
        needles, ids = json.loads(metadata["needles"]), arrays["token_ids"]
        self.assertEqual(
            [n["name"] for n in needles], [n.name for n in read_needles(TRACES / "smollm2_small_needles.json")]
        )
        query, key = (np.array([i for n in needles for i in n[what]]) for what in ("query", "key"))
        self.assertEqual(len(query), 50)
        np.testing.assert_array_equal(ids[query + 1], ids[key])
        for n in needles:
            self.assertTrue(n["fact"][0] <= min(n["key"]) and max(n["key"]) < n["fact"][1] <= min(n["query"]))
        q, k = arrays["q"].astype(float), arrays["k"][:, 0].astype(float)
        for head, on_fact, on_first in ((0, 0.49, 0.66), (1, 0.63, 0.78), (2, 0.00, 0.99)):
            scores = 0.125 * q[:, head] @ k.T
            scores[np.arange(2048) > 1536 + np.arange(512)[:, None]] = -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            self.assertAlmostEqual(weights[query - 1536, key].mean(), on_fact, delta=0.006)
            self.assertAlmostEqual(weights[:, 0].mean(), on_first, delta=0.006)


if __name__ == "__main__":
    print(f"seed {SEED}")
    unittest.main()
