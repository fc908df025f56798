#!/usr/bin/env python3
"""mobalab's CUDA kernels beside the official FlashMoBA and PyTorch's dense attention: one process, the same tensors.

    PYTHONPATH=kernels/python MOBALAB_KERNELS_LIBRARY=build/lib/libmobalab_kernels.so \
        python3 tests/perf/compare_gpu.py --out results/compare_gpu.json

Needs PyTorch with CUDA; the official package `flash_moba` is compared where it can be imported. Times are medians of CUDA
events over rotating input sets after a warm-up; every timed output is checked first, on sampled rows in float64 over
its own routing. Memory is the peak above the inputs. `skew` routes most queries to few blocks.
"""

import argparse
import json
import math
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import mobalab_kernels as mk

try:
    import flash_moba
except ImportError:
    flash_moba = None

# (N, heads, d, B, k): the settings of the results table; batch 2, causal, bf16.
SETTINGS = [
    (8192, 16, 128, 128, 8),
    (16384, 16, 128, 128, 8),
    (32768, 16, 128, 128, 8),
    (65536, 16, 128, 128, 8),
    (65536, 16, 128, 64, 8),
    (65536, 16, 128, 256, 8),
    (131072, 16, 128, 128, 8),
    (262144, 16, 128, 64, 8),
    (524288, 16, 128, 128, 8),
    (65536, 16, 128, 16, 64),
    (65536, 32, 64, 64, 8),
]
BATCH = 2


def make_inputs(n, heads, d, skew, seed):
    g = torch.Generator(device="cuda").manual_seed(seed)
    shape = (BATCH, n, heads, d)
    q, k, v = (torch.randn(shape, generator=g, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    if skew:
        # A direction shared by all queries and by the keys of the first 2 % of the sequence: routing piles up there.
        direction = torch.randn(heads, d, generator=g, device="cuda", dtype=torch.bfloat16)
        q += direction
        k[:, : max(1, n // 50)] += direction
    return q, k, v


def median_ms(call, inputs, repeats):
    for x in inputs:
        call(*x)
    torch.cuda.synchronize()
    times = []
    for i in range(repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call(*inputs[i % len(inputs)])
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def peak_mib(call, x):
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call(*x)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del result
    return peak / 2**20


def sampled_error(q, k, v, out, selection, block, rows=64, seed=7):
    """Relative Frobenius error of sampled (batch, head, row) outputs in float64 over the kernel's own routing."""
    batch, n, heads, d = q.shape
    g = torch.Generator().manual_seed(seed)
    error = norm = 0.0
    for _ in range(rows):
        b, h, row = (int(torch.randint(0, m, (1,), generator=g)) for m in (batch, heads, n))
        picks = selection[h, b * n + row]
        blocks = torch.cat([picks[picks >= 0], torch.tensor([row // block], device="cuda")])
        cols = (blocks[:, None] * block + torch.arange(block, device="cuda")).flatten()
        cols = cols[cols <= row]
        s = k[b, cols, h].double() @ q[b, row, h].double() * d**-0.5
        want = s.softmax(0) @ v[b, cols, h].double()
        error += float((out[b, row, h].double() - want).square().sum())
        norm += float(want.square().sum())
    return math.sqrt(error / norm)


def official_calls(n, block, topk):
    cu = torch.arange(0, (BATCH + 1) * n, n, device="cuda", dtype=torch.int32)

    def route(q, k, v):
        return flash_moba.flash_topk_varlen_func(q.flatten(0, 1), k.flatten(0, 1), cu, cu, n, n, topk, block, causal=True)

    def forward(q, k, v):
        return flash_moba.flash_moba_varlen_func(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), cu, cu, n, n, block,
                                                 topk, causal=True)

    return route, forward


def backward_ms(forward, inputs, repeats):
    grads = []
    for x in inputs:
        leaves = [t.detach().requires_grad_(True) for t in x]
        out = forward(*leaves)
        out = out[0] if isinstance(out, tuple) else out
        grads.append((out, leaves, torch.randn_like(out)))
    return median_ms(lambda o, l, g: torch.autograd.grad(o, l, g, retain_graph=True), grads, repeats)


def dense_calls(backend):
    def forward(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True).transpose(1, 2)

    return forward


def measure(setting, skew, options):
    n, heads, d, block, topk = setting
    sets = 2 if n <= 65536 else 1  # inputs of one set already exceed L2 many times
    inputs = [make_inputs(n, heads, d, skew, seed) for seed in range(1, sets + 1)]
    repeats = 20 if n <= 65536 else 5
    row = dict(seq_len=n, heads=heads, head_dim=d, block_size=block, topk=topk, routing="skewed" if skew else "random")
    x = inputs[0]

    out, _, selection = mk.moba_forward(*x, block, topk)
    row["error"] = sampled_error(*x, out, selection, block)
    if not row["error"] < 4e-3:
        sys.exit(f"wrong output at {row}: refusing to time it")
    del out, selection
    row["route_ms"] = median_ms(lambda q, k, v: mk.route(q, k, block, topk), inputs, repeats)
    row["forward_ms"] = median_ms(lambda q, k, v: mk.moba_forward(q, k, v, block, topk), inputs, repeats)
    row["forward_mib"] = peak_mib(lambda q, k, v: mk.moba_forward(q, k, v, block, topk), x)
    if options.backward:
        moba = lambda q, k, v: mk.moba_attention(q, k, v, block, topk)
        row["backward_ms"] = backward_ms(moba, inputs, repeats)

    if flash_moba is not None and block % 64 == 0 and topk <= 16:
        route, forward = official_calls(n, block, topk)
        few = 10 if n <= 65536 else 2
        row["official_route_ms"] = median_ms(route, inputs, few)
        row["official_forward_ms"] = median_ms(forward, inputs, few)
        row["official_forward_mib"] = peak_mib(forward, x)
        if options.backward:
            row["official_backward_ms"] = backward_ms(forward, inputs, few)
        row["speedup_over_official"] = row["official_forward_ms"] / row["forward_ms"]
    if n <= options.dense_up_to and not skew:
        for name, backend in (("flash_attention_2", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            few = 10 if n <= 32768 else 3
            row[name + "_forward_ms"] = median_ms(dense_calls(backend), inputs, few)
            if options.backward:
                row[name + "_backward_ms"] = backward_ms(dense_calls(backend), inputs, few)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="JSON file for the table")
    parser.add_argument("--dense-up-to", type=int, default=65536, help="longest N timed with dense attention")
    parser.add_argument("--max-seq-len", type=int, default=524288)
    parser.add_argument("--backward", action="store_true", help="time the backward too")
    options = parser.parse_args()
    reason = mk.backend_available("cuda")
    if reason is not None or not torch.cuda.is_available():
        sys.exit(f"compare_gpu: needs a CUDA device: {reason or 'torch sees none'}")
    rows = []
    for setting in SETTINGS:
        if setting[0] > options.max_seq_len:
            continue
        for skew in (False, True):
            if skew and setting[0] not in (8192, 65536):
                continue
            try:
                rows.append(measure(setting, skew, options))
            except torch.cuda.OutOfMemoryError as error:
                rows.append(dict(seq_len=setting[0], heads=setting[1], head_dim=setting[2], block_size=setting[3],
                                 topk=setting[4], routing="skewed" if skew else "random", failed=str(error)[:120]))
            torch.cuda.empty_cache()
            print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()), flush=True)
    result = dict(device=torch.cuda.get_device_name(), torch=torch.__version__,
                  official=getattr(flash_moba, "__version__", None), batch=BATCH, dtype="bfloat16", rows=rows)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
