"""Documents as tokens: a byte-level byte-pair encoding, trained on the training documents alone."""

import hashlib
import json

import numpy as np
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ..errors import InputError
from .store import END, SPECIAL

LEAST_VOCABULARY, MOST_VOCABULARY = 256 + len(SPECIAL), 2**16  # every byte is a token; a token is a uint16
DOCUMENTS_AT_ONCE = 32


def train_tokenizer(texts, vocabulary):
    """A tokenizer of exactly `vocabulary` tokens that writes every text and reads it back unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise InputError("vocabulary", vocabulary, "what the text has pairs for", tokenizer.get_vocab_size())
    tokenizer.encode_special_tokens = True  # a document that spells "<|end|>" is text, not its end
    return tokenizer


def read_tokenizer(path):
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as failed:  # the library raises plain Exception
        rule = f"a file of tokenizers {tokenizers.__version__} ({failed})"
        raise InputError("tokenizer", path, rule, "make_corpus.py text") from failed
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer, texts):
    """(tokens, ends): uint16 tokens of all texts, END behind each, and int64 positions behind each text's END."""
    pieces, ends, held = [], [], 0
    for first in range(0, len(texts), DOCUMENTS_AT_ONCE):
        for encoding in tokenizer.encode_batch_fast(texts[first : first + DOCUMENTS_AT_ONCE]):
            pieces.append(np.array([*encoding.ids, END], dtype=np.uint16))
            held += len(pieces[-1])
            ends.append(held)
    return np.concatenate(pieces) if pieces else np.empty(0, np.uint16), np.array(ends, dtype=np.int64)


def tokenizer_digest(tokenizer):
    """SHA-256 of what makes the tokens: vocabulary and merges, without the library's own fields."""
    model = json.loads(tokenizer.to_str())["model"]
    text = json.dumps([model["vocab"], model["merges"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
