"""The whole MoBA attention as one differentiable torch function."""

import torch

from . import _functions as f


class _KeyConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, k, weight):
        ctx.save_for_backward(k, weight)
        return f.key_conv_forward(k, weight)

    @staticmethod
    def backward(ctx, d_out):
        k, weight = ctx.saved_tensors
        return f.key_conv_backward(k, weight, d_out.contiguous())


class _MobaAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, block_size, topk):
        out, lse, selection = f.moba_forward(q, k, v, block_size, topk)
        ctx.save_for_backward(q, k, v, out, lse, selection)
        ctx.block_size, ctx.topk = block_size, topk
        return out

    @staticmethod
    def backward(ctx, d_out):
        q, k, v, out, lse, selection = ctx.saved_tensors
        dq, dk, dv = f.attention_backward(q, k, v, out, d_out.contiguous(), lse, selection, ctx.block_size, ctx.topk)
        return dq, dk, dv, None, None


def moba_attention(q, k, v, block_size, topk, conv_weight=None):
    """MoBA attention of [batch, seq, heads, dim] tensors, causal; differentiable in q, k, v and conv_weight.

    conv_weight: fp32 [heads_k, dim, width] applies the key convolution first; routing and attention both use its output.
    No gradient flows through the routing.
    """
    if conv_weight is not None:
        k = _KeyConv.apply(k.contiguous(), conv_weight.contiguous())
    return _MobaAttention.apply(q.contiguous(), k.contiguous(), v.contiguous(), block_size, topk)
