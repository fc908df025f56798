"""One run of the language experiment: trained, evaluated, its records written."""

from .. import records
from ..campaign import FINISHED, STOPPED
from ..resumable import run_fields
from .evaluate import needle_test, validation
from .sequences import Sequences

# Of the run's name in its records: those of several experiments are read together, and arms of theirs have one name.
PREFIX = "language-"


def run(training, folder, should_stop, report):
    """FINISHED, with the run's records written whole; or STOPPED, with a checkpoint to go on from."""
    path = folder.checkpoint(training.name)
    training.restore(path)
    if not training.run(path, should_stop, report):
        return STOPPED
    report("evaluation")
    found = [run_record(training), *training.curve, *evaluation_records(training)]
    records.write(folder.records(training.name), [{**r, "run": PREFIX + training.name} for r in found])
    path.unlink()
    return FINISHED


def evaluation_records(training):
    settings, corpus, device = training.settings, training.corpus, training.device
    found = []
    for seq_len in settings.lengths:
        texts = Sequences(corpus.tokens["validation"], seq_len)
        losses = validation(training.model, texts, None, settings.batch_tokens, device)
        needles = needle_test(
            training.model,
            texts,
            settings.needle_sequences,
            settings.needle_depths,
            corpus.vocabulary,
            settings.batch_tokens,
            device,
        )
        documents = texts.documents(corpus.ends["validation"])
        found += [{**losses[0], "step": training.step, "sequence_document": documents}, *losses[1:], *needles]
    return found


def run_record(training):
    settings, config, corpus = training.settings, training.model.config, training.corpus.manifest["train"]
    return {
        **run_fields(training, "language", settings.seq_len),
        "window": config.window,
        "vocabulary": config.vocabulary,
        "corpus_tokens": corpus["tokens"],
        "corpus_sha256": corpus["sha256"],
        "needle_tokens": 6 * settings.pairs * settings.sequences * training.step,
    }
