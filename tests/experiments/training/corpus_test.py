#!/usr/bin/env python3
"""The corpus: lists of packages, text out of files, what is left out, the split, tokens and their files.

What needs the libraries tokenizers or lxml is skipped where they are not installed.
"""

import contextlib
import gzip
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "experiments"))

from training.corpus import documents, store, text_file  # noqa: E402
from training.corpus.cleaning import clean_text  # noqa: E402
from training.corpus.package_list import COLUMNS, read_package_list  # noqa: E402
from training.errors import InputError  # noqa: E402

try:
    from training.corpus import command, tokenizing
except ImportError:
    command = tokenizing = None
try:
    import lxml
except ImportError:
    lxml = None

PROSE = "The block of a query is the one it stands in, and it reads all of it up to itself.\n" * 5
PIECE = 2000
GOOD_ROW = {"package": "python3-doc", "licence": "PSF-2.0", "folder": "usr/share/doc", "suffixes": ".txt .html",
            "without": "", "megabytes": "2.5"}  # fmt: skip


def sources():
    """This project's C++ files, cut into pieces so that there are many, as (package, path, text)."""
    for room in ("analysis", "kernels", "sim"):
        for path in sorted((ROOT / room).rglob("*.cc")):
            text = path.read_text(encoding="utf-8")
            for first in range(0, len(text), PIECE):
                yield room, f"{path.relative_to(ROOT)}:{first}", text[first : first + PIECE]


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class PackageList(InFolder):
    def read(self, *rows, columns=COLUMNS):
        path = self.folder / "list.csv"
        path.write_text("\n".join([",".join(columns), *rows]) + "\n", encoding="utf-8")
        return read_package_list(path)

    def test_the_projects_own_list(self):
        parts = read_package_list(ROOT / "experiments" / "training" / "corpus" / "packages.csv")
        self.assertGreater(len({part.package for part in parts}), 15)

    def test_the_manifest_of_the_results_is_of_this_list(self):
        folder = ROOT / "experiments" / "training" / "corpus"
        listed = {part.package: part.licence for part in read_package_list(folder / "packages.csv")}
        manifest = store.read_manifest(folder)
        self.assertEqual({p["package"]: p["licence"] for p in manifest["packages"]}, listed)
        for split in store.SPLITS:
            self.assertEqual(sum(p[f"{split}_tokens"] for p in manifest["packages"]), manifest[split]["tokens"])

    def test_a_row(self):
        (part,) = self.read(",".join(GOOD_ROW.values()))
        self.assertEqual((part.suffixes, part.limit, part.without), ((".txt", ".html"), 2_500_000, None))

    def test_wrong_rows_name_the_line_and_the_value(self):
        for wrong in (
            {"package": "Python3"},
            {"licence": ""},
            {"folder": "/usr"},
            {"folder": "usr/../etc"},
            {"suffixes": "txt"},
            {"suffixes": ""},
            {"without": "("},
            {"megabytes": "0"},
            {"megabytes": "nan"},
            {"megabytes": "inf"},
            {"megabytes": "many"},
        ):
            (name,) = wrong
            row = ",".join({**GOOD_ROW, **wrong}.values())
            with self.assertRaisesRegex(InputError, f"line 2 {name} = .*must be .*nearest valid choice"):
                self.read(row)
        for row in ("python3-doc,MIT", ",".join(GOOD_ROW.values()) + ",1"):
            with self.assertRaisesRegex(InputError, "line 2.*6 cells"):
                self.read(row)
        with self.assertRaisesRegex(InputError, "line 1"):
            self.read(columns=("package", "licence"))
        with self.assertRaisesRegex(InputError, "at least one package"):
            self.read()
        with self.assertRaisesRegex(InputError, "readable CSV"):
            read_package_list(self.folder / "none.csv")


class Cleaning(unittest.TestCase):
    def test_text_is_kept_and_tidied(self):
        text, reason = clean_text("a.txt.gz", gzip.compress(("\x1f\r\n" + PROSE + "  \n\n\n\nEnd\t\n").encode()))
        self.assertIsNone(reason)
        self.assertEqual(text, PROSE + "\nEnd\n")

    def test_what_is_left_out(self):
        for name, data, why in (
            ("a.txt", b"short", "short"),
            ("a.txt", b"\xff" * 1000, "not UTF-8"),
            ("a.txt.gz", b"no gzip", "damaged"),
            ("a.c", b"0x01, 0x02, 0x03,\n" * 100, "data"),
        ):
            self.assertEqual(clean_text(name, data), (None, why))

    @unittest.skipIf(lxml is None, "lxml is not installed")
    def test_markup_goes(self):
        page = f"<html><head><title>T</title></head><body><nav>Menu</nav><p>{PROSE}</p><script>x()</script></body></html>"
        text, _ = clean_text("a.html", page.encode())
        self.assertEqual(text, PROSE)
        self.assertEqual(clean_text("a.html", b""), (None, "short"))


class Split(unittest.TestCase):
    def test_copies_and_versions_are_found(self):
        known = documents.KnownLines()
        lines = [f"line {i} of a file whose lines are long enough to tell them apart" for i in range(20)]
        self.assertTrue(known.is_new("\n".join(lines)))
        self.assertFalse(known.is_new("\n".join(lines[:3])))
        changed = ["another " + line for line in lines[:9]]
        self.assertFalse(known.is_new("\n".join(changed + lines[9:])))  # 11 of 20 known
        self.assertTrue(known.is_new("\n".join(changed + lines[10:19])))  # 9 of 18, and 9 new
        self.assertFalse(known.is_new("short\nlines\n"))

    def test_documents_hold_every_file_once_in_order(self):
        files = list(sources())
        made = list(documents.documents(files, size=20_000))
        self.assertGreater(len(made), 10)
        self.assertEqual("".join(d.text for d in made), "".join(f"--- {path}\n{text}\n" for _, path, text in files))
        for document in made:
            self.assertTrue(document.name.startswith(document.package + ":"))
        self.assertEqual(len({d.name for d in made}), len(made))

    def test_the_split_hangs_on_the_name_alone_and_has_its_share(self):
        names = [f"package:path/{i}" for i in range(40_000)]
        validation = sum(documents.split_of(name) == "validation" for name in names)
        # the hash is fixed, so the count is too; 1000 were due, give or take 31
        self.assertLess(abs(validation - 1000), 200)
        self.assertEqual(documents.split_of("p:a"), documents.Document("p:a", "q", "other text").split)


@unittest.skipIf(tokenizing is None, "the library tokenizers is not installed")
class Tokens(InFolder):
    @classmethod
    def setUpClass(cls):
        cls.documents = list(documents.documents(sources(), size=3_000))
        texts = [d.text for d in cls.documents if d.split == "train"]
        cls.tokenizer = tokenizing.train_tokenizer(texts, 500)

    def make(self):
        text_file.write_text(self.folder / store.TEXT, self.documents)
        self.tokenizer.save(str(self.folder / store.TOKENIZER))
        with contextlib.redirect_stderr(io.StringIO()):
            manifest = command.make_arrays(self.folder, self.documents, self.tokenizer, [
                {"package": room} for room in ("analysis", "kernels", "sim")])  # fmt: skip
        store.write_manifest(self.folder, manifest)
        return manifest

    def call(self, *arguments):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = command.main([*map(str, arguments)])
        return code, said.getvalue()

    def test_any_text_reads_back(self):
        texts = [self.documents[0].text, "", "\ttabs\n\n  and ünïcödé 漢字 \U0001f600\n", "<|end|><|key|>", "\x00\x7f"]
        tokens, ends = tokenizing.encode(self.tokenizer, texts)
        self.assertEqual(tokens.dtype, np.uint16)
        self.assertEqual(ends[-1], len(tokens))
        for text, first, end in zip(texts, [0, *ends], ends):
            self.assertEqual(tokens[end - 1], store.END)
            piece = tokens[first : end - 1]
            self.assertGreaterEqual(int(piece.min(initial=9)), len(store.SPECIAL))  # text is never taken for a mark
            self.assertEqual(self.tokenizer.decode(piece.tolist(), skip_special_tokens=False), text)

    def test_no_document_is_in_both_splits(self):
        manifest = self.make()
        corpus = store.read_corpus(self.folder)
        store.check_digests(corpus, self.folder)
        by_split = {}
        for split in store.SPLITS:
            starts = [0, *corpus.ends[split][:-1]]
            by_split[split] = {
                self.tokenizer.decode(corpus.tokens[split][a : b - 1].tolist(), skip_special_tokens=False)
                for a, b in zip(starts, corpus.ends[split])
            }
            self.assertEqual(by_split[split], {d.text for d in self.documents if d.split == split})
            self.assertGreater(len(by_split[split]), 0)
            self.assertEqual(sum(p[f"{split}_tokens"] for p in manifest["packages"]), manifest[split]["tokens"])
        self.assertFalse(by_split["train"] & by_split["validation"])

    def test_tokens_are_made_again_from_the_text(self):
        self.make()
        before = {p.name: p.read_bytes() for p in self.folder.iterdir()}
        for name in ("train.npy", "validation_ends.npy"):
            (self.folder / name).unlink()
        self.assertEqual(self.call("tokens", "--out", self.folder)[0], 0)
        self.assertEqual({p.name: p.read_bytes() for p in self.folder.iterdir()}, before)

    def test_another_text_or_tokenizer_is_refused(self):
        self.make()
        text_file.write_text(self.folder / store.TEXT, self.documents[:-1])
        code, said = self.call("tokens", "--out", self.folder)
        self.assertEqual(code, 2)
        self.assertIn("first manifest", said)
        (self.folder / store.TEXT).write_bytes(b"no xz")
        code, said = self.call("tokens", "--out", self.folder)
        self.assertEqual(code, 2)
        self.assertIn("text.xz", said)
        (self.folder / store.MANIFEST).write_text(json.dumps({"format": 0}))
        self.assertEqual(self.call("tokens", "--out", self.folder)[0], 2)

    def test_wrong_arguments(self):
        for arguments, says in (
            (("text", "--out", self.folder, "--vocabulary", 100), "--vocabulary = 100"),
            (("text", "--out", self.folder, "--vocabulary", 70000), "nearest valid choice: 65536"),
            (("text", "--out", self.folder, "--packages", self.folder / "none"), "none" if lxml else "lxml"),
            (("tokens", "--out", self.folder / "none"), "manifest.json"),
        ):
            code, said = self.call(*arguments)
            self.assertEqual(code, 2)
            self.assertIn(says, said)
            self.assertIn("nearest valid choice", said)
            self.assertEqual(said.count("\n"), 1, said)

    def test_a_vocabulary_that_the_text_cannot_fill(self):
        with self.assertRaisesRegex(InputError, "vocabulary = 5000"):
            tokenizing.train_tokenizer(["aaaa bbbb"], 5000)


if __name__ == "__main__":
    unittest.main()
