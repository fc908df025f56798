"""Records causal language models of Hugging Face's transformers (4.53 and later)."""

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

import torch
import transformers

from .._errors import INVALID_ARGUMENT, Error, invalid, invalid_type
from . import _rope
from ._attention_function import watched
from ._needles import token_needles
from ._projections import Projections, not_found
from ._recorder import Recorder, whole

PACKAGE = "package:"


def load_model(name, device="cpu", compute_dtype="float32"):
    """(model, tokenizer, metadata) of a name: a folder or name that from_pretrained takes, a .gguf file, or
    package:NAME for the one .gguf file that an installed Python package holds."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise invalid("device", device, "one that torch sees", "cpu")
    found, options, place = {"model": name}, {}, name
    if name.startswith(PACKAGE) or name.endswith(".gguf"):
        file, source = _gguf_of_package(name[len(PACKAGE) :]) if name.startswith(PACKAGE) else (Path(name), "")
        if not file.is_file():
            raise invalid("model", name, "a file that exists", "its full path")
        found = {"model": file.stem, "model_file": file.name + source, "model_sha256": _sha256(file)}
        place, options = str(file.parent), {"gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(place, **options)
    except (OSError, ValueError, ImportError) as failed:
        reason = " ".join(str(failed).split())
        raise Error(INVALID_ARGUMENT, f"model {name}: transformers cannot load it: {reason}") from failed
    return model.to(device, getattr(torch, compute_dtype)).eval(), tokenizer, found


def record(
    model,
    text,
    path,
    *,
    about,
    tokenizer=None,
    layers=None,
    heads=None,
    rope="post",
    dtype="bf16",
    tokens=None,
    q_start=None,
    q_rows=None,
    needles=(),
    metadata=None,
):
    """Runs a causal language model on a text once and writes queries, keys and values of its attention.

    model: what load_model takes, or a model with its tokenizer. about: name and licence of the text. layers, heads:
    numbers, None for all (Recorder says which heads go together). rope: "post" as attention sees them, "pre" before
    rotation, which is checked by rotating them again. tokens: how many of the text's, None for all. q_start, q_rows:
    the rows of q; None: the last half, to the end. needles: a list of Needle, spans of characters of the text.
    metadata: further strings; "model" is the model's name.

    The model is not changed: its attention function is called as always, and what was set in its config stands again
    afterwards, also after an error. Queries, keys and values of the chosen layers are held in memory until written.
    """
    found = {}
    if isinstance(model, str):
        model, tokenizer, found = load_model(model)
    config = _checked(model, tokenizer, rope)
    ids, offsets = _tokens(tokenizer, text, tokens, needles)
    first = len(ids) // 2 if q_start is None else whole("q_start", q_start, 0)
    stop = len(ids) if q_rows is None else first + whole("q_rows", q_rows, 1)
    asked = token_needles(needles, text, offsets, ids, range(first, stop))
    name = config.name_or_path or type(model).__name__
    described = {"model": name, "layers": str(config.num_hidden_layers), **found, **(metadata or {})}
    recorder = Recorder(
        path,
        model=described.pop("model"),
        text=about,
        rope=rope,
        layers=layers,
        heads=heads,
        dtype=dtype,
        q_start=first,
        q_rows=q_rows,
        token_ids=ids,
        needles=asked,
        metadata=described,
        layout="head,token,dim",
    )
    too_high = [n for n in recorder.layers or () if n >= config.num_hidden_layers]
    if too_high:
        raise invalid(
            "layers", too_high[0], f"below the model's {config.num_hidden_layers}", str(config.num_hidden_layers - 1)
        )
    with recorder:
        recorder.metadata.update(_run(model, ids, recorder, config))


def _checked(model, tokenizer, rope):
    """The config of the language model."""
    if rope not in ("post", "pre"):
        raise invalid("rope", repr(rope), "post or pre", "post")
    if not isinstance(model, transformers.PreTrainedModel):
        raise invalid_type(
            "model",
            f"of type {type(model).__name__}",
            "a model of transformers or a name",
            "Recorder, for other modules",
        )
    if tokenizer is None:
        raise invalid(
            "tokenizer", "None", "given with a model object", "transformers.AutoTokenizer.from_pretrained(...)"
        )
    if model.training:
        raise invalid("model", "in training mode", "in evaluation mode (dropout would be recorded)", "model.eval()")
    return model.config.get_text_config()


def _tokens(tokenizer, text, tokens, needles):
    """Ids and spans of characters of the first `tokens` tokens."""
    if needles and not tokenizer.is_fast:
        raise invalid(
            "needles", f"with a {type(tokenizer).__name__}", "with a tokenizer that knows offsets", "a fast one"
        )
    encoded = tokenizer(text, return_offsets_mapping=tokenizer.is_fast)
    ids = list(encoded["input_ids"])
    if len(ids) < 2:
        raise invalid("text", f"of {len(ids)} tokens", "at least 2 tokens long", "a longer text")
    if tokens is not None and not whole("tokens", tokens, 2) <= len(ids):
        raise invalid("tokens", tokens, f"2 to the text's {len(ids)}", str(len(ids)))
    return ids[:tokens], list(encoded["offset_mapping"])[:tokens] if tokenizer.is_fast else []


def _run(model, ids, recorder, config):
    """One forward pass into the recorder; returns what is known of the rotation, as metadata."""
    chosen = [m for m in model.modules() if hasattr(m, "layer_idx")]
    chosen = [m for m in chosen if recorder.layers is None or m.layer_idx in recorder.layers]
    projections = {m: Projections(m) for m in chosen}
    rotations = {}  # layer: Rotation, None where it is not to be told

    def see(module, q, k, v, scale):
        layer = module.layer_idx
        before = projections[module].before(q[0].transpose(0, 1), k[0].transpose(0, 1))
        rotations[layer] = before[2] if before else None
        if recorder.metadata["rope"] == "pre":
            if before is None:
                raise not_found(layer)
            q, k = (x.transpose(0, 1) for x in before[:2])
        recorder.capture(layer, q, k, v, scale=scale)

    try:
        with watched(model, chosen, see), torch.no_grad():
            # Without the head of the vocabulary: the logits of 128K tokens would be larger than all else.
            model.base_model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    finally:
        for kept in projections.values():
            kept.remove()
    if not rotations:
        raise invalid(
            "model",
            type(model).__name__,
            "one whose attention goes through transformers' AttentionInterface",
            "Recorder.capture or Recorder.hook",
        )
    return _rope.metadata(rotations, config)


def _gguf_of_package(package):
    """The .gguf file of an installed package, and what to say of where it comes from."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise invalid("model", PACKAGE + package, "an installed Python package", f"pip install {package}")
    files = sorted(f for folder in spec.submodule_search_locations for f in Path(folder).rglob("*.gguf"))
    if len(files) != 1:
        raise invalid(
            "model", f"{PACKAGE}{package} with {len(files)} .gguf files", "a package with one", "the file's path"
        )
    return files[0], f" ({_release(package)})"


def _release(package):
    """The name and version under which the package was installed, and its licence."""
    for name in importlib.metadata.packages_distributions().get(package, ()):
        about = importlib.metadata.metadata(name)
        licence = about.get("License-Expression") or about.get("License") or "licence not stated"
        return f"{about['Name']} {about['Version']}, {licence}"
    return package


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()
