"""Trains a small transformer on MoBA attention, key convolution included, to copy: a sequence is a random half repeated,
and the loss counts the second half. A fixed batch is overfitted, so the loss must go to zero if gradients are right.

    MOBALAB_KERNELS_LIBRARY=build/lib/libmobalab_kernels.so PYTHONPATH=kernels/python python3 kernels/python/examples/copy_task.py
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn

import mobalab_kernels as mk

VOCABULARY, HALF, BATCH = 64, 256, 4
HEADS, HEADS_K, HEAD_DIM, LAYERS = 4, 2, 64, 2
BLOCK_SIZE, TOPK, CONV_WIDTH = 64, 3, 3
STEPS, LOSS_LIMIT = 300, 0.05


class Block(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        width = HEADS * HEAD_DIM
        self.dtype = dtype
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, (HEADS + 2 * HEADS_K) * HEAD_DIM, bias=False)
        self.conv = nn.Parameter(0.1 * torch.randn(HEADS_K, HEAD_DIM, CONV_WIDTH))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x):
        batch, seq, _ = x.shape
        heads = self.project(self.norm(x)).view(batch, seq, -1, HEAD_DIM).to(self.dtype)
        q, k, v = heads.split([HEADS, HEADS_K, HEADS_K], dim=2)
        y = mk.moba_attention(q, k, v, BLOCK_SIZE, TOPK, conv_weight=self.conv)
        return x + self.out(y.reshape(batch, seq, -1).to(x.dtype))


class Copier(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        width = HEADS * HEAD_DIM
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.randn(2 * HALF, width))
        self.blocks = nn.ModuleList(Block(dtype) for _ in range(LAYERS))
        self.read = nn.Linear(width, VOCABULARY)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.read(x)


def main():
    device = "cuda" if mk.backend_available("cuda") is None and torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(1)
    half = torch.randint(VOCABULARY, (BATCH, HALF), device=device)
    tokens = torch.cat([half, half], dim=1)
    model = Copier(dtype).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(STEPS + 1):
        logits = model(tokens)[:, HALF - 1:-1]
        loss = F.cross_entropy(logits.reshape(-1, VOCABULARY), half.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            right = (logits.argmax(-1) == half).float().mean().item()
            print(f"{device} step {step}: loss {loss.item():.4f}, {100 * right:.1f} % of tokens copied")
        if not torch.isfinite(loss):
            break
    if not loss.item() < LOSS_LIMIT:
        sys.exit(f"loss {loss.item():.4f} after {STEPS} steps: must be below {LOSS_LIMIT}")


if __name__ == "__main__":
    main()
