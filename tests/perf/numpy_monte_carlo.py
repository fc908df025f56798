#!/usr/bin/env python3
"""NumPy peer of the samplers: how often does centroid top-k routing find the needle's block? As strong as NumPy gets:
float32, SFC64 (its fastest bit generator), tiles that stay in cache, einsum norms and matmul centroids; more than 90 % of
the time is standard_normal itself.

One trial: n blocks of B unit keys, all uniform noise but one planted needle with q . k* = mu in block 0; a block's score
is q . mean(keys). Hit: fewer than k - 1 noise blocks score above block 0.

  vector    real vectors, d normals a key
  key       an affinity a key, z / sqrt(z^2 + chi^2_(d-1)): exact
  clt       a normal a block with the right variance: approximate, and what most people would write

Prints hits, trials and the CPU seconds of all processes as JSON.
"""
import argparse
import json
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the products are tiny: threads of BLAS only hurt
import numpy as np

TILE = 1 << 17  # floats


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def tile_shape(numbers_a_block, n):
    blocks = max(1, min(n, TILE // numbers_a_block))
    trials = max(1, TILE // (numbers_a_block * n)) if blocks == n else 1
    return trials, blocks


def vector_hits(rng, p, trials):
    d, B, n = p.head_dim, p.block_size, p.candidates
    most_trials, most_blocks = tile_shape(B * d, n)
    buffer = np.empty((most_trials, most_blocks, B, d), np.float32)
    hits = 0
    for first in range(0, trials, most_trials):
        T = min(most_trials, trials - first)
        q = unit(rng.standard_normal((T, d), dtype=np.float32))
        scores = np.empty((T, n), np.float32)
        for b in range(0, n, most_blocks):
            M = min(most_blocks, n - b)
            x = buffer if (T, M) == (most_trials, most_blocks) else np.empty((T, M, B, d), np.float32)
            rng.standard_normal(out=x, dtype=np.float32)
            inverse = 1 / np.sqrt(np.einsum("tbkd,tbkd->tbk", x, x))
            if b == 0:
                u = x[:, 0, 0]
                u = unit(u - np.einsum("td,td->t", u, q)[:, None] * q)
                x[:, 0, 0] = np.float32(p.mu) * q + np.float32(math.sqrt(1 - p.mu**2)) * u
                inverse[:, 0, 0] = 1
            centroids = np.matmul((inverse / np.float32(B))[:, :, None, :], x)[:, :, 0]
            scores[:, b:b + M] = np.matmul(centroids, q[:, :, None])[:, :, 0]
        hits += count(scores, p)
    return hits


def key_hits(rng, p, trials):
    d, B, n = p.head_dim, p.block_size, p.candidates
    most_trials, most_blocks = tile_shape(B, n)
    hits = 0
    for first in range(0, trials, most_trials):
        T = min(most_trials, trials - first)
        scores = np.empty((T, n), np.float32)
        for b in range(0, n, most_blocks):
            M = min(most_blocks, n - b)
            z = rng.standard_normal((T, M, B), dtype=np.float32)
            z /= np.sqrt(z * z + 2 * rng.standard_gamma((d - 1) / 2, (T, M, B), dtype=np.float32))
            if b == 0:
                z[:, 0, 0] = p.mu
            scores[:, b:b + M] = z.mean(2)
        hits += count(scores, p)
    return hits


def clt_hits(rng, p, trials):
    d, B, n = p.head_dim, p.block_size, p.candidates
    rows = max(1, TILE // n)
    buffer = np.empty((rows, n), np.float32)
    hits = 0
    for first in range(0, trials, rows):
        scores = rng.standard_normal(out=buffer, dtype=np.float32)[:min(rows, trials - first)]
        scores[:, 0] = math.sqrt((B - 1) / B) * scores[:, 0] + p.mu / B * math.sqrt(d * B)
        hits += count(scores, p)
    return hits


def count(scores, p):
    return int(np.count_nonzero((scores[:, 1:] > scores[:, :1]).sum(1) < p.topk - 1))


LEVELS = {"vector": vector_hits, "key": key_hits, "clt": clt_hits}


def work(task):
    p, stream, trials = task
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(p.seed, spawn_key=(stream,))))
    start = time.process_time()
    hits = LEVELS[p.level](rng, p, trials)
    return hits, time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", choices=LEVELS, required=True)
    for flag, kind, default in [("--head-dim", int, 64), ("--block-size", int, 16), ("--candidates", int, 1024),
                                ("--topk", int, 9), ("--mu", float, 0.9), ("--trials", int, 1000), ("--seed", int, 1),
                                ("--processes", int, 2)]:
        parser.add_argument(flag, type=kind, default=default)
    p = parser.parse_args()
    shares = [p.trials // p.processes + (i < p.trials % p.processes) for i in range(p.processes)]
    with ProcessPoolExecutor(p.processes) as pool:
        list(pool.map(work, [(p, i, 1) for i in range(p.processes)]))  # started, and every page touched
        start = time.perf_counter()
        results = list(pool.map(work, [(p, i, share) for i, share in enumerate(shares)]))
        wall = time.perf_counter() - start
    print(json.dumps({"hits": sum(h for h, _ in results), "trials": p.trials, "wall_seconds": wall,
                      "cpu_seconds": sum(c for _, c in results)}))


if __name__ == "__main__":
    main()
