"""Small language models with random weights, whose attention is far from uniform, and a tokenizer of words."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

SEED = 72
VOCABULARY = 96
LAYERS, HEADS, KEY_HEADS, DIM = 3, 4, 2, 16

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HEADS * DIM,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GROUPED = {**_COMMON, "num_key_value_heads": KEY_HEADS}

# Name: (config class, its arguments, rope_layout, rope_dim).
MODELS = {
    "llama": ("LlamaConfig", _GROUPED, "half", DIM),
    "qwen2": ("Qwen2Config", _GROUPED, "half", DIM),
    "qwen3": (
        "Qwen3Config",
        {**_GROUPED, "head_dim": 32},
        "half",
        32,
    ),  # norms of q and k; heads wider than hidden / heads
    "gpt_neox": ("GPTNeoXConfig", {**_COMMON, "rotary_pct": 0.25, "use_parallel_residual": True}, "half", 4),
    "phi3": ("Phi3Config", _GROUPED, "half", DIM),  # one projection for q, k and v
    "cohere": ("CohereConfig", _GROUPED, "interleaved", DIM),
}


def make(kind, device="cpu", dtype=torch.float32, implementation="sdpa", **other):
    name, arguments, _, _ = MODELS[kind]
    return from_config(name, device, dtype, implementation, **{**arguments, **other})


def from_config(name, device="cpu", dtype=torch.float32, implementation="sdpa", **arguments):
    torch.manual_seed(SEED)
    config = getattr(transformers, name)(**arguments)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=implementation)
    return model.to(device, dtype).eval()


def attentions(model):
    """Its attention modules and, of each, the projection of their output."""
    for module in model.modules():
        out = getattr(module, "o_proj", None) or getattr(module, "dense", None)
        if hasattr(module, "layer_idx") and out is not None:
            yield module, out


def tokenizer():
    """Words w0 ... w94, one token each."""
    vocabulary = {"?": 0, **{f"w{i}": i + 1 for i in range(VOCABULARY - 1)}}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="?")


def text(tokens):
    drawn = torch.randint(0, VOCABULARY - 1, (tokens,), generator=torch.Generator().manual_seed(SEED)).tolist()
    return " ".join(f"w{i}" for i in drawn)
