"""The official FlashMoBA package (github.com/mit-han-lab/flash-moba), through its public functions.

Its selection is a list of rows for each (sequence, head, block), the own block among them; here it becomes the blocks of
each row. It runs on CUDA devices, in 16-bit dtypes.
"""

import flash_moba
import torch
from flash_moba.triton_mean_pool import flash_topk_mean_pool

from ..._errors import invalid


def _ends(cu_seqlens, q):
    if cu_seqlens is None:
        cu_seqlens = torch.tensor([0, q.shape[0]], dtype=torch.int32, device=q.device)
    return cu_seqlens, int((cu_seqlens[1:] - cu_seqlens[:-1]).max())


class Target:
    ties = "higher"
    centroids = "input"

    def __init__(self, device):
        if not device.startswith("cuda"):
            raise invalid("device", f"= {device}", "a CUDA device for flash_moba", "--arrays torch --device cuda")

    def check_settings(self, settings):
        if settings.dtype not in ("bfloat16", "float16"):
            raise invalid("dtype", f"= {settings.dtype}", "bfloat16 or float16 for flash_moba", "--dtype bfloat16")

    def summaries(self, k, block_size):
        cu_seqlens, longest = _ends(None, k)
        return flash_topk_mean_pool(k, cu_seqlens, longest, block_size)[0]

    def route(self, q, k, block_size, topk, cu_seqlens=None):
        cu_seqlens, longest = _ends(cu_seqlens, q)
        offsets, counts, rows = flash_moba.flash_topk_varlen_func(
            q, k, cu_seqlens, cu_seqlens, longest, longest, topk, block_size, causal=True
        )
        return _blocks_of_rows(offsets.cpu(), counts.cpu(), rows.cpu(), cu_seqlens.cpu(), q.shape)

    def attention(self, q, k, v, block_size, topk, cu_seqlens=None):
        cu_seqlens, longest = _ends(cu_seqlens, q)
        return flash_moba.flash_moba_varlen_func(
            q, k, v, cu_seqlens, cu_seqlens, longest, longest, block_size, topk, causal=True
        )

    def gradients(self, q, k, v, d_out, block_size, topk):
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        return torch.autograd.grad(self.attention(*leaves, block_size, topk), leaves, d_out)


def _blocks_of_rows(offsets, counts, rows, cu_seqlens, shape):
    """int64 [heads, tokens, blocks]: in slot b of a row block b, or -1."""
    tokens, heads, _ = shape
    selection = torch.full((heads, tokens, offsets.shape[-1]), -1, dtype=torch.int64)
    for sequence in range(offsets.shape[0]):
        begin = int(cu_seqlens[sequence])
        for head in range(heads):
            for block in range(offsets.shape[2]):
                first, count = int(offsets[sequence, head, block]), int(counts[sequence, head, block])
                selection[head, begin + rows[first : first + count].long(), block] = block
    return selection
