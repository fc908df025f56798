"""What a language model makes of text it never saw, and whether it finds needles there."""

import numpy as np
import torch

from ..stepper import low_precision
from .loss import last_hidden, token_losses
from .needles import hide

NEEDLE_SEED = 1971
FIRST_OCTAVE = 64  # tokens: positions below it are one group


def octaves(seq_len):
    """[(from, to)]: positions 0 to 63, 64 to 127, 128 to 255, ... up to seq_len."""
    ends = [FIRST_OCTAVE]
    while ends[-1] < seq_len:
        ends.append(2 * ends[-1])
    ends[-1] = min(ends[-1], seq_len)
    return list(zip([0, *ends], ends))


def validation(model, sequences, most, batch_tokens, device):
    """Records of kind "validation" (one) and "position" (one an octave) over the first `most` sequences, None for all.

    Losses are nats a token; sequence_loss has the mean of each sequence, so that models that read the same ones are
    compared by their differences.
    """
    count = sequences.count if most is None else min(most, sequences.count)
    losses = np.concatenate([_losses(model, sequences.rows(numbers), device) for numbers in
                             _batches(count, sequences.seq_len, batch_tokens)])
    shared = {"seq_len": sequences.seq_len, "sequences": count}
    records = [{"kind": "validation", **shared, **_means(losses)}]
    for first, end in octaves(sequences.seq_len):
        records.append({"kind": "position", **shared, "from": first, "to": end, **_means(losses[:, first:end])})
    return records


def _batches(count, seq_len, batch_tokens):
    size = max(1, batch_tokens // seq_len)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _means(losses):
    by_sequence = losses.mean(axis=1, dtype=np.float64)
    return {
        "tokens": losses.size,
        "loss": float(by_sequence.mean()),
        "sequence_loss": [round(float(x), 6) for x in by_sequence],
    }


@torch.no_grad()
def _losses(model, rows, device):
    """float32 [sequences, seq_len]."""
    rows = torch.from_numpy(rows).to(device)
    losses = token_losses(last_hidden(model, rows[:, :-1]), model.head.weight, rows[:, 1:].flatten())
    return losses.view(len(rows), -1).cpu().numpy()


@torch.no_grad()
def needle_test(model, sequences, texts, depths, vocabulary, batch_tokens, device):
    """Records of kind "needle", one a depth: `texts` sequences (as many as there are, read again with other needles
    where there are fewer) hide a needle at each depth and ask for all of them at the end.

    sequence_correct: 0 or 1 for each text.
    """
    fractions = [(i + 0.5) / depths for i in range(depths)]
    correct = np.zeros((texts, depths), dtype=np.int64)
    for numbers in _batches(texts, sequences.seq_len, batch_tokens):
        generator = np.random.default_rng([NEEDLE_SEED, sequences.seq_len, numbers.start])
        rows = sequences.rows([n % sequences.count for n in numbers])
        at, answers, order = hide(rows, fractions, generator, vocabulary)
        with low_precision(device):
            logits = model(torch.from_numpy(rows[:, :-1]).to(device), torch.from_numpy(at).to(device))
        found = logits.argmax(-1).cpu().numpy() == answers
        np.put_along_axis(correct[numbers.start : numbers.stop], order, found.astype(np.int64), axis=1)
    return [
        {
            "kind": "needle",
            "seq_len": sequences.seq_len,
            "depth": depth,
            "asked": texts,
            "correct": int(column.sum()),
            "sequence_correct": column.tolist(),
        }
        for depth, column in zip(fractions, correct.T)
    ]
