"""The varlen functions of the official package, flash_moba, under its names, argument orders and return values:

    import mobalab_kernels.flash_moba as flash_moba

Packed tensors [total, heads, head_dim] and int32 cu_seqlens [batch + 1]; max_seqlen_q and max_seqlen_k are at least the
lengths of the longest sequences, and on CUDA devices the contents of cu_seqlens are the caller's word. What differs:

- Blocks are summarised and chosen exactly and repeatably (fp32 means, rounded once; the higher block wins ties).
- Dropout, softcap and ALiBi slopes are refused. causal=False is what it is there: a query has no own block, and all of
  its sequence are candidates.
- Any device, dtype, head_dim and block size that moba_attention takes.
- With causal=True a query's own block is always attended to, whatever the column lists of flash_moba_attn_varlen_func
  say; lists that leave it out are refused.
- lg_block_m and deterministic are taken and change nothing: tiles are chosen by the kernels, gradients always have the
  same bits.
"""

import torch

from . import _arguments, _functions, _moba_attention, _operators, _torch_arrays
from ._errors import invalid, invalid_type

__all__ = ["flash_moba_attn_varlen_func", "flash_moba_varlen_func", "flash_topk_varlen_func"]


def flash_moba_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, moba_chunk_size, moba_topk, causal=True
):
    """MoBA attention of packed sequences; differentiable in q, k and v. moba_topk counts the own block, if causal.
    Returns out like q; the softmax scale is head_dim ** -0.5."""
    call = _Call(
        {"q": q, "k": k, "v": v},
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        moba_chunk_size,
        moba_topk,
        causal,
    )
    out, _, _ = _operators.moba_forward(*call.tensors, *call.packed, **call.options, **_ROUTING)
    return out[..., : v.shape[-1]]


def flash_topk_varlen_func(
    q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, moba_topk, moba_chunk_size, causal=False
):
    """The queries that attend to each block of keys, their own ones (if causal) included.

    Returns (col_offsets int64 [batch, heads, columns], col_nnz int32 of that shape, indices int32 [total_q * heads *
    moba_topk]) with columns = ceil(max_seqlen_k / moba_chunk_size): the queries of block c of sequence b are
    indices[col_offsets[b, h, c] :][: col_nnz[b, h, c]], counted within their sequence and ascending. What lies behind
    the last list is -1.
    """
    call = _Call(
        {"q": q, "k": k}, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, moba_chunk_size, moba_topk, causal
    )
    options = {name: value for name, value in call.options.items() if name != "scale"}
    return _columns_of(_operators.route(*call.tensors, *call.packed, **options, **_ROUTING), call)


def flash_moba_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    moba_col_offsets,
    moba_col_nnz,
    moba_row_indices,
    lg_block_m=64,
    lg_block_n=64,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    """Attention over the blocks that column lists name (see flash_topk_varlen_func); differentiable in q, k and v.

    lg_block_n: keys of a block. softmax_scale: in [1e-30, 1e30], on CUDA devices at most 65,536, with NaN where scaled
    scores reach 2^30; None for head_dim ** -0.5. dropout_p and softcap must be 0, alibi_slopes None. Returns
    out like q, or with return_attn_probs=True (out, lse float32 [heads, total_q], an empty tensor): probabilities are
    never made.
    """
    return_attn_probs = _arguments.flag("return_attn_probs", return_attn_probs)
    for name, value, plain in (("dropout_p", dropout_p, 0.0), ("softcap", softcap, 0.0)):
        if value != plain:
            raise invalid(name, f"= {value}", "0: it is not part of MoBA attention", plain)
    if alibi_slopes is not None:
        raise invalid("alibi_slopes", "given", "None: they are not part of MoBA attention", None)
    lists = {"moba_col_offsets": moba_col_offsets, "moba_col_nnz": moba_col_nnz, "moba_row_indices": moba_row_indices}
    call = _Call(
        {"q": q, "k": k, "v": v},
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        lg_block_n,
        1,
        causal,
        scale=softmax_scale,
        block_size_name="lg_block_n",
    )
    _moba_attention.check_tensors(lists)
    selection = _selection_of(*lists.values(), call)
    call.options["topk"] = selection.shape[2] + int(call.causal)
    out, lse = _operators.attention_forward(*call.tensors, selection, *call.packed, **call.options)
    out = out[..., : v.shape[-1]]
    return (out, lse, out.new_empty(0)) if return_attn_probs else out


_ROUTING = {
    "scorer": "mean",
    "scorer_seed": 0,
    "keep_first": False,
    "fp32_centroids": False,
    "centred_centroids": False,
}


class _Call:
    """Arguments that all functions have, checked, as the operators take them."""

    def __init__(
        self,
        arrays,
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        block_size,
        topk,
        causal,
        scale=None,
        block_size_name="moba_chunk_size",
    ):
        _moba_attention.check_tensors({**arrays, "cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k})
        self.causal = _arguments.flag("causal", causal)
        block_size = _arguments.integer("block_size", block_size, block_size_name)
        topk = _arguments.integer("topk", topk, "moba_topk")
        if scale is not None:
            head_dim = arrays["q"].shape[-1] if arrays["q"].dim() else 1
            scale = _arguments.softmax_scale("softmax_scale", scale, head_dim)
        options = {"block_size": block_size, "topk": topk, "causal": self.causal, "scale": scale, "threads": 0}
        lengths = {"max_seqlen_q": max_seqlen_q, "max_seqlen_k": max_seqlen_k}
        lengths = {name: _arguments.integer(name, length) for name, length in lengths.items()}
        self.q, self.packed = arrays["q"], (cu_seqlens_q, cu_seqlens_k)
        self.tensors = _padded(list(arrays.values()))
        if scale is None and self.tensors[0] is not self.q:
            options["scale"] = self.q.shape[-1] ** -0.5
        self.options = {**_moba_attention.plain_options(self.q, options), **lengths, "total_blocks": None}

    def check_sequences(self):
        """Raises where q, k, the contents of cu_seqlens and the lengths do not fit each other: what indexes with them comes
        after. Tensors inside transforms of torch.func have no memory to look at, and are left to the operators."""
        q, k = (_torch_arrays.readable(tensor.detach()) for tensor in self.tensors[:2])
        if not all(map(_torch_arrays.has_memory, (q, k, *self.packed))):
            return
        found = _functions.sequence_lengths(q, k, self.options["block_size"], *self.packed)
        for name in ("max_seqlen_q", "max_seqlen_k"):
            if self.options[name] < found[name]:
                raise invalid(name, f"= {self.options[name]}", "at least the longest sequence", found[name])

    def columns(self):
        return max(1, -(-self.options["max_seqlen_k"] // self.options["block_size"]))

    def tokens(self):
        """(sequence, row within it, own block or -1 where there is none) of every query."""
        boundaries = [boundaries.long() for boundaries in self.packed]
        token = torch.arange(self.q.shape[0], device=self.q.device)
        sequence = (torch.searchsorted(boundaries[0], token, right=True) - 1).clamp(0, boundaries[0].shape[0] - 2)
        row = token - boundaries[0][sequence]
        lengths = [(b[1:] - b[:-1])[sequence] for b in boundaries]
        position = row + lengths[1] - lengths[0]
        blind = (position < 0) | (not self.causal)
        own = torch.where(blind, -1, torch.div(position, self.options["block_size"], rounding_mode="floor"))
        return sequence, row, own


def _padded(tensors):
    """Zeros behind head_dim, where the CUDA kernels take multiples of 8 alone; they change no product. Queries and keys
    that do not fit each other are left as they are, to be refused."""
    widths = [tensor.shape[-1] if tensor.dim() else 0 for tensor in tensors]
    if not (tensors[0].is_cuda and widths[0] == widths[1] and any(width % 8 for width in widths)):
        return tensors
    return [torch.nn.functional.pad(tensor, (0, -width % 8)) for tensor, width in zip(tensors, widths)]


def _columns_of(selection, call):
    """What flash_topk_varlen_func returns."""
    heads, tokens, _ = selection.shape
    sequence, row, own = call.tokens()
    columns, batch = call.columns(), call.packed[0].shape[0] - 1
    blocks = torch.cat([own[None, :, None].expand(heads, -1, 1), selection], dim=2) if call.causal else selection
    head = torch.arange(heads, device=selection.device)[:, None, None]
    last = batch * heads * columns  # where slots without a block go
    none = (blocks < 0) | (blocks >= columns)
    lists = torch.where(none, last, (sequence[None, :, None] * heads + head) * columns + blocks).flatten()
    counts = torch.zeros(last + 1, dtype=torch.int64, device=lists.device)
    counts.scatter_add_(0, lists, torch.ones_like(lists))
    order = torch.argsort(lists, stable=True)  # by list, then by query
    rows = row[None, :, None].expand_as(blocks).flatten()[order]
    rows = torch.where(lists[order] == last, -1, rows)
    missing = heads * tokens * call.options["topk"] - rows.shape[0]  # slots of more blocks than the keys have
    indices = torch.nn.functional.pad(rows, (0, missing), value=-1).int()
    shape = (batch, heads, columns)
    counts = counts[:last]
    return (counts.cumsum(0) - counts).reshape(shape), counts.int().reshape(shape), indices


def _selection_of(offsets, counts, indices, call):
    """int32 [heads, total_q, blocks beside the own one, if causal] of column lists. The host waits for them."""
    call.check_sequences()
    tokens, heads = call.q.shape[:2]
    _, _, own = call.tokens()
    head, block, token = _entries(offsets, counts, indices, call)
    row, is_own = head * tokens + token, block == own[token]
    kept = torch.zeros(heads * tokens, dtype=torch.bool, device=row.device)
    kept[row[is_own]] = True
    if not bool((kept.reshape(heads, tokens) | (own < 0)).all()):
        raise invalid("moba_row_indices", "leave queries out of their own blocks", "lists that have them", "add them")
    least = 0 if call.causal else min(1, call.columns())  # slots of a topk of 1
    return _slots(row[~is_own], block[~is_own], heads, tokens, least)


def _entries(offsets, counts, indices, call):
    """(head, block, query token) of every entry of the column lists, checked."""
    heads, boundaries = call.q.shape[1], call.packed[0].long()
    shape = (boundaries.shape[0] - 1, heads, call.columns())
    for name, array in (("moba_col_offsets", offsets), ("moba_col_nnz", counts)):
        if tuple(array.shape) != shape:
            raise invalid(name, f"has shape {tuple(array.shape)}", "[batch, heads, columns]", f"shape {shape}")
    arrays = {"moba_col_offsets": offsets, "moba_col_nnz": counts, "moba_row_indices": indices}
    offsets, counts, indices = (_integers(name, array) for name, array in arrays.items())
    _check_inside("moba_col_nnz", counts, indices.shape[0] + 1, "lengths of lists")
    column = torch.repeat_interleave(torch.arange(counts.shape[0], device=counts.device), counts)
    within = torch.arange(column.shape[0], device=counts.device) - (counts.cumsum(0) - counts)[column]
    at = offsets[column] + within
    _check_inside("moba_col_offsets", at, indices.shape[0], "entries of moba_row_indices")
    head, block = torch.div(column, shape[2], rounding_mode="floor") % heads, column % shape[2]
    sequence = torch.div(column, shape[2] * heads, rounding_mode="floor")
    row = indices[at]
    _check_inside("moba_row_indices", row, (boundaries[1:] - boundaries[:-1])[sequence], "queries of their sequence")
    return head, block, boundaries[sequence] + row


def _integers(name, array):
    if array.dtype not in (torch.int32, torch.int64):
        raise invalid_type(name, f"has dtype {array.dtype}", "int32 or int64", "int32")
    return array.flatten().long()


def _check_inside(name, values, end, what):
    if bool(((values < 0) | (values >= end)).any()):
        raise invalid(name, "point outside", f"at {what}", "the lists that flash_topk_varlen_func returns")


def _slots(row, block, heads, tokens, least):
    """Blocks as rows of equal length, at least `least`, -1 where there are fewer."""
    order = torch.argsort(row, stable=True)
    row, block = row[order], block[order]
    counts = torch.bincount(row, minlength=heads * tokens)
    slot = torch.arange(row.shape[0], device=row.device) - (counts.cumsum(0) - counts)[row]
    most = max(int(counts.max()) if counts.numel() else 0, least)
    selection = torch.full((heads * tokens, most), -1, dtype=torch.int32, device=row.device)
    selection[row, slot] = block.int()
    return selection.reshape(heads, tokens, most)
