#!/usr/bin/env python3
"""mobalab's CUDA kernels beside the official FlashMoBA and PyTorch's dense attention: one process, the same tensors.

    PYTHONPATH=kernels/python MOBALAB_KERNELS_LIBRARY=build/lib/libmobalab_kernels.so \
        python3 tests/perf/compare_gpu.py --backward --out results/compare_gpu.json --table results/compare_gpu.md

Needs PyTorch with CUDA; the official package `flash_moba` is compared where it can be imported. Times are medians of CUDA
events over rotating input sets after a warm-up; every timed output is checked first, on sampled rows in float64 over
its own routing. Memory is the peak above the inputs (outputs and, for the backward, gradients included; what the forward
saved is not). `skew` routes most queries to few blocks. Each setting is printed as soon as it is measured, and files are
written again after each, so that a run cut short leaves what it had.
"""

import argparse
import json
import math
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import compare_step
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
# Small launches: batch 1, where gaps between kernels and the time of a call on the host count.
SMALL_SETTINGS = [(n, 8, 128, block, 8) for n in (2048, 4096, 8192) for block in (64, 128)]
# Scorers that are timed beside mean, at 64K and B = 128.
SCORERS = ("quest", "submean-2")


def make_inputs(n, heads, d, skew, seed, batch=BATCH):
    g = torch.Generator(device="cuda").manual_seed(seed)
    shape = (batch, n, heads, d)
    q, k, v = (torch.randn(shape, generator=g, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    if skew:
        # A direction shared by all queries and by the keys of the first 2 % of the sequence: routing piles up there.
        direction = torch.randn(heads, d, generator=g, device="cuda", dtype=torch.bfloat16)
        q += direction
        k[:, : max(1, n // 50)] += direction
    return q, k, v


def median_ms(call, inputs, repeats):
    """The host runs ahead of the device, as in training: one wait at the end."""
    for x in inputs:
        call(*x)
    torch.cuda.synchronize()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for i, (start, stop) in enumerate(events):
        start.record()
        call(*inputs[i % len(inputs)])
        stop.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(stop) for start, stop in events)


def graph_ms(call, inputs, repeats):
    """Median of replays of a CUDA graph of one call for each of the inputs, a call."""
    for x in inputs:
        call(*x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for x in inputs:
            call(*x)
    return median_ms(graph.replay, [()], repeats) / len(inputs)


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


def sampled_rows(q, k, selection, block, rows=64, seed=7):
    """Random (batch, head, row) with the positions of the keys that the row attends to."""
    batch, n, heads, _ = q.shape
    g = torch.Generator().manual_seed(seed)
    for _ in range(rows):
        b, h, row = (int(torch.randint(0, m, (1,), generator=g)) for m in (batch, heads, n))
        picks = selection[h, b * n + row]
        blocks = torch.cat([picks[picks >= 0], torch.tensor([row // block], device="cuda")])
        cols = (blocks[:, None] * block + torch.arange(block, device="cuda")).flatten()
        yield b, h, row, cols[cols <= row]


def relative_error(pairs):
    """Frobenius error of (got, want) rows."""
    error = norm = 0.0
    for got, want in pairs:
        error += float((got.double() - want).square().sum())
        norm += float(want.square().sum())
    return math.sqrt(error / norm)


def probabilities(q, k, at):
    b, h, row, cols = at
    return (k[b, cols, h].double() @ q[b, row, h].double() * q.shape[-1] ** -0.5).softmax(0)


def sampled_error(q, k, v, out, selection, block):
    """Relative error of sampled output rows in float64 over the kernel's own routing."""
    rows = list(sampled_rows(q, k, selection, block))
    return relative_error((out[b, row, h], probabilities(q, k, (b, h, row, cols)) @ v[b, cols, h].double())
                          for b, h, row, cols in rows)


def gradient_error(q, k, v, block, topk):
    """The same for dQ. dK and dV are held to identities of exact gradients: per head, the sum of dV over keys is that of
    dO over queries (each row of P sums to 1), and sum k.dK = sum q.dQ (both are sum dS * S)."""
    leaves = [t.detach().requires_grad_(True) for t in (q, k, v)]
    _, _, selection = mk.moba_forward(q, k, v, block, topk)
    out = mk.moba_attention(*leaves, block, topk)
    d_out = torch.randn_like(out)
    dq, dk, dv = torch.autograd.grad(out, leaves, d_out)

    def want(at):
        b, h, row, cols = at
        p = probabilities(q, k, at)
        dp = v[b, cols, h].double() @ d_out[b, row, h].double()
        return p * (dp - (p * dp).sum()) @ k[b, cols, h].double() * q.shape[-1] ** -0.5

    error = relative_error((dq[at[0], at[2], at[1]], want(at)) for at in sampled_rows(q, k, selection, block))
    sums = relative_error([(dv.sum(1, dtype=torch.float64), d_out.sum(1, dtype=torch.float64))])
    energy_k, energy_q = ((x.float() * dx.float()).sum((1, 3), dtype=torch.float64) for x, dx in ((k, dk), (q, dq)))
    scale = (k.float() * dk.float()).square().sum((1, 3)).sqrt().double()
    identity = float(((energy_k - energy_q).abs() / scale).max())
    if not (sums < 1e-2 and identity < 0.1):
        sys.exit(f"gradients break their identities: sum of dV off by {sums:.2e}, sum of k.dK by {identity:.2e} of its noise")
    return error


def official_calls(n, block, topk):
    cu = torch.arange(0, (BATCH + 1) * n, n, device="cuda", dtype=torch.int32)

    def route(q, k, v):
        return flash_moba.flash_topk_varlen_func(q.flatten(0, 1), k.flatten(0, 1), cu, cu, n, n, topk, block, causal=True)

    def forward(q, k, v):
        return flash_moba.flash_moba_varlen_func(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), cu, cu, n, n, block,
                                                 topk, causal=True)

    return route, forward


def backward_case(forward, x):
    """One recorded forward: (outputs, leaves, gradient of the output), as torch.autograd.grad takes them."""
    leaves = [t.detach().requires_grad_(True) for t in x]
    out = forward(*leaves)
    out = out[0] if isinstance(out, tuple) else out
    return out, leaves, torch.randn_like(out)


def backward(out, leaves, d_out):
    return torch.autograd.grad(out, leaves, d_out, retain_graph=True)


def measure_backward(forward, inputs, repeats):
    """(median ms, peak MiB above what the forward left)."""
    cases = [backward_case(forward, x) for x in inputs]
    return median_ms(backward, cases, repeats), peak_mib(backward, cases[0])


def dense_calls(backend):
    def forward(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True).transpose(1, 2)

    return forward


def measure(setting, skew, options, row):
    """Fills the row with all that can be measured of one setting."""
    n, heads, d, block, topk = setting
    sets = 2 if n <= 65536 else 1  # inputs of one set already exceed L2 many times
    inputs = [make_inputs(n, heads, d, skew, seed) for seed in range(1, sets + 1)]
    repeats = 20 if n <= 65536 else 5
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
        row["gradient_error"] = gradient_error(*x, block, topk)
        if not row["gradient_error"] < 1.5e-2:
            sys.exit(f"wrong gradient at {row}: refusing to time it")
        moba = lambda q, k, v: mk.moba_attention(q, k, v, block, topk)
        row["backward_ms"], row["backward_mib"] = measure_backward(moba, inputs, repeats)

    if flash_moba is not None and block % 64 == 0 and topk <= 16:
        route, forward = official_calls(n, block, topk)
        few = 10 if n <= 65536 else 2
        row["official_route_ms"] = median_ms(route, inputs, few)
        row["official_forward_ms"] = median_ms(forward, inputs, few)
        row["official_forward_mib"] = peak_mib(forward, x)
        row["speedup_over_official"] = row["official_forward_ms"] / row["forward_ms"]
        if options.backward:
            row["official_backward_ms"], row["official_backward_mib"] = measure_backward(forward, inputs, few)
            row["backward_speedup_over_official"] = row["official_backward_ms"] / row["backward_ms"]
    if n <= options.dense_up_to and not skew:
        for name, backend in (("flash_attention_2", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            few = 10 if n <= 32768 else 3
            row[name + "_forward_ms"] = median_ms(dense_calls(backend), inputs, few)
            if options.backward:
                row[name + "_backward_ms"], _ = measure_backward(dense_calls(backend), inputs, few)


def measure_small(setting, row):
    """Fills the row of a small launch: ours and cuDNN's dense attention, called one by one and in a CUDA graph."""
    n, heads, d, block, topk = setting
    inputs = [make_inputs(n, heads, d, False, seed, batch=1) for seed in (1, 2)]
    moba = lambda q, k, v: mk.moba_forward(q, k, v, block, topk)
    out, _, selection = moba(*inputs[0])
    row["error"] = sampled_error(*inputs[0], out, selection, block)
    if not row["error"] < 4e-3:
        sys.exit(f"wrong output at {row}: refusing to time it")
    for prefix, call in (("small_", moba), ("cudnn_small_", dense_calls(SDPBackend.CUDNN_ATTENTION))):
        row[prefix + "forward_ms"] = median_ms(call, inputs, 50)
        row[prefix + "graph_ms"] = graph_ms(call, inputs, 50)


def measure_scorer(scorer, row):
    """Fills the row of another scorer: routing and the whole forward pass at 64K."""
    n, heads, d, block, topk = (row[name] for name in ("seq_len", "heads", "head_dim", "block_size", "topk"))
    inputs = [make_inputs(n, heads, d, False, seed) for seed in (1, 2)]

    def forward(q, k, v):
        return mk.moba_attention(q, k, v, block, topk, scorer=scorer, return_selection=True)

    out, selection = forward(*inputs[0])
    row["error"] = sampled_error(*inputs[0], out, selection, block)
    if not row["error"] < 4e-3:
        sys.exit(f"wrong output at {row}: refusing to time it")
    row["route_ms"] = median_ms(lambda q, k, v: mk.route(q, k, block, topk, scorer=scorer), inputs, 20)
    row["forward_ms"] = median_ms(forward, inputs, 20)


def measure_step(row):
    """Fills the row of a training step."""
    layers = compare_step.layer_inputs(BATCH, 1)
    d_out = torch.randn_like(layers[0][0])
    block, topk = compare_step.BLOCK_SIZE, compare_step.TOPK

    def timed(name, attention, repeats):
        call = lambda *all_layers: compare_step.step(attention, all_layers, d_out)
        row[name + "step_ms"] = median_ms(call, [layers], repeats)
        row[name + "step_mib"] = peak_mib(call, layers)

    timed("", compare_step.moba, 5)
    if flash_moba is not None:
        _, forward = official_calls(compare_step.SEQ_LEN, block, topk)

        def official(q, k, v, weight):
            return forward(q, compare_step.convolved(k, weight), v).unflatten(0, q.shape[:2])

        row["official_step_difference"] = compare_step.difference(official, layers[0])
        timed("official_", official, 3)
    dense = dense_calls(SDPBackend.CUDNN_ATTENTION)
    timed("cudnn_", lambda q, k, v, weight: dense(q, k, v), 2)


# Heading, key of a row, format: the committed table.
COLUMNS = [
    ("N", "seq_len", lambda n: f"{n // 1024}K"),
    ("heads, d", "heads", str),  # with head_dim behind it, see table_text()
    ("B", "block_size", str),
    ("k", "topk", str),
    ("scorer", "scorer", str),
    ("routing input", "routing", str),
    ("route", "route_ms", "{:.2f}".format),
    ("**forward**", "forward_ms", "**{:.2f}**".format),
    ("MiB", "forward_mib", "{:.0f}".format),
    ("official route", "official_route_ms", "{:.2f}".format),
    ("official forward", "official_forward_ms", "{:.2f}".format),
    ("official MiB", "official_forward_mib", "{:.0f}".format),
    ("ratio", "speedup_over_official", "{:.1f}x".format),
    ("FA2", "flash_attention_2_forward_ms", "{:.2f}".format),
    ("cuDNN", "cudnn_forward_ms", "{:.2f}".format),
    ("**backward**", "backward_ms", "**{:.2f}**".format),
    ("MiB", "backward_mib", "{:.0f}".format),
    ("official backward", "official_backward_ms", "{:.2f}".format),
    ("official MiB", "official_backward_mib", "{:.0f}".format),
    ("ratio", "backward_speedup_over_official", "{:.1f}x".format),
    ("FA2 backward", "flash_attention_2_backward_ms", "{:.2f}".format),
    ("cuDNN backward", "cudnn_backward_ms", "{:.2f}".format),
]


def table_text(result, commit):
    lines = [
        "# Measured on one GPU",
        "",
        f"{result['device']}, CUDA {result['cuda']}, PyTorch {result['torch']}, FlashMoBA {result['official'] or 'not installed'}; bf16,",
        f"batch {result['batch']}, causal; medians of CUDA events in ms, routing included in forward, one process, the same tensors",
        f"(`tests/perf/compare_gpu.py`, commit {commit}; raw numbers in the JSON file beside this one). MiB is the peak above the inputs.",
        "FA2 and cuDNN are dense attention.",
    ]
    for table in (settings_lines, small_lines, step_lines):
        lines += table(result["rows"])
    return "\n".join(lines) + "\n"


def settings_lines(rows):
    """The table of settings and scorers, nothing where there is none."""
    rows = [row for row in rows if "step_ms" not in row and "small_forward_ms" not in row]
    if not rows:
        return
    columns = [c for c in COLUMNS if any(c[1] in row for row in rows)]

    def cell(row, key, form):
        if key not in row:
            return "-"
        return f"{row['heads']}, {row['head_dim']}" if key == "heads" else form(row[key])

    yield from ("", "| " + " | ".join(c[0] for c in columns) + " |", "|" + "---|" * len(columns))
    yield from ("| " + " | ".join(cell(row, key, form) for _, key, form in columns) + " |" for row in rows)
    errors = [row["error"] for row in rows if "error" in row]
    if errors:
        yield from ("", "Every timed output was checked first, 64 sampled rows in float64 over the same routing: relative error "
                    f"{min(errors):.1e} to {max(errors):.1e}.")


def small_lines(rows):
    """The table of small launches, nothing where there is none."""
    rows = [row for row in rows if "small_forward_ms" in row]
    if not rows:
        return
    yield from ("", f"Small launches: forward with routing, batch 1, {rows[0]['heads']} heads of {rows[0]['head_dim']}, k = {rows[0]['topk']}; ms of a call, and of one in a CUDA graph.",
                "", "| N | B | mobalab | in a graph | cuDNN dense | in a graph |", "|---|---|---|---|---|---|")
    for row in rows:
        times = (row[key] for key in ("small_forward_ms", "small_graph_ms", "cudnn_small_forward_ms", "cudnn_small_graph_ms"))
        yield f"| {row['seq_len'] // 1024}K | {row['block_size']} | " + " | ".join(f"{ms:.3f}" for ms in times) + " |"


def step_lines(rows):
    """The table of training steps, nothing where there is none."""
    for row in rows:
        if "step_ms" not in row:
            continue
        yield from ("", f"A training step: forward and backward of {row['layers']} layers, {row['seq_len'] // 1024}K tokens, {row['heads']} heads of "
                    f"{row['head_dim']}, B = {row['block_size']}, k = {row['topk']}, key convolution of width {row['conv_width']} (official: by PyTorch's conv1d; dense: none).",
                    "", "| | ms | peak MiB |", "|---|---|---|")
        for name, prefix in (("**mobalab**", ""), ("official FlashMoBA", "official_"), ("cuDNN dense", "cudnn_")):
            if prefix + "step_ms" in row:
                yield f"| {name} | {row[prefix + 'step_ms']:.1f} | {row[prefix + 'step_mib']:.0f} |"


def write(result, options):
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    if options.table:
        with open(options.table, "w", encoding="utf-8") as file:
            file.write(table_text(result, options.commit))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="JSON file of the numbers")
    parser.add_argument("--table", help="Markdown file of the table")
    parser.add_argument("--commit", default="unknown", help="commit of the kernels, for the table")
    parser.add_argument("--dense-up-to", type=int, default=65536, help="longest N timed with dense attention")
    parser.add_argument("--max-seq-len", type=int, default=524288)
    parser.add_argument("--backward", action="store_true", help="time the backward too")
    parser.add_argument("--only", choices=("settings", "small", "scorers", "step"), help="one kind of rows")
    options = parser.parse_args()
    reason = mk.backend_available("cuda")
    if reason is not None or not torch.cuda.is_available():
        sys.exit(f"compare_gpu: needs a CUDA device: {reason or 'torch sees none'}")
    result = dict(device=torch.cuda.get_device_name(), cuda=torch.version.cuda, torch=torch.__version__,
                  official=getattr(flash_moba, "__version__", None), batch=BATCH, dtype="bfloat16", rows=[])
    for row, fill in cases(options):
        try:
            fill(row)
        except torch.cuda.OutOfMemoryError as error:
            row["failed"] = str(error)[:120]
        torch.cuda.empty_cache()
        result["rows"].append(row)
        print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
        write(result, options)


def cases(options):
    """(row as far as it is known before, what fills it), in the order of the table."""
    if options.only in (None, "settings"):
        for setting in SETTINGS:
            for skew in (False, True):
                if setting[0] > options.max_seq_len or (skew and setting[0] not in (8192, 65536)):
                    continue
                row = dict(zip(("seq_len", "heads", "head_dim", "block_size", "topk"), setting), scorer="mean",
                           routing="skewed" if skew else "random")
                yield row, lambda row, setting=setting, skew=skew: measure(setting, skew, options, row)
    if options.only in (None, "small"):
        for setting in SMALL_SETTINGS:
            row = dict(zip(("seq_len", "heads", "head_dim", "block_size", "topk"), setting), batch=1)
            yield row, lambda row, setting=setting: measure_small(setting, row)
    if options.only in (None, "scorers") and options.max_seq_len >= 65536:
        for scorer in SCORERS:
            row = dict(seq_len=65536, heads=16, head_dim=128, block_size=128, topk=8, scorer=scorer, routing="random")
            yield row, lambda row, scorer=scorer: measure_scorer(scorer, row)
    if options.only in (None, "step") and options.max_seq_len >= compare_step.SEQ_LEN:
        yield dict(seq_len=compare_step.SEQ_LEN, heads=compare_step.HEADS, head_dim=compare_step.HEAD_DIM,
                   block_size=compare_step.BLOCK_SIZE, topk=compare_step.TOPK, layers=compare_step.LAYERS,
                   conv_width=compare_step.WIDTH), measure_step


if __name__ == "__main__":
    main()
