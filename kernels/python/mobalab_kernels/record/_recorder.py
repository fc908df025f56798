"""Collects queries, keys and values layer by layer and writes them as one trace."""

import inspect
import json
import math
import numbers

from .._errors import invalid, invalid_type
from . import _trace_file
from ._arrays import DTYPES, LAYOUTS, one_sequence, stored

ROPES = ("post", "pre", "none")
FIXED = {"format": "qkv-trace", "format_version": "1", "causal": "1", "k_start": "0", "layout": LAYOUTS[0]}


class Recorder:
    """A trace in the making, for any PyTorch module or NumPy code; written when its `with` block ends without an error.

        with Recorder("trace.safetensors", model="mine", text="Emma, ch. 1; public domain", rope="post") as r:
            r.capture(layer, q, k, v)                  # from within the model's code, or
            r.hook(model.blocks[3].attention, layer=3)  # from the arguments q, k, v of that module's forward
            model(token_ids)                            # one causal forward pass of one sequence

    path: *.safetensors. model, text: what read what (with its licence). rope: whether q and k are taken after ("post")
    or before ("pre") their rotation, or the model has none ("none"). layers: their numbers, None for all that come.
    heads: numbers of query heads, None for all; they make up whole groups that share a key head, whose keys and values
    come along. dtype: bf16, fp16 or fp32, what the file holds. q_start, q_rows: the rows of q that are kept; None: to
    the end. scale: of q.k in the softmax, None for 1/sqrt(head_dim). token_ids: int32 [tokens]. needles: as
    token_needles returns them. metadata: further strings. layout: of the tensors that come, "token,head,dim" or
    "head,token,dim", each with or without a batch of one before it.
    """

    def __init__(
        self,
        path,
        *,
        model,
        text,
        rope,
        layers=None,
        heads=None,
        dtype="bf16",
        q_start=0,
        q_rows=None,
        scale=None,
        token_ids=None,
        needles=(),
        metadata=None,
        layout=LAYOUTS[0],
    ):
        _trace_file.check_path(path)
        self.path, self.layout = path, layout
        self.dtype = _one_of("dtype", dtype, DTYPES)
        _one_of("layout", layout, LAYOUTS)
        self.layers = None if layers is None else _numbers("layers", layers)
        self.heads = None if heads is None else _numbers("heads", heads)
        self.q_start = whole("q_start", q_start, 0)
        self.q_rows = None if q_rows is None else whole("q_rows", q_rows, 1)
        self.scale, self.token_ids = scale, token_ids
        given = {"model": model, "text": text, "rope": _one_of("rope", rope, ROPES), **(metadata or {})}
        self.metadata = {name: _utf8(name, value) for name, value in given.items()}
        self.metadata["needles"] = json.dumps(list(needles), ensure_ascii=False, separators=(",", ":"))
        self._captured, self._shape, self._hooks = {}, None, []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        for hook in self._hooks:
            hook.remove()
        if kind is None:
            self._write()

    def capture(self, layer, q, k, v=None, scale=None):
        """Takes q [tokens, heads, head_dim], k and v [tokens, key heads, ...] of a layer (in `layout`); a layer that
        was not chosen is passed over. scale as in the class, for those who know it here only."""
        whole("layer", layer, 0)
        if self.layers is not None and layer not in self.layers:
            return
        if layer in self._captured:
            raise invalid("layer", f"{layer} came twice", "captured once", "one forward pass of the whole text")
        arrays = {
            name: one_sequence(name, x, self.layout) for name, x in (("q", q), ("k", k), ("v", v)) if x is not None
        }
        self._check_alike(layer, {name: tuple(x.shape) for name, x in arrays.items()}, scale)
        rows, heads, key_heads = self._chosen()
        kept = {"q": arrays["q"][rows.start : rows.stop, heads], "k": arrays["k"][:, key_heads]}
        if v is not None:
            kept["v"] = arrays["v"][:, key_heads]
        self._captured[layer] = {name: stored(f"layer {layer} {name}", x, self.dtype) for name, x in kept.items()}

    def hook(self, module, layer, q="q", k="k", v="v"):
        """Captures the arguments of these names at the next call of a torch module; v=None: no values."""
        signature = inspect.signature(module.forward)
        for name in filter(None, (q, k, v)):
            if name not in signature.parameters:
                raise invalid(
                    "hook",
                    f"name {name!r}",
                    f"an argument of {type(module).__name__}.forward",
                    ", ".join(signature.parameters) or "a module that takes q and k",
                )

        def take(_, args, kwargs):
            arguments = signature.bind(*args, **kwargs).arguments
            missing = [name for name in filter(None, (q, k, v)) if arguments.get(name) is None]
            if missing:
                raise invalid("hook", f"{missing[0]} of layer {layer} is not given", "given in the call", "None for v")
            self.capture(layer, arguments[q], arguments[k], arguments[v] if v else None)

        self._hooks.append(module.register_forward_pre_hook(take, with_kwargs=True))

    def _check_alike(self, layer, shapes, scale):
        (tokens, heads, dim), (keys, key_heads, key_dim) = shapes["q"], shapes["k"]
        if keys != tokens:
            raise invalid(
                "q",
                f"of layer {layer} has {tokens} tokens",
                f"of the {keys} tokens of k",
                "one forward pass of the whole text, without a cache",
            )
        if key_dim != dim:
            raise invalid("q", f"of layer {layer} has head_dim {dim}", "that of k", str(key_dim))
        if key_heads == 0 or heads % key_heads:
            raise invalid(
                "q", f"of layer {layer} has {heads} heads", f"a multiple of the {key_heads} of k", str(key_heads)
            )
        if "v" in shapes and shapes["v"][:2] != (keys, key_heads):
            raise invalid(
                "v",
                f"of layer {layer} has shape {list(shapes['v'])}",
                f"[{keys}, {key_heads}, any]",
                "as k, before repeating heads",
            )
        scale = next(s for s in (scale, self.scale, dim**-0.5) if s is not None)
        if not (isinstance(scale, numbers.Real) and 0 < scale < math.inf):
            raise invalid("scale", scale, "a positive number", str(dim**-0.5))
        shape = (shapes, float(scale))
        if self._shape is None:
            self._check_choice(tokens, heads)
            self._shape = shape
        elif shape != self._shape:
            raise invalid(
                "layer",
                f"{layer} has shapes and scale {shape}",
                f"like the layers before it, {self._shape}",
                "files of their own for layers that differ",
            )

    def _check_choice(self, tokens, heads):
        if self.q_start >= tokens:
            raise invalid("q_start", self.q_start, f"below the {tokens} tokens", str(tokens - 1))
        if self.q_rows is not None and self.q_start + self.q_rows > tokens:
            raise invalid(
                "q_rows",
                self.q_rows,
                f"at most the {tokens - self.q_start} rows from q_start on",
                str(tokens - self.q_start),
            )
        if self.token_ids is not None and len(self.token_ids) != tokens:
            raise invalid(
                "token_ids", f"has {len(self.token_ids)} tokens", f"one for each of the {tokens} of k", str(tokens)
            )
        if self.heads is not None and self.heads[-1] >= heads:
            raise invalid("heads", self.heads[-1], f"below the model's {heads} query heads", str(heads - 1))

    def _chosen(self):
        """Rows, query heads and key heads that are kept."""
        shapes, _ = self._shape
        (tokens, heads, _), key_heads = shapes["q"], shapes["k"][1]
        stop = tokens if self.q_rows is None else self.q_start + self.q_rows
        chosen = list(range(heads)) if self.heads is None else self.heads
        group = heads // key_heads
        kept = sorted({h // group for h in chosen})
        whole = [h for j in kept for h in range(j * group, (j + 1) * group)]
        if chosen != whole:
            raise invalid(
                "heads", _listed(chosen), f"whole groups of the {group} that share a key head", _listed(whole)
            )
        return range(self.q_start, stop), chosen, kept

    def _write(self):
        missing = sorted(set(self.layers or ()) - set(self._captured))
        if missing or not self._captured:
            raise invalid(
                "layers",
                _listed(missing) or "none",
                "captured before the trace is written",
                _listed(sorted(self._captured)) or "call capture, or the module that is hooked",
            )
        shapes, scale = self._shape
        rows, heads, key_heads = self._chosen()
        metadata = {
            **FIXED,
            **self.metadata,
            "query_heads": str(len(heads)),
            "key_heads": str(len(key_heads)),
            "head_dim": str(shapes["q"][2]),
            "tokens": str(shapes["k"][0]),
            "q_start": str(rows.start),
            "scale": repr(scale),
            "dtype": self.dtype,
        }
        if self.heads is not None:
            metadata["recorded_heads"] = _listed(heads)
        _trace_file.write(self.path, self._captured, metadata, self.token_ids)


def _listed(values):
    return ",".join(map(str, values))


def _one_of(name, value, choices):
    if value not in choices:
        raise invalid(name, repr(value), f"one of {', '.join(choices)}", next(iter(choices)))
    return value


def whole(name, value, least):
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise invalid_type(name, repr(value), "a whole number", str(least))
    if value < least:
        raise invalid(name, value, f"at least {least}", str(least))
    return int(value)


def _numbers(name, values):
    values = [whole(name, value, 0) for value in values]
    if not values:
        raise invalid(name, "[]", "at least one number, or None for all", "None")
    if len(set(values)) != len(values):
        raise invalid(name, _listed(values), "given once each", _listed(sorted(set(values))))
    return sorted(values)


def _utf8(name, value):
    if not isinstance(value, str):
        raise invalid_type(name, repr(value), "a text", repr(str(value)))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(
            name, ascii(value), "text that UTF-8 can hold", ascii(value.encode("ascii", "replace").decode())
        ) from None
    return value
