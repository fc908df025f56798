"""What an audit is run with: shapes and dtype of the tensors, and the seed of every draw."""

from typing import NamedTuple

from .._errors import invalid
from .formats import FORMATS


class Settings(NamedTuple):
    seq_len: int = 2048
    heads: int = 4
    heads_k: int = 2
    head_dim: int = 64
    block_size: int = 64
    topk: int = 4  # own block included
    dtype: str = "float32"
    seed: int = 1

    def checked(self):
        """Itself; raises an error that names the value, the rule and the nearest valid choice."""
        least_of = {"heads": 1, "heads_k": 1, "head_dim": 2, "block_size": 1}  # unit keys of one channel have no angle
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise invalid(name, f"= {getattr(self, name)}", f"at least {least}", least)
        if self.seed < 0:
            raise invalid("seed", f"= {self.seed}", "at least 0", 0)
        if self.dtype not in FORMATS:
            raise invalid("dtype", f"= {self.dtype}", "one of " + ", ".join(FORMATS), "float32")
        if self.heads % self.heads_k:
            nearest = max(self.heads // self.heads_k, 1) * self.heads_k
            raise invalid("heads", f"= {self.heads}", f"a multiple of heads_k = {self.heads_k}", nearest)
        if self.topk < 2:
            raise invalid("topk", f"= {self.topk}", "at least 2 (the own block and one routed one)", 2)
        least = self.block_size * (self.topk + 2)
        if self.seq_len < least:
            raise invalid(
                "seq_len",
                f"= {self.seq_len}",
                f"at least {least}, topk + 2 blocks of {self.block_size} keys, so that rows have a choice",
                least,
            )
        return self
