"""A training step's worth of attention: forward and backward of LAYERS layers with a key convolution, for compare_gpu.py.

The layers' tensors are kept until their backward pass, as training does. The official kernel has no key convolution: its
keys go through PyTorch's depthwise conv1d. Dense attention has none.
"""

import torch
import torch.nn.functional as F

import mobalab_kernels as mk

LAYERS, SEQ_LEN, HEADS, HEAD_DIM, BLOCK_SIZE, TOPK, WIDTH = 8, 32768, 16, 128, 128, 8, 3


def convolved(k, weight):
    """k_t + silu(sum over lags of weight k_{t-l}), as mk.key_conv_forward, by PyTorch; k: [batch, tokens, heads, dim]."""
    channels = k.flatten(2).transpose(1, 2)
    taps = weight.flatten(0, 1).flip(-1)[:, None].to(k.dtype)
    mixed = F.conv1d(F.pad(channels, (weight.shape[-1] - 1, 0)), taps, groups=channels.shape[1])
    return (channels + F.silu(mixed)).transpose(1, 2).unflatten(2, k.shape[2:])


def moba(q, k, v, weight):
    return mk.moba_attention(q, k, v, BLOCK_SIZE, TOPK, weight)


def layer_inputs(batch, seed):
    """[(q, k, v, weight)], one a layer; leaves."""
    g = torch.Generator(device="cuda").manual_seed(seed)
    shape = (batch, SEQ_LEN, HEADS, HEAD_DIM)

    def leaf(*size, dtype=torch.bfloat16, scale=1.0):
        return (scale * torch.randn(size, generator=g, device="cuda", dtype=dtype)).requires_grad_(True)

    weight = (HEADS, HEAD_DIM, WIDTH)
    return [(*(leaf(*shape) for _ in range(3)), leaf(*weight, dtype=torch.float32, scale=0.3)) for _ in range(LAYERS)]


def step(attention, layers, d_out):
    """Every layer forward, then all backward."""
    torch.autograd.backward([attention(*layer) for layer in layers], [d_out] * len(layers))
    for layer in layers:
        for leaf in layer:
            leaf.grad = None


def difference(attention, layer):
    """Of one layer's output from moba()'s, relative, in the Frobenius norm; rows that route otherwise count."""
    with torch.no_grad():
        ours, theirs = moba(*layer).float(), attention(*layer).float()
    return float((ours - theirs).norm() / ours.norm())
