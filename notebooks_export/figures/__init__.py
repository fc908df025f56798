"""The figures of a results file: name, what it shows in words, and the function that draws it."""

from dataclasses import dataclass
from typing import Callable

from notebooks_export import style
from notebooks_export.figures import agreement, by_candidates, by_ratio, pairwise, speed


@dataclass(frozen=True)
class FigureSpec:
    """`draw(results)` returns a matplotlib figure or raises NoData."""

    name: str
    title: str
    text: str
    function: Callable

    def draw(self, results):
        with style.context():
            return self.function(results)


FIGURES = (
    FigureSpec(
        "hit_probability", "Hit probability against d/B",
        "A wider head or a smaller block (to the right) makes the needle's block stand out. Lines are the exact "
        "probability, computed without any simulation; circles are Monte Carlo, squares the real kernel on real "
        "tensors, each with its interval. The slice drawn is the one whose probabilities vary most; its fixed values "
        "stand under the title. Probes of the kernel sit all along the sequence, where fewer blocks compete than for "
        "the last query, so their exact mean is a line of its own (dotted).",
        by_ratio.draw_hits),
    FigureSpec(
        "miss_probability", "Miss probability, log axis",
        "The same slice seen from the other side: how rare a miss is. An open triangle marks the upper limit where no "
        "miss was seen; the exact line goes on where sampling cannot.",
        by_ratio.draw_misses),
    FigureSpec(
        "pairwise_formula", "The pairwise formula against the exact probability",
        "The paper's SNR describes one noise block against the signal block: Φ(SNR) is the probability of beating "
        "that one. The router has to beat all but k − 2 of its c − 1 rivals at once, all against the same signal "
        "score. At one SNR the exact hit probability therefore depends on how many candidates compete (left), and at "
        "the paper's reliability rule SNR = Φ⁻¹(1 − (k − 1)/c) it is not one number (right): the share of the signal "
        "block's own noise matters as well.",
        pairwise.draw),
    FigureSpec(
        "hits_by_candidates", "Hits by number of candidates",
        "One forward pass of the kernel holds queries with few and with many past blocks. Each square is a bin of "
        "candidates c; the line is the exact probability averaged over the same probes.",
        by_candidates.draw),
    FigureSpec(
        "agreement", "Agreement of theory, simulation and kernel",
        "Every comparison as a z-score, sorted, against what chance alone would give (the diagonal). The dashed lines "
        "are where the first comparison would be rejected at the family-wise error rate; small counts make the middle "
        "of the curve flatter or stepped, which is harmless. Systematic error would bend the ends away.",
        agreement.draw),
    FigureSpec(
        "speed", "Speed",
        "Median of the repeats, from the lowest to the highest; on the right the flop rate and the ratio to the peer "
        "measured in the same run.",
        speed.draw),
)
