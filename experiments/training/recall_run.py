"""One run of the recall experiment: trained, evaluated, its records and traces written."""

from . import campaign, records
from .campaign import FINISHED, STOPPED
from .evaluate import INTERVENTIONS, KEY_VARIANTS, WITHOUT_RELAYS, evaluate
from .resumable import run_fields
from .traces import write_trace
from .train import Training

FEWER_SEQUENCES = 3  # of interventions: an ablation is a large effect, and a third of the texts tells it


class Folder(campaign.Folder):
    """With a place for traces (None: nowhere)."""

    def __init__(self, parts, traces):
        super().__init__(parts)
        self.traces = traces

    def trace(self, name):
        return None if self.traces is None else self.traces / f"{name}.safetensors"


def run(training, folder, should_stop, report):
    """FINISHED, with the run's records written whole; or STOPPED, with a checkpoint to go on from."""
    path = folder.checkpoint(training.name)
    training.restore(path)
    if not training.run(path, should_stop, report):
        return STOPPED
    report("evaluation")
    found = evaluation_records(training)
    trace = folder.trace(training.name)
    if trace is not None and training.arm.attention == "moba":
        arguments = (training.settings.trained(), training.seed, training.device)
        write_trace(trace, training.name, training.model, *arguments)
    records.write(folder.records(training.name), [{**r, "run": training.name} for r in found])
    path.unlink()
    return FINISHED


def run_record(training):
    fields = run_fields(training, "recall", training.stages[-1][0])
    return {**fields, "learned": int(training.learned), "stages": training.stages}


def evaluation_records(training):
    found = [run_record(training), *({"kind": "curve", **point} for point in training.curve)]
    settings = training.settings
    convolved = training.arm.key_conv > 0
    for i, (text, sequences) in enumerate(settings.evaluations):
        variants = tuple(KEY_VARIANTS) if convolved and i == 0 else ()
        found += _records(_evaluate(training, text, sequences, variants=variants))
    text, sequences = settings.evaluations[0]
    if training.arm.attention == "moba":
        found += _records(_evaluate(training, text, sequences, intervention=WITHOUT_RELAYS), "no-relays")
    sequences = max(1, sequences // FEWER_SEQUENCES)
    for name, intervention in INTERVENTIONS.items():
        if convolved or not name.endswith("-conv"):
            result = _evaluate(training, text, sequences, intervention=intervention, measured=False)
            found += _records(result, name)
    return found


def _evaluate(training, text, sequences, **options):
    batch_tokens, seed = training.settings.batch_tokens, training.seed
    return evaluate(training.model, text, sequences, batch_tokens, seed, training.device, **options)


def _records(result, variant=""):
    seq_len = result.accuracy["seq_len"]
    yield {"kind": "accuracy", **({"variant": variant} if variant else {}), **result.accuracy}
    for changed, heads in result.heads.items():
        for head in heads:
            name = changed or variant
            yield {"kind": "head", **({"variant": name} if name else {}), "seq_len": seq_len, **head}
