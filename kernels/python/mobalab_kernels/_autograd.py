"""The whole MoBA attention as one differentiable torch function."""

import torch
from torch.autograd.function import once_differentiable

from . import _arguments, _torch_arrays
from . import _functions as f
from ._errors import invalid_type


class _KeyConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, k, weight, options):
        ctx.save_for_backward(k, weight)
        ctx.options = options
        return f.key_conv_forward(k, weight, **options)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        gradients = f.key_conv_backward(*ctx.saved_tensors, _torch_arrays.readable(d_out), **ctx.options)
        return (*_needed(ctx, gradients), None)


class _MobaAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, block_size, topk, routing, options):
        out, lse, selection = f.moba_forward(q, k, v, block_size, topk, **routing, **options)
        ctx.save_for_backward(q, k, v, out, lse, selection)
        ctx.block_size, ctx.topk, ctx.options = block_size, topk, options
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        q, k, v, out, lse, selection = ctx.saved_tensors
        gradients = f.attention_backward(
            q, k, v, out, _torch_arrays.readable(d_out), lse, selection, ctx.block_size, ctx.topk, **ctx.options
        )
        return (*_needed(ctx, gradients), None, None, None, None)


def _needed(ctx, gradients):
    return (gradient if needed else None for needed, gradient in zip(ctx.needs_input_grad, gradients))


def _autocast_dtype(device):
    """What autocast makes of attention's inputs on this kind of device; None where it is off."""
    if hasattr(torch, "get_autocast_dtype"):  # since PyTorch 2.4
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == "cuda":
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None


def _prepared(tensor):
    """As torch's own attention takes it: autocast, then whatever layout the kernels read."""
    if tensor.device.type in ("cpu", "cuda") and tensor.is_floating_point() and tensor.dtype != torch.float64:
        dtype = _autocast_dtype(tensor.device.type)
        tensor = tensor if dtype is None else tensor.to(dtype)
    return _torch_arrays.readable(tensor)


def _check_tensor(name, array):
    if not _torch_arrays.takes(array):
        raise invalid_type(name, f"is a {type(array).__name__}", "a torch tensor", "moba_forward for NumPy arrays")


def moba_attention(
    q,
    k,
    v,
    block_size,
    topk,
    conv_weight=None,
    *,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    total_blocks=None,
    fp32_centroids=False,
    centred_centroids=False,
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    threads=0,
):
    """MoBA attention of torch tensors, causal; differentiable (once) in q, k, v and conv_weight.

    q: [batch, seqlen_q, heads_q, head_dim]; k, v: [batch, seqlen_k, heads_k, head_dim] (or packed, see the module), one
    dtype and device. Any strides are taken without a copy as long as rows of head_dim are contiguous (on CUDA devices:
    and start at multiples of 16 bytes); other layouts are copied. Returns out like q.
    conv_weight: float32 [heads_k, head_dim, width] applies the key convolution first; routing and attention both use
    its output. scorer: how a query scores a block, keep_first: whether block 0 is always kept, see the module. No
    gradient flows through the routing. Under torch.autocast q, k and v are cast to its dtype, as by
    torch.nn.functional.scaled_dot_product_attention; conv_weight stays float32.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, tensor)
    q, k, v = _prepared(q), _prepared(k), _prepared(v)
    options = {
        "cu_seqlens_q": cu_seqlens_q,
        "cu_seqlens_k": cu_seqlens_k,
        "max_seqlen_q": max_seqlen_q,
        "max_seqlen_k": max_seqlen_k,
        "total_blocks": total_blocks,
        "threads": threads,
    }
    packed = _arguments.given(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k)
    if conv_weight is not None:  # checked beside q and v, before the convolution sees k alone
        _check_tensor("conv_weight", conv_weight)
        conv_weight = _torch_arrays.contiguous(conv_weight)
        arrays = {"q": q, "k": k, "v": v, "conv_weight": conv_weight}
        _arguments.Arrays("moba_attention", arrays, packed).check_dense_arrays()
    if packed and max_seqlen_q is max_seqlen_k is total_blocks is None:  # read back once, also for the backward pass
        options.update(f.sequence_lengths(q, k, block_size, cu_seqlens_q, cu_seqlens_k))
    if conv_weight is not None:
        k = _KeyConv.apply(
            k,
            conv_weight,
            {"cu_seqlens_k": cu_seqlens_k, "max_seqlen_k": options["max_seqlen_k"], "threads": threads},
        )
    routing = {
        "fp32_centroids": fp32_centroids,
        "centred_centroids": centred_centroids,
        "scorer": scorer,
        "scorer_seed": scorer_seed,
        "keep_first": keep_first,
    }
    return _MobaAttention.apply(q, k, v, block_size, topk, routing, options)
