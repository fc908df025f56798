"""Cross entropy of the next token, by chunks of tokens: logits of a whole batch would be its largest tensor."""

import torch
import torch.nn.functional as F

from ..stepper import LOW_PRECISION, low_precision

CHUNK = 8192  # tokens


def last_hidden(model, tokens):
    """What the model's head reads, [batch * tokens, width]: bf16 on GPUs, float32 elsewhere."""
    with low_precision(tokens.device):
        hidden = model.hidden(tokens).flatten(0, 1)
    return hidden.to(LOW_PRECISION) if tokens.device.type == "cuda" else hidden


class _MeanLoss(torch.autograd.Function):
    """The gradient is made beside the loss, while a chunk's logits are there: none are kept or made twice."""

    @staticmethod
    def forward(ctx, hidden, weight, targets):
        low = weight.to(hidden.dtype)
        total = torch.zeros((), device=hidden.device)
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for h, target, d_h in zip(hidden.split(CHUNK), targets.split(CHUNK), d_hidden.split(CHUNK)):
            logits = (h @ low.T).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            total += (normaliser - logits.gather(-1, target[:, None])).sum()
            error = logits.sub_(normaliser).exp_()  # softmax less one-hot
            error.scatter_add_(-1, target[:, None], torch.full_like(normaliser, -1.0))
            error = error.to(hidden.dtype)
            d_h.copy_(error @ low)
            d_weight += error.T @ h
        ctx.save_for_backward(d_hidden, d_weight)
        return total / len(targets)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_loss):
        d_hidden, d_weight = ctx.saved_tensors
        scale = d_loss / len(d_hidden)
        return d_hidden * scale.to(d_hidden.dtype), d_weight * scale, None


def mean_loss(hidden, weight, targets):
    """Mean nats a token. hidden: [tokens, width], in whose dtype products are taken; weight: float32 [vocabulary,
    width]; targets: int64 [tokens]. Differentiable once in hidden and weight."""
    return _MeanLoss.apply(hidden, weight, targets)


@torch.no_grad()
def token_losses(hidden, weight, targets):
    """Nats of each token, float32 [tokens]; arguments as mean_loss's."""
    low = weight.to(hidden.dtype)
    losses = [
        F.cross_entropy((h @ low.T).float(), target, reduction="none")
        for h, target in zip(hidden.split(CHUNK), targets.split(CHUNK))
    ]
    return torch.cat(losses)
