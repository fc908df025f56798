"""A corpus of this project's own sources, a byte a token, for tests that train: it needs no library and no package."""

import numpy as np

from training.corpus import store

VOCABULARY = 256 + len(store.SPECIAL)


def write_tiny_corpus(folder, root, train=300_000, validation=12_000):
    """So many bytes of the sources under `root`/kernels."""
    sources = [path for path in sorted((root / "kernels").rglob("*")) if path.suffix in (".cc", ".cu", ".cuh", ".h")]
    text = b"".join(path.read_bytes() for path in sources)
    assert len(text) >= train + validation
    tokens = np.frombuffer(text, np.uint8).astype(np.uint16) + len(store.SPECIAL)
    manifest = {"format": store.FORMAT, "packages": [], "tokenizer": {"vocabulary": VOCABULARY}}
    splits = {"train": tokens[:train], "validation": tokens[train : train + validation]}
    for split, array in splits.items():
        store.write_array(folder / f"{split}.npy", array)
        store.write_array(folder / f"{split}_ends.npy", np.array([len(array)], dtype=np.int64))
        manifest[split] = {"documents": 1, "bytes": len(array), "tokens": len(array), "sha256": store.digest(array)}
    store.write_manifest(folder, manifest)
