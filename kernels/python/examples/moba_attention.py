"""Routes and attends on torch tensors and compares with dense attention over the same kept keys.

    MOBALAB_KERNELS_LIBRARY=build/lib/libmobalab_kernels.so PYTHONPATH=kernels/python python3 kernels/python/examples/moba_attention.py
"""

import sys

import torch

import mobalab_kernels as mk


def dense_over_selection(q, k, v, selection, block_size):
    """The same attention by masking a full score matrix in float64: what the kernel must equal."""
    batch, seq, heads, dim = q.shape
    position = torch.arange(seq, device=q.device)
    own = position // block_size
    # keep[b, h, row, block]
    blocks = int(own[-1]) + 1
    picks = selection.view(heads, batch, seq, -1).permute(1, 0, 2, 3).long()
    keep = torch.zeros(batch, heads, seq, blocks + 1, dtype=torch.bool, device=q.device)
    keep.scatter_(3, torch.where(picks < 0, blocks, picks), True)
    keep[:, :, position, own] = True
    mask = keep[..., own] & (position[None, :] <= position[:, None])
    scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) * dim**-0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores.masked_fill(~mask, -torch.inf).softmax(-1), v.double())


def main():
    device = "cuda" if mk.backend_available("cuda") is None and torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(1)
    q, k, v = (torch.randn(2, 2048, 4, 64, device=device, dtype=dtype) for _ in range(3))
    selection = mk.route(q, k, block_size=64, topk=4)
    out, lse, again = mk.moba_forward(q, k, v, block_size=64, topk=4)
    if not torch.equal(selection, again):
        sys.exit("route() and moba_forward() select different blocks")
    expected = dense_over_selection(q, k, v, selection, 64)
    error = ((out.double() - expected).norm() / expected.norm()).item()
    limit = 4e-3 if dtype == torch.bfloat16 else 1e-5
    print(f"{device} {dtype}: relative error {error:.2e} (limit {limit:.0e}), lse finite: {bool(lse.isfinite().all())}")
    if not error < limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
