"""Records what a model's attention computes on a text: queries, keys and values of chosen layers, as a trace that
`mobalab measure` reads.

    from mobalab_kernels.record import Needle, Recorder, record

record(model, text, path, about=...): a causal language model of transformers, by name or object.
Recorder(path, ...): any PyTorch module or NumPy code, which hands over its q, k and v or is hooked.
Needle, read_needles: facts planted in the text, by spans of characters.
python3 -m mobalab_kernels.record: the same from the command line.

record and load_model need torch and transformers, Recorder for NumPy arrays neither. Errors are mobalab_kernels.Error.
"""

from ._needles import Needle, read_needles, token_needles
from ._recorder import Recorder

__all__ = ["Needle", "Recorder", "load_model", "read_needles", "record", "token_needles"]


def __getattr__(name):
    if name in ("record", "load_model"):  # torch and transformers are imported for these alone
        from . import _hugging_face

        return getattr(_hugging_face, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
