"""The figures of results files: name, what it shows in words, and the function that draws it."""

from dataclasses import dataclass
from typing import Callable

from notebooks_export import style
from notebooks_export.figures import (agreement, by_candidates, chosen_heads, frontier, hits, loss_by_position, misses,
                                      needle_accuracy, pairwise, predicted, recall_curves, recall_map, routed_distance,
                                      routed_where, solved, speed, trained_accuracy, trained_curves, trained_scatter,
                                      trained_variants, validation_loss)
from notebooks_export.layout import NoData
from notebooks_export.results import MODEL_TABLES, TRAINING_TABLES


@dataclass(frozen=True)
class FigureSpec:
    """One figure. `text` is what is true of it whatever it draws; what it draws is in the caption of each Drawing.

    `function(study)` returns a Drawing or raises NoData; with `each_file` it is `function(results)`, a figure for each
    file that has what it needs. `about`: what its tables are about, `points`, a real `model` or `training`.
    """

    name: str
    title: str
    text: str
    function: Callable
    each_file: bool = False
    about: str = "points"

    def draw(self, study, place=0):
        """The Drawing; of a figure for each file that of file number `place`."""
        with style.context():
            return self.function(study.files[place] if self.each_file else study)


FIGURES = (
    FigureSpec(
        "solved", "What a hit probability takes",
        "The answer of theory --solve at each point.",
        solved.draw),
    FigureSpec(
        "hit_probability", "Hit probability",
        "The probability that the needle's block is among the blocks the query attends to.",
        hits.draw),
    FigureSpec(
        "miss_probability", "Miss probability, log axis",
        "The probability that it is not, on an axis that tells rare misses apart. The axes are chosen anew for this figure, "
        "so it may show other points than the one above.",
        misses.draw),
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
        agreement.draw, each_file=True),
    FigureSpec(
        "speed", "Speed",
        "Median of the repeats, from the lowest to the highest.",
        speed.draw),
    FigureSpec(
        "recall_map", "Recall and loss of every head",
        "Recall is the share of the attention mass of a query's past blocks that lies in the routed ones; what is lost is "
        "the mass of those that are not routed, of the whole softmax.",
        recall_map.draw, about="model"),
    FigureSpec(
        "recall_by_block_size", "Recall against block size",
        "Smaller blocks at a fixed number k of blocks attend to fewer keys; at a fixed budget of k B keys they choose "
        "more finely.",
        recall_curves.draw, about="model"),
    FigureSpec(
        "predicted_measured", "Predicted against measured",
        "Every dot is a head in one setting.",
        predicted.draw, about="model"),
    FigureSpec(
        "routed_where", "Where routed blocks lie",
        "A router that takes the latest blocks is a sliding window; one that always takes block 0 keeps the sink.",
        routed_where.draw, about="model"),
    FigureSpec(
        "routed_distance", "How far back routed blocks lie",
        "Routing helps where the routed blocks lie as far back as the attention mass does.",
        routed_distance.draw, about="model"),
    FigureSpec(
        "frontier", "Recall against cost",
        "Every setting that was weighed; those on the frontier lose least at their cost.",
        frontier.draw, about="model"),
    FigureSpec(
        "chosen_heads", "The chosen setting, head by head",
        "Averages over heads hide the heads that fetch facts: a head that loses much should stay dense.",
        chosen_heads.draw, each_file=True, about="model"),
    FigureSpec(
        "trained_accuracy", "Accuracy against head width and block size",
        "Models trained from scratch to recall pairs; the prediction is made from statistics of each model's own keys.",
        trained_accuracy.draw, about="training"),
    FigureSpec(
        "trained_hits", "Predicted against measured hits",
        "What the kernel routes in each head of each trained model, against the probability for that head's scores.",
        trained_scatter.draw_hits, about="training"),
    FigureSpec(
        "trained_answers", "Predicted against measured accuracy",
        "A pair counts as answered where some head routes its block; below the line the model reads out less than it "
        "routes, or its heads hit the same pairs.",
        trained_scatter.draw_accuracy, about="training"),
    FigureSpec(
        "trained_curves", "Training curves",
        "Loss, answers, hits and signal to noise while the models learn.",
        trained_curves.draw, about="training"),
    FigureSpec(
        "trained_variants", "Trained models with a part changed",
        "A part that was taken away after training tells what rests on it.",
        trained_variants.draw, about="training"),
    FigureSpec(
        "validation_loss", "Validation loss by arm",
        "Language models of equal steps on equal text.",
        validation_loss.draw, about="training"),
    FigureSpec(
        "loss_by_position", "Loss by position",
        "A token late in a text has more to look back to.",
        loss_by_position.draw, about="training"),
    FigureSpec(
        "needle_accuracy", "Needles answered",
        "A pair is planted at a depth of a text and asked for at its end.",
        needle_accuracy.draw, about="training"),
)


def draw_all(study):
    """([(name, FigureSpec, place, Drawing)], {name: why it was left out}) of every figure the files allow.

    `name` is the figure's, with the file's place behind it where several files have one each.
    """
    drawn, left_out = [], {}
    subjects = _subjects(study)
    for figure in FIGURES:
        if figure.about not in subjects:
            continue
        places, reasons = [], []
        for place in range(len(study.files)) if figure.each_file else (0,):
            try:
                places.append((place, figure.draw(study, place)))
            except NoData as reason:
                reasons.append(str(reason))
        for place, drawing in places:
            name = f"{figure.name}_{place + 1}" if len(places) > 1 else figure.name
            drawn.append((name, figure, place, drawing))
        if not places:
            left_out[figure.name] = reasons[0]
    return drawn, left_out


def _subjects(study):
    """The values of `about` that the files say anything of: figures of what they are not about are not missed."""
    return {_subject(table) for results in study.files for table in results.tables}


def _subject(table):
    return "model" if table in MODEL_TABLES else "training" if table in TRAINING_TABLES else "points"
