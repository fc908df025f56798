"""Makes a corpus of Debian packages: `text` fetches them and trains the tokenizer, `tokens` makes the arrays of its
files. `text` needs apt-get, lxml and tokenizers; `tokens`, the last step of `text` too, needs tokenizers alone, so that
text.xz and tokenizer.json are all that travels."""

import argparse
import hashlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import InputError, exit_on_input_error
from . import gathering, store, text_file, tokenizing
from .documents import LONG_LINE, hash_of
from .package_list import read_package_list

PACKAGES = Path(__file__).with_name("packages.csv")


def parsed(arguments):
    parser = argparse.ArgumentParser(prog="make_corpus.py", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    text = steps.add_parser("text", help="fetch packages, write text.xz, tokenizer.json, the arrays and manifest.json")
    tokens = steps.add_parser("tokens", help="write the arrays of text.xz and tokenizer.json again")
    for step in (text, tokens):
        step.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the corpus is")
    text.add_argument("--packages", type=Path, default=PACKAGES, metavar="CSV", help="default: %(default)s")
    text.add_argument("--vocabulary", type=int, default=8192, metavar="TOKENS", help="default: %(default)s")
    text.add_argument("--cache", type=Path, metavar="FOLDER", help="keeps what was downloaded")
    return parser.parse_args(arguments)


def make_text(options):
    least, most = tokenizing.LEAST_VOCABULARY, tokenizing.MOST_VOCABULARY
    if not least <= options.vocabulary <= most:
        nearest = min(max(options.vocabulary, least), most)
        raise InputError("--vocabulary", options.vocabulary, f"{least} to {most}", nearest)
    if importlib.util.find_spec("lxml") is None:
        raise InputError("Python module lxml", "missing", "installed", "python3 -m pip install lxml")
    parts = read_package_list(options.packages)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as failed:
        rule = f"a folder to write to ({failed.strerror})"
        raise InputError("--out", options.out, rule, "another folder") from failed
    documents, packages = gathering.gather(parts, options.cache)
    texts = [d.text for d in documents if d.split == "train"]
    if not texts or len(texts) == len(documents):
        raise InputError("--packages", options.packages, "enough text for both splits", "more packages")
    tokenizer = tokenizing.train_tokenizer(texts, options.vocabulary)
    text_file.write_text(options.out / store.TEXT, documents)
    tokenizer.save(str(options.out / store.TOKENIZER), pretty=False)
    store.write_manifest(options.out, make_arrays(options.out, documents, tokenizer, packages))


def make_tokens(options):
    manifest = store.read_manifest(options.out)
    documents = text_file.read_text(options.out / store.TEXT)
    tokenizer = tokenizing.read_tokenizer(options.out / store.TOKENIZER)
    made = make_arrays(options.out, documents, tokenizer, manifest["packages"])
    if made != manifest:
        raise InputError("--out", options.out, "a corpus whose tokens are those of its first manifest", "step text")


def make_arrays(folder, documents, tokenizer, packages):
    """Writes the arrays of both splits; the manifest that describes them."""
    manifest = {
        "format": store.FORMAT,
        "packages": [dict(package) for package in packages],
        "tokenizer": {
            "vocabulary": tokenizer.get_vocab_size(),
            "special": list(store.SPECIAL),
            "sha256": tokenizing.tokenizer_digest(tokenizer),
        },
        "text_sha256": hashlib.sha256("".join(d.name + d.text for d in documents).encode()).hexdigest(),
        "validation_lines_in_training": repeated_lines(documents),
    }
    for split in store.SPLITS:
        chosen = [d for d in documents if d.split == split]
        texts = [d.text for d in chosen]
        tokens, ends = tokenizing.encode(tokenizer, texts)
        manifest[split] = {
            "documents": len(texts),
            "bytes": sum(len(text.encode()) for text in texts),
            "tokens": len(tokens),
            "sha256": store.digest(tokens),
        }
        count_by_package(manifest["packages"], split, chosen, ends)
        store.write_array(folder / f"{split}.npy", tokens)
        store.write_array(folder / f"{split}_ends.npy", ends)
        print(f"{split}: {len(texts)} documents, {len(tokens)} tokens", file=sys.stderr)
    return manifest


def count_by_package(packages, split, documents, ends):
    """Adds the tokens of a split to each package's entry."""
    counts = Counter()
    for document, tokens in zip(documents, np.diff(ends, prepend=0)):
        counts[document.package] += int(tokens)
    for package in packages:
        package[f"{split}_tokens"] = counts[package["package"]]


def repeated_lines(documents):
    """The share of validation's long lines (documents.LONG_LINE) that training has too: licences, idioms, and what
    files of one package say twice."""
    lines = {split: [] for split in store.SPLITS}
    for document in documents:
        stripped = map(str.strip, document.text.splitlines())
        lines[document.split] += [hash_of(line) for line in stripped if len(line) >= LONG_LINE]
    known = set(lines["train"])
    validation = lines["validation"]
    return round(sum(line in known for line in validation) / max(len(validation), 1), 4)


def main(arguments=None):
    return exit_on_input_error(lambda: _main(parsed(arguments)))


def _main(options):
    (make_text if options.step == "text" else make_tokens)(options)
    return 0
