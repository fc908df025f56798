"""Documents in one file: JSON lines [name, package, text], compressed by xz, about a sixth of the text."""

import json
import lzma

from ..atomic_file import write_bytes
from ..errors import InputError
from .documents import Document


def write_text(path, all_documents):
    lines = (json.dumps([d.name, d.package, d.text], ensure_ascii=False) + "\n" for d in all_documents)
    write_bytes(path, lzma.compress("".join(lines).encode(), preset=9))


def read_text(path):
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            return [Document(*json.loads(line)) for line in file]
    except (OSError, EOFError, lzma.LZMAError, ValueError, TypeError) as failed:
        raise InputError("text", path, f"a file of documents ({failed})", "make_corpus.py text") from failed
