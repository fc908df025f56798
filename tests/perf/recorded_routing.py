#!/usr/bin/env python3
"""What the routing of recorded queries and keys costs the kernels, beside random routing of the same shape.

    PYTHONPATH=kernels/python MOBALAB_KERNELS_LIBRARY=build/lib/libmobalab_kernels.so MOBALAB_CUDA_FORWARD=lists \
        python3 tests/perf/recorded_routing.py --table results/recorded_routing.md TRACE.safetensors ...

Needs PyTorch; with CUDA it also times attention and its gradients (medians of CUDA events; bf16, every head of the
trace, the text repeated as a batch of COPIES). TRACE is what `mobalab measure` reads (experiments/traces/README.md).

A query leaves one partial result for each list that it is in: 64 keys (128 where blocks have more than 64) of which it
selected a block. So neighbouring blocks of a list cost one partial. The table counts, a query, the partials of lists as
they are, those of lists of twice the keys, and the runs of neighbouring blocks, which no grouping of blocks goes below.
Short texts would go by queries under a mask, without partials: the variable has them go by lists (kernels/cuda).
"""

import argparse
import json
import pathlib
import struct
import sys

import torch

import compare_gpu
import mobalab_kernels as mk

SETTINGS = [(16, 64), (32, 32), (64, 16), (128, 8)]  # (B, k): k B = 1024
COPIES = 16
SHORT_LIST_KEYS, LIST_KEYS = 64, 128  # kernels/cuda/README.md, block_size
REPEATS = 30


def read(path):
    """(q [1, rows, heads, d], k and v [1, tokens, key heads, d]), bf16, of the first layer of a trace."""
    try:
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        body = data[8 + length :]
        return tuple(tensor(header, body, kind) for kind in "qkv")
    except (OSError, ValueError, AttributeError, KeyError, struct.error) as error:
        sys.exit(f"{path}: {error}: must be a trace with q, k and v in bf16; nearest valid choice: one of experiments/traces")


def tensor(header, body, kind):
    """The first tensor of a kind, with a batch of 1."""
    names = sorted(name for name in header if name.split(".")[-1] == kind)
    if not names or header[names[0]]["dtype"] != "BF16":
        raise ValueError(f"no tensor {kind} in bf16")
    begin, end = header[names[0]]["data_offsets"]
    return torch.frombuffer(bytearray(body[begin:end]), dtype=torch.bfloat16).reshape(1, *header[names[0]]["shape"])


def random_selection(like, own, seed):
    """A selection of the shape of `like`: as many blocks a query, drawn at random from those before its own."""
    generator = torch.Generator().manual_seed(seed)
    heads, rows, slots = like.shape
    scores = torch.rand(heads, rows, int(own.max()), generator=generator)
    scores[:, torch.arange(scores.shape[2])[None] >= own[:, None]] = -1
    picked = scores.topk(min(slots, scores.shape[2]), dim=2)
    selection = torch.full_like(like, -1)
    selection[..., : picked.indices.shape[2]] = torch.where(picked.values < 0, -1, picked.indices).to(like.dtype)
    return selection


def distinct(groups, apart=0):
    """Mean over queries of the values that differ by more than `apart` from the next lower one; -1 is none."""
    ordered = groups.sort(dim=-1).values.long()
    first = torch.cat([torch.full_like(ordered[..., :1], -2 - apart), ordered[..., :-1]], dim=-1)
    first = torch.where(first < 0, -2 - apart, first)
    return ((ordered >= 0) & (ordered - first > apart)).sum(-1).float().mean().item()


def partials(selection, block):
    def lists(keys):
        per_list = max(1, keys // block)
        return distinct(torch.where(selection < 0, -1, selection.div(per_list, rounding_mode="floor")))

    keys = SHORT_LIST_KEYS if block <= SHORT_LIST_KEYS else LIST_KEYS
    return {"lists": lists(keys), "wide_lists": lists(2 * keys), "runs": distinct(selection, apart=1)}


def times(q, k, v, selection, block, topk):
    q, k, v = (t.expand(COPIES, -1, -1, -1).contiguous().cuda() for t in (q, k, v))
    selection = selection.repeat(1, COPIES, 1).cuda()
    forward = lambda: mk.attention_forward(q, k, v, selection, block, topk)
    out, lse = forward()
    d_out = torch.randn_like(out)
    backward = lambda: mk.attention_backward(q, k, v, out, d_out, lse, selection, block, topk)
    return {name: 1e3 * compare_gpu.median_ms(call, [()], REPEATS) for name, call in
            (("forward_us", forward), ("backward_us", backward))}


def measure(path, q, k, v, block, topk):
    own = (torch.arange(q.shape[1]) + k.shape[1] - q.shape[1]) // block
    recorded = mk.route(q, k, block, topk)
    row = {"trace": path.stem, "block_size": block, "topk": topk}
    for name, selection in (("recorded", recorded), ("random", random_selection(recorded, own, seed=block))):
        row[name] = partials(selection, block)
        if torch.cuda.is_available():
            row[name].update(times(q, k, v, selection, block, topk))
    return row


def table(rows, device, commit):
    def pair(row, key, form):
        return " / ".join(form.format(row[name][key]) for name in ("recorded", "random")) if key in row["recorded"] else ""

    head = f"`tests/perf/recorded_routing.py`, {device}, commit {commit}. Recorded / random routing; partials a query; microseconds.\n"
    lines = [head, "| trace | B, k | partials | with lists of twice the keys | runs of neighbours | forward | backward |", "|" + "---|" * 7]
    for row in rows:
        cells = [row["trace"], f"{row['block_size']}, {row['topk']}"]
        cells += [pair(row, key, "{:.1f}") for key in ("lists", "wide_lists", "runs")]
        cells += [pair(row, key, "{:.0f}") for key in ("forward_us", "backward_us")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=pathlib.Path, metavar="TRACE.safetensors")
    parser.add_argument("--table", type=pathlib.Path, help="Markdown file of the table")
    parser.add_argument("--commit", default="unknown", help="commit of the kernels, for the table")
    options = parser.parse_args()
    if options.table and not options.table.resolve().parent.is_dir():
        sys.exit(f"--table {options.table}: its folder must exist; nearest valid choice: {options.table.name}")
    rows = []
    traces = [(path, read(path)) for path in options.traces]
    for path, (q, k, v) in traces:
        for block, topk in SETTINGS:
            if topk <= k.shape[1] // block:
                rows.append(measure(path, q, k, v, block, topk))
                print(json.dumps(rows[-1]), flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    text = table(rows, device, options.commit)
    print(text)
    if options.table:
        options.table.write_text(text)


if __name__ == "__main__":
    main()
