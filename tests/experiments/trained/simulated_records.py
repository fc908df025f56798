#!/usr/bin/env python3
"""Records as a training writes them, of models that were never trained: their heads' scores are drawn from the law that
the prediction assumes (normal, independent rivals; heads that share a factor of the signal). Statistics are those of the
draws. Writes experiments/trained/simulated.jsonl: simulated_records.py > simulated.jsonl
"""

import itertools
import json
import math
import random
import statistics
import sys

HEADS, LAYERS, MOBA_LAYERS, SEQUENCES, ASKED, TAIL = 2, 4, (1, 3), 24, 32, 128
CORRELATION = 0.3
SEED = 20261128
READ_OUT = 0.97
"""Share of what is routed that the simulated model answers."""

ARMS = (("moba", 128, 2, "mean", 0, 1.3), ("moba", 32, 8, "mean", 0, 1.7), ("moba", 16, 16, "mean", 0, 1.9),
        ("moba", 32, 8, "mean", 3, 2.0), ("moba", 32, 8, "random", 0, 0.0))
"""(attention, block size, k, scorer, key_conv, mean of the standardised signal of the first MoBA layer)"""


def run_record(name, attention, block_size, topk, scorer, key_conv, seed, experiment="recall", seq_len=1024):
    return dict(kind="run", run=name, experiment=experiment, attention=attention, block_size=block_size, topk=topk,
                scorer=scorer, key_conv=key_conv, head_dim=64, heads=HEADS, layers=LAYERS, width=128, parameters=10**6,
                seed=seed, seq_len=seq_len, steps=1000, tokens=65_536_000, seconds=40.0, device="simulated",
                torch="none", commit="", learned=1)


def evaluate(source, name, block_size, topk, scorer, signal, seq_len):
    """Records accuracy and head at one length: asked queries stand in the last TAIL tokens."""
    spots = [(layer, head) for layer in MOBA_LAYERS for head in range(HEADS)]
    scores, hits = {spot: [] for spot in spots}, {
        spot: [[0, 0] for _ in range(SEQUENCES)] for spot in spots}
    own, found, correct, read_out = [0] * SEQUENCES, [0] * SEQUENCES, [0] * SEQUENCES, 0
    candidates = {}
    for sequence in range(SEQUENCES):
        for _ in range(ASKED):
            at = source.randrange(seq_len - TAIL, seq_len)
            past, pair = at // block_size, source.randrange(seq_len - TAIL) // block_size
            if pair == past:
                own[sequence] += 1
                correct[sequence] += 1
                continue
            candidates[past] = candidates.get(past, 0) + 1
            factor, any_hit = source.gauss(0.0, 1.0), False
            for layer, head in spots:
                if scorer == "random":
                    hit = source.random() < (topk - 1) / past
                else:
                    spread = math.sqrt(CORRELATION) * factor + math.sqrt(1.0 - CORRELATION) * source.gauss(0.0, 1.0)
                    score = signal * (1.0 if layer == MOBA_LAYERS[0] else 0.3) + 0.8 * spread
                    rivals = [source.gauss(0.0, 1.0) for _ in range(past - 1)]
                    hit = sum(rival > score for rival in rivals) < topk - 1
                    scores[layer, head].append((score - statistics.fmean(rivals)) / statistics.pstdev(rivals))
                hits[layer, head][sequence][0] += hit
                hits[layer, head][sequence][1] += 1
                any_hit = any_hit or hit
            found[sequence] += any_hit
            answered = any_hit and source.random() < READ_OUT
            correct[sequence] += answered
            read_out += answered
    accuracy = dict(kind="accuracy", run=name, seq_len=seq_len, asked=SEQUENCES * ASKED, correct=sum(correct),
                    sequences=SEQUENCES, sequence_correct=correct, own_block=sum(own), any_hit=sum(found),
                    any_hit_correct=read_out, no_hit_correct=0, sequence_own_block=own, sequence_any_hit=found)
    if scorer != "random":
        accuracy["signal_correlation"] = round(mean_correlation(list(scores.values())), 6)
    yield accuracy
    for layer, head in spots:
        pairs = hits[layer, head]
        record = dict(kind="head", run=name, seq_len=seq_len, layer=layer, head=head, queries=sum(q for _, q in pairs),
                      hits=sum(h for h, _ in pairs), sequence_queries=[q for _, q in pairs],
                      sequence_hits=[h for h, _ in pairs], own_block=sum(own), candidates=sorted(candidates.items()))
        if scores[layer, head]:
            record.update(signal_mean=round(statistics.fmean(scores[layer, head]), 6),
                          signal_sd=round(statistics.pstdev(scores[layer, head]), 6))
        yield record


def mean_correlation(lists):
    """Over pairs of lists."""
    standard = [[(x - statistics.fmean(values)) / statistics.pstdev(values) for x in values] for values in lists]
    return statistics.fmean(statistics.fmean(x * y for x, y in zip(one, other))
                            for one, other in itertools.combinations(standard, 2))


def dense_accuracy(name, attention, seq_len):
    asked = [ASKED if attention == "dense" else 2] * SEQUENCES
    return dict(kind="accuracy", run=name, seq_len=seq_len, asked=SEQUENCES * ASKED, correct=sum(asked),
                sequences=SEQUENCES, sequence_correct=asked, own_block=0, any_hit=0)


def curve(source, name, ceiling):
    for step in range(0, 1001, 200):
        learned = ceiling / (1.0 + math.exp(-(step - 500) / 100.0))
        yield dict(kind="curve", run=name, step=step, seq_len=1024, tokens=step * 65_536, seconds=step * 0.04,
                   loss=round(7.0 * (1.0 - 0.9 * learned) + 0.02 * source.random(), 4), accuracy=round(learned, 4),
                   hits=int(400 * learned), queries=500)


def recall(source, lengths=(1024, 2048), seeds=(0, 1)):
    for seed in seeds:
        for attention in ("dense", "local"):
            name = f"{attention}-s{seed}"
            yield run_record(name, attention, 0, 0, "", 0, seed)
            yield from (dense_accuracy(name, attention, seq_len) for seq_len in lengths)
        for attention, block_size, topk, scorer, key_conv, signal in ARMS:
            name = f"{attention}-B{block_size}-k{topk}-conv{key_conv}-{scorer}-s{seed}"
            yield run_record(name, attention, block_size, topk, scorer, key_conv, seed)
            for seq_len in lengths:
                yield from evaluate(source, name, block_size, topk, scorer, signal, seq_len)
            yield from curve(source, name, 0.9)


def main():
    for record in recall(random.Random(SEED)):
        print(json.dumps(record, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
