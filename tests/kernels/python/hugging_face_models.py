"""Small random models of transformers, and how their outputs are compared: what tests of attn_implementation="mobalab"
share. Imported after the library is found; without torch 2.4 or transformers 4.56 the program ends here."""

import sys
import unittest

import mobalab_kernels as mk

try:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
except ImportError:
    print("skipped: needs torch and transformers")
    sys.exit(0)
if not hasattr(torch.library, "register_autograd"):
    print("skipped: needs torch 2.4")
    sys.exit(0)
try:
    from mobalab_kernels import hugging_face
except ImportError as error:  # of an older transformers
    print("skipped:", error)
    sys.exit(0)

SEED = 64
BLOCK, TOPK = 16, 3
LAYERS = 2
torch.set_num_threads(1)  # of models this small; more of them wait for one another
hugging_face.register(block_size=BLOCK, topk=TOPK)


def gap(got, want):
    """The relative error that three quarters of the tokens stay below: in 16 bits blocks of nearly equal scores may
    change places with what else is in the call, and a token that reads another block is another one."""
    return ((got - want).float().norm(dim=-1) / want.float().norm(dim=-1)).quantile(0.75).item()


class Models:
    device, dtype = "cpu", None
    limit = 1e-4  # of a relative error

    def model(self, attention="mobalab", kind="Llama", **options):
        torch.manual_seed(SEED)
        configs = {"Llama": (LlamaConfig, LlamaForCausalLM), "Mistral": (MistralConfig, MistralForCausalLM)}
        config, model = configs[kind]
        config = config(
            vocab_size=64,
            hidden_size=128,
            intermediate_size=128,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=None,
            attn_implementation=attention,
            initializer_range=0.2,
            **options,
        )
        return model(config).to(self.device, self.dtype).eval()

    def text(self, batch=2, tokens=100):
        g = torch.Generator().manual_seed(SEED)
        return torch.randint(2, 64, (batch, tokens), generator=g).to(self.device)

    def padded(self, lengths, left):
        """(ids, mask) of texts padded to one length."""
        ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long, device=self.device)
        for row, text, n in zip(ids, self.text(len(lengths), max(lengths)), lengths):
            row[-n if left else 0 : None if left else n] = text[:n]
        return ids, (ids != 0).long()

    def generated(self, model, ids, mask=None, **options):
        mask = torch.ones_like(ids) if mask is None else mask
        made = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=12,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            **options,
        )
        return made.sequences[:, ids.shape[1] :], torch.stack(made.logits, dim=1)

    def assert_same_texts(self, tokens, logits, alone):
        for row, (wanted_tokens, wanted) in enumerate(alone):
            same = self.until_they_part(tokens[row], wanted_tokens[0])
            self.assertLess(gap(logits[row, :same], wanted[0, :same]), self.limit)

    def until_they_part(self, one, other):
        """Steps that have the same text before them: in 16 bits two tokens may be as good as each other."""
        different = (one != other).nonzero()
        steps = int(different[0]) + 1 if different.numel() else one.shape[0]
        self.assertGreater(steps, 1 if self.device == "cuda" else 11)
        return steps


class OnCpu:
    """Beside Models and unittest.TestCase."""

    def setUp(self):
        self.dtype = torch.float32


@unittest.skipIf(
    not torch.cuda.is_available() or mk.backend_available("cuda") is not None,
    "needs torch with CUDA and the CUDA backend",
)
class OnCuda:
    device = "cuda"
    limit = 5e-2

    def setUp(self):
        self.dtype = torch.bfloat16
