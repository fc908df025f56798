"""A finished corpus: a folder with the tokens of both splits, where documents end, the tokenizer and a manifest.

    manifest.json               packages (version, licence), counts, digests
    tokenizer.json              of the library tokenizers
    text.xz                     the documents (text_file.py), from which `tokens` makes the rest anew
    train.npy, validation.npy   uint16 tokens, document behind document, END behind each
    train_ends.npy, validation_ends.npy   int64 positions behind each document's END
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..atomic_file import write_bytes
from ..errors import InputError

FORMAT = 1
SPECIAL = ("<|end|>", "<|key|>")  # tokens 0 and 1: the end of a document, and what stands before a needle
END, KEY = range(len(SPECIAL))
SPLITS = ("train", "validation")
MANIFEST, TOKENIZER, TEXT = "manifest.json", "tokenizer.json", "text.xz"


@dataclass(frozen=True)
class Corpus:
    """tokens and ends by split (memory-mapped), and the manifest."""

    manifest: dict
    tokens: dict
    ends: dict

    @property
    def vocabulary(self):
        return self.manifest["tokenizer"]["vocabulary"]


def write_array(path, array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_bytes(path, buffer.getvalue())


def write_manifest(folder, manifest):
    write_bytes(Path(folder) / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def read_manifest(folder):
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failed:
        raise InputError("corpus", folder, f"a folder with {MANIFEST} ({failed})", "make_corpus.py text") from failed
    if manifest.get("format") != FORMAT:
        raise InputError("corpus", folder, f"of format {FORMAT}, not {manifest.get('format')}", "make it anew")
    return manifest


def read_corpus(folder):
    """The corpus, whose arrays are those that the manifest describes."""
    manifest = read_manifest(folder)
    tokens = {split: _array(folder, split, np.uint16) for split in SPLITS}
    ends = {split: _array(folder, f"{split}_ends", np.int64) for split in SPLITS}
    for split in SPLITS:
        entry = manifest.get(split, {})
        if (len(tokens[split]), len(ends[split])) != (entry.get("tokens"), entry.get("documents")):
            raise InputError("corpus", folder, f"one whose {split}.npy is the manifest's", "make_corpus.py tokens")
    return Corpus(manifest, tokens, ends)


def check_digests(corpus, folder):
    """The tokens are those that the manifest was written for, to the last one."""
    for split in SPLITS:
        if digest(corpus.tokens[split]) != corpus.manifest[split]["sha256"]:
            raise InputError("corpus", folder, f"one whose {split}.npy is the manifest's", "make_corpus.py tokens")


def digest(array):
    """SHA-256 of the array's bytes, little-endian."""
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).hexdigest()


def _array(folder, name, dtype):
    path = Path(folder) / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as failed:
        raise InputError("corpus", path, f"a file of tokens ({failed})", "make_corpus.py tokens") from failed
    if array.dtype != dtype or array.ndim != 1:
        raise InputError("corpus", path, f"a vector of {np.dtype(dtype)}", "make_corpus.py tokens")
    return array
