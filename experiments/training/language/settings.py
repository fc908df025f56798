"""How the language models train and are evaluated, in full and as a test that takes seconds on a CPU."""

import math
from dataclasses import asdict, dataclass

STEPS_A_CHUNK = 20  # between two looks at the loss: on a GPU each look is a wait


@dataclass(frozen=True)
class Settings:
    """sequences: of seq_len tokens, a step. pairs: needles planted and asked in each training sequence (needles.py).
    lengths: contexts of the evaluations, the trained one first. needle_sequences: texts of a needle test, which hides
    needle_depths needles in each. validation_sequences: texts of the validations during training; after it all are
    read. batch_tokens: of an evaluation's forward pass, at least one sequence."""

    width: int
    layers: int
    window: int
    seq_len: int
    sequences: int
    steps: int
    pairs: int
    lengths: tuple
    needle_sequences: int
    needle_depths: int
    validation_sequences: int
    batch_tokens: int
    chunks_a_validation: int
    rate: float = 1e-3
    least_rate: float = 0.05  # of the rate, at the last step
    warmup: int = 100

    def identity(self):
        """Plain values: two runs with the same ones are the same experiment."""
        return asdict(self)

    def rate_at(self, step):
        """The learning rate of a step, from 0: linear warm-up, then half a cosine down to least_rate."""
        warm = min(self.warmup, self.steps)
        if step < warm:
            return self.rate * (step + 1) / warm
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))
        return self.rate * (self.least_rate + (1 - self.least_rate) * cosine)


FULL = Settings(
    width=512,
    layers=8,
    window=256,
    seq_len=8192,
    sequences=4,
    steps=2000,
    pairs=128,
    lengths=(8192, 32768),
    needle_sequences=128,
    needle_depths=16,
    validation_sequences=32,
    batch_tokens=65536,
    chunks_a_validation=5,
)

SMOKE = Settings(
    width=64,
    layers=2,
    window=64,
    seq_len=512,
    sequences=2,
    steps=30,
    pairs=8,
    lengths=(512, 1024),
    needle_sequences=2,
    needle_depths=4,
    validation_sequences=2,
    batch_tokens=1024,
    chunks_a_validation=1,
    warmup=10,
)
