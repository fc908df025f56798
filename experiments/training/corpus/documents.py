"""Files become documents: none twice, neighbours together, and each wholly in training or wholly in validation."""

import hashlib
from dataclasses import dataclass

DOCUMENT_BYTES = 128 * 1024  # about 44,000 tokens: longer than a sequence of 32,768
LONG_LINE = 40  # characters; shorter lines are alike by chance
MOST_KNOWN_LINES = 0.5
VALIDATION_SHARE = 0.025


@dataclass(frozen=True)
class Document:
    """Files of one package that follow each other by path. name: package and path of the first."""

    name: str
    package: str
    text: str

    @property
    def split(self):
        return split_of(self.name)


def split_of(name):
    """ "train" or "validation", by the hash of the document's name alone: what else is in a corpus moves nothing."""
    digest = hashlib.sha256(name.encode()).digest()
    return "validation" if int.from_bytes(digest[:8], "big") < VALIDATION_SHARE * 2**64 else "train"


class KnownLines:
    """What has been read so far, by the hashes of its long lines."""

    def __init__(self):
        self._seen = set()

    def is_new(self, text):
        """False for a file that holds nothing but short lines and lines seen before, or more than MOST_KNOWN_LINES of
        them: a copy, or another version of a file that is already there. The lines of a new file are seen from then
        on."""
        lines = {hash_of(line) for line in map(str.strip, text.splitlines()) if len(line) >= LONG_LINE}
        known = len(lines & self._seen)
        if not lines or known > MOST_KNOWN_LINES * len(lines):
            return False
        self._seen |= lines
        return True


def hash_of(line):
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "big")


def documents(files, size=DOCUMENT_BYTES):
    """Documents of at least `size` bytes (the last of a package may be shorter) of (package, path, text) in order.

    Each file begins with a line that names it.
    """
    package, name, texts, held = None, None, [], 0
    for owner, path, text in files:
        if texts and (owner != package or held >= size):
            yield Document(name, package, "".join(texts))
            texts, held = [], 0
        if not texts:
            package, name = owner, f"{owner}:{path}"
        texts.append(f"--- {path}\n{text}\n")
        held += len(text.encode())
    if texts:
        yield Document(name, package, "".join(texts))
