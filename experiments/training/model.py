"""The transformer that all experiments train: layers alternate between a sliding window and the attention under test.

As in the paper's models (section 4): even layers see a sliding window with rotary positions, odd layers see the whole
text without positions, by dense attention or by MoBA. "local" has a sliding window in every layer: what a model can do
that never looks further.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Attention

ATTENTIONS = ("dense", "moba", "local")
RESIDUAL_STD = 0.02  # of what writes to the residual stream, and of the head


@dataclass(frozen=True)
class ModelConfig:
    """attention: one of ATTENTIONS; block_size, topk (own block included), scorer and key_conv (width, 0 for none) are
    MoBA's. width = heads * head_dim. window: keys a sliding-window query sees."""

    vocabulary: int
    width: int = 256
    layers: int = 4
    head_dim: int = 64
    attention: str = "dense"
    block_size: int = 0
    topk: int = 0
    scorer: str = ""
    key_conv: int = 0
    window: int = 64
    mlp_ratio: int = 4

    @property
    def heads(self):
        return self.width // self.head_dim

    def kind(self, layer):
        """The attention of a layer."""
        return "local" if layer % 2 == 0 else self.attention


@dataclass(frozen=True)
class Intervention:
    """What an evaluation changes in a trained model: layers whose attention adds nothing; what becomes of the key
    convolution ("kept", "linear", "removed": attention.convolve_keys); and whether tokens that are not asked may hand on
    what they found in routed blocks: without relays only the positions of which logits are asked see routed blocks."""

    silent: tuple = ()
    convolution: str = "kept"
    relays: bool = True


UNCHANGED = Intervention()


class Layer(nn.Module):
    """x + attention(norm x), then x + mlp(norm x). before() and after() surround the attention itself."""

    def __init__(self, config, kind):
        super().__init__()
        self.width = config.width
        self.attention = Attention(config, kind)
        self.up = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.down = nn.Linear(config.mlp_ratio * config.width, config.width)

    def before(self, x):
        """q, k and v."""
        return self.attention.project(F.rms_norm(x, (self.width,)))

    def after(self, x, attended):
        """The residual stream behind the layer; attended: [batch, tokens, heads, head_dim]."""
        x = x + self.attention.out(attended.flatten(2))
        return x + self.down(F.gelu(self.up(F.rms_norm(x, (self.width,)))))


class Model(nn.Module):
    """Token ids in, logits of the next token out.

    Embeddings have unit variance: with small ones the residual stream is dominated by what the first layers add, and
    recall stayed at chance.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, config.kind(i)) for i in range(config.layers))
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=1.0)
        writers = [w for layer in self.layers for w in (layer.attention.out.weight, layer.down.weight)]
        for weight in (*writers, self.head.weight):
            nn.init.normal_(weight, std=RESIDUAL_STD)

    def hidden(self, tokens, intervention=UNCHANGED, tap=None, asked=None):
        """The normalised residual stream [batch, tokens, width] behind the last layer.

        tap: called as tap(layer, q, k, v) with each layer's tensors, keys before the convolution. asked: int64 [batch,
        positions], which an intervention without relays needs.
        """
        routing = None if intervention.relays else asked
        x = self.embedding(tokens)
        for number, layer in enumerate(self.layers):
            q, k, v = layer.before(x)
            if tap is not None:
                tap(number, q, k, v)
            attended = layer.attention.attend(q, k, v, intervention.convolution, routing)
            x = layer.after(x, torch.zeros_like(attended) if number in intervention.silent else attended)
        return F.rms_norm(x, (self.config.width,))

    def forward(self, tokens, at=None, intervention=UNCHANGED, tap=None):
        """Logits [batch, positions, vocabulary]; at: int64 [batch, positions], None for all positions."""
        x = self.hidden(tokens, intervention, tap, at)
        if at is not None:
            x = x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))
        return self.head(x)

    def parameter_count(self):
        return sum(p.numel() for p in self.parameters())
