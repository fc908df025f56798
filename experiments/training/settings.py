"""How the recall experiment trains and evaluates, in full and as a test that takes seconds on a CPU."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

from .recall_task import Text

STEPS_A_CHUNK = 20  # between two looks at the loss: on a GPU each look is a wait


class Stage(NamedTuple):
    """A length of the curriculum: its text, how many sequences a step sees, and after how many steps it ends."""

    text: Text
    sequences: int
    most_steps: int


@dataclass(frozen=True)
class Settings:
    """goal: accuracy over a chunk of steps that ends a stage (the last one is never cut: all arms train it alike).
    learned: accuracy that the first stage must end with, or training ends there and the run is one that did not learn.
    evaluations: [(text, sequences)], the trained length first."""

    width: int
    layers: int
    stages: tuple
    evaluations: tuple
    batch_tokens: int  # of an evaluation's forward pass, at least one sequence
    curve_sequences: int  # of the fixed texts that curves are measured on
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.5  # of the last stage's steps, in which the rate falls linearly to 0
    goal: float = 0.97
    learned: float = 0.5
    chunks_a_curve: int = 2

    def identity(self):
        """Plain values: two runs with the same ones are the same experiment."""
        return asdict(self)

    def trained(self):
        """The text of the last stage."""
        return self.stages[-1].text

    def most_steps(self):
        return sum(stage.most_steps for stage in self.stages)


FULL = Settings(
    width=256,
    layers=4,
    stages=(
        Stage(Text(32, 6, 6), 512, 2000),
        Stage(Text(64, 12, 12), 256, 300),
        Stage(Text(128, 24, 24), 128, 300),
        Stage(Text(256, 48, 48), 64, 300),
        Stage(Text(512, 64, 64), 32, 300),
        Stage(Text(1024, 64, 64), 32, 300),
        Stage(Text(2048, 64, 64), 32, 500),
    ),
    evaluations=tuple((Text(tokens, 64, 64), 96) for tokens in (2048, 4096, 8192, 16384, 32768)),
    batch_tokens=131072,
    curve_sequences=16,
    chunks_a_curve=4,
)

SMOKE = Settings(
    width=128,
    layers=2,
    stages=(Stage(Text(64, 8, 8), 2, 40), Stage(Text(512, 16, 16), 1, 20)),
    evaluations=((Text(512, 16, 16), 2), (Text(1024, 16, 16), 2)),
    batch_tokens=1024,
    curve_sequences=1,
    warmup=10,
    learned=0.0,
)
