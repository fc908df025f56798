"""What every argument of every function must be, and the one place that checks it.

Extents have names. The first argument that has a name says how long it is, every later one must agree, and the error
names both. `tokens_q` (batch * seqlen_q, or total_q) and `routed` (the slots of a row of the selection) follow from
others.
"""

import difflib
import math
import numbers
import sys
from typing import NamedTuple

import numpy as np

from . import _library, _numpy_arrays
from ._errors import INVALID_ARGUMENT, InvalidType, invalid, invalid_type

DTYPES = {"float32": 0, "bfloat16": 1, "float16": 2}  # MobalabDataType
INT64_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
MAX_EXTENT = 2**31 - 1
MAX_THREADS = 4096
MIN_SCALE, MAX_SCALE = 1e-30, 1e30


class Argument(NamedTuple):
    extents: tuple  # names of the extents
    packed: tuple = None  # the same with cu_seqlens, where it differs
    dtype: str = None  # None: the dtype of the tensors, one of DTYPES
    rows: bool = False  # only the last extent must be contiguous
    or_float32: bool = False  # that dtype is taken as well


def _argument(extents, packed=None, dtype=None, rows=False):
    return Argument(tuple(extents.split()), tuple(packed.split()) if packed else None, dtype, rows)


_QUERIES = _argument("batch seqlen_q heads_q head_dim", packed="total_q heads_q head_dim", rows=True)
_OUTPUTS = _argument("batch seqlen_q heads_q head_dim_v", packed="total_q heads_q head_dim_v", rows=True)
_VALUES = _argument("batch seqlen_k heads_k head_dim_v", packed="total_k heads_k head_dim_v", rows=True)
_KEYS = _argument("batch seqlen_k heads_k head_dim", packed="total_k heads_k head_dim", rows=True)
_LSE = _argument("heads_q tokens_q", dtype="float32")
_SELECTION = _argument("heads_q tokens_q routed", dtype="int32")
_WEIGHT = _argument("heads_k head_dim width", dtype="float32")
_CENTROIDS = Argument(("blocks", "heads_k", "head_dim"), or_float32=True)
_SUMMARIES = Argument(("sub_blocks", "parts", "heads_k", "head_dim"), or_float32=True)
_PAGES = _argument("pages page_size heads_k head_dim", rows=True)
_VALUE_PAGES = _argument("pages page_size heads_k head_dim_v", rows=True)
_CACHE_LENGTHS = _argument("batch", dtype="int32")
_BLOCK_TABLE = _argument("batch columns", dtype="int32")
_BOUNDARIES = Argument(("batch + 1",), dtype="int32")

FUNCTIONS = {
    "compute_centroids": {"k": _KEYS},
    "route": {"q": _QUERIES, "k": _KEYS},
    "route_with_centroids": {"q": _QUERIES, "centroids": _CENTROIDS},
    "attention_forward": {"q": _QUERIES, "k": _KEYS, "v": _VALUES, "selection": _SELECTION},
    "moba_forward": {"q": _QUERIES, "k": _KEYS, "v": _VALUES},
    "attention_backward": {
        "q": _QUERIES,
        "k": _KEYS,
        "v": _VALUES,
        "out": _OUTPUTS,
        "d_out": _OUTPUTS,
        "lse": _LSE,
        "selection": _SELECTION,
    },
    "moba_attention": {"q": _QUERIES, "k": _KEYS, "v": _VALUES, "conv_weight": _WEIGHT},
    "key_conv_forward": {"k": _KEYS, "weight": _WEIGHT},
    "key_conv_centroids": {"k": _KEYS, "weight": _WEIGHT},
    "key_conv_backward": {"k": _KEYS, "weight": _WEIGHT, "d_out": _KEYS},
    "append_centroids": {"k": _KEYS, "centroids": _CENTROIDS, "lengths": _CACHE_LENGTHS},
    "decode_route": {"q": _QUERIES, "centroids": _CENTROIDS, "lengths": _CACHE_LENGTHS},
    "decode_attention": {"q": _QUERIES, "k": _KEYS, "v": _VALUES, "selection": _SELECTION, "lengths": _CACHE_LENGTHS},
    "moba_decode": {"q": _QUERIES, "k": _KEYS, "v": _VALUES, "centroids": _CENTROIDS, "lengths": _CACHE_LENGTHS},
}
# The same where the keys and values of a cache are in pages.
_IN_PAGES = {_KEYS: _PAGES, _VALUES: _VALUE_PAGES}
for _name in ("append_centroids", "decode_attention", "moba_decode"):
    _pages = {name: _IN_PAGES.get(argument, argument) for name, argument in FUNCTIONS[_name].items()}
    FUNCTIONS[f"{_name}, paged"] = {**_pages, "block_table": _BLOCK_TABLE}

_INTEGERS = {  # least, most
    "block_size": (1, MAX_EXTENT),
    "topk": (1, INT64_MAX),
    "conv_width": (0, 8),
    "keys": (0, MAX_EXTENT),
    "appended": (0, INT64_MAX),
    "scorer_seed": (0, UINT64_MAX),
    "threads": (0, MAX_THREADS),
    "max_seqlen": (0, MAX_EXTENT),
    "max_seqlen_q": (0, MAX_EXTENT),
    "max_seqlen_k": (0, MAX_EXTENT),
    "total_blocks": (0, MAX_EXTENT),
}


def integer(name, value, shown=None):
    """The Python int of an integer of the table: an int or a NumPy integer, no bool, no float, no array. shown: what the
    caller calls it."""
    return _checked_integer(shown or name, value, *_INTEGERS[name])


def _checked_integer(name, value, least, most):
    if type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            nearest = int(value) if isinstance(value, (bool, numbers.Real)) and value == value // 1 else "an int"
            raise invalid_type(name, f"= {value!r} ({type(value).__name__})", "an integer", nearest)
        value = int(value)
    return check_range(name, value, least, most)


def positive(name, value):
    """An extent: the same for what is in no table."""
    return _checked_integer(name, value, 1, MAX_EXTENT)


def check_range(name, value, least, most):
    if not least <= value <= most:
        raise invalid(name, f"= {value}", f"in [{least}, {most}]", min(max(value, least), most))
    return value


def softmax_scale(name, value, head_dim):
    """The float of a softmax scale, 0 (which to the library is head_dim^-1/2) for None; no bool, no array."""
    if value is None:
        return 0.0
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        kind = type(value).__name__
        raise invalid_type(name, f"= {value!r} ({kind})", "a number or None", "None, for head_dim ** -0.5")
    try:
        number = float(value)
    except OverflowError:  # of an int
        number = math.inf if value > 0 else -math.inf
    if not MIN_SCALE <= number <= MAX_SCALE:
        nearest = MAX_SCALE if number > MAX_SCALE else MIN_SCALE if number > 0 else max(head_dim, 1) ** -0.5
        raise invalid(name, f"= {number}", f"in [{MIN_SCALE}, {MAX_SCALE}]", nearest)
    return number


def scorer(name, value):
    """(Scorer, sub_blocks) of "mean", "submean-4", ...; which sub_blocks a block size takes is the library's to say."""
    if not isinstance(value, str):
        raise invalid_type(name, f"= {value!r} ({type(value).__name__})", "a string", "'mean'")
    known = _library.scorers()
    found = known.get(value)
    if found is not None and not found.divides:
        return found, 1
    family, _, digits = value.rpartition("-")
    found = known.get(family)
    if found is not None and found.divides and _is_plain_number(digits) and 2 <= int(digits) <= MAX_EXTENT:
        return found, int(digits)
    names = [f"{n}-4" if s.divides else n for n, s in known.items()]
    nearest = difflib.get_close_matches(value[:20], names, 1, 0)[0]
    rule = f"one of {', '.join(scorer_names())} (R, the sub-blocks of a block: 2, 4, 8, ...)"
    raise invalid(name, f"= {value!r}", rule, repr(nearest))


def _is_plain_number(text):
    return text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= 10


def scorer_names():
    return tuple(f"{name}-R" if scorer.divides else name for name, scorer in _library.scorers().items())


def flag(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise invalid_type(name, f"= {value!r} ({type(value).__name__})", "True or False", bool(value))
    return bool(value)


def kept_as(**flags):
    """MobalabCentroids of two flags, the one of fp32 and the one of centred centroids; at most one is True."""
    (wide, is_wide), (centred, is_centred) = ((name, flag(name, value)) for name, value in flags.items())
    if is_wide and is_centred:
        raise invalid(f"{wide}, {centred}", "= True, True", "True for one of them at most", f"{centred}=False")
    return _library.CENTROIDS_FP32 if is_wide else _library.CENTROIDS_CENTRED if is_centred else 0


_adapters = [_numpy_arrays]


def adapter(name, array):
    """The module that knows arrays of this kind."""
    if len(_adapters) == 1 and "torch" in sys.modules:  # who passes a tensor has imported it
        from . import _torch_arrays

        _adapters.append(_torch_arrays)
    for module in _adapters:
        if module.takes(array):
            return module
    raise invalid_type(
        name,
        f"is a {type(array).__name__}",
        "a torch tensor or a NumPy array",
        f"numpy.asarray({name}, dtype=numpy.float32)",
    )


class Arrays:
    """The arrays of one call, checked against the table: their Views, and the length of every named extent."""

    def __init__(self, function, arrays, cu_seqlens, known=None):
        """arrays: {name: array} as the table orders them; cu_seqlens: {name: array}, empty for [batch, ...] tensors;
        known: extents that the caller has named."""
        self.table = FUNCTIONS[function]
        self.arrays = arrays
        self.boundaries = cu_seqlens
        self.extents = dict(known or {})
        self._shapes = {}  # of the arrays checked so far, by name
        self._shape_of = {}  # the same by what they were checked against
        self.first = next(iter(arrays))
        self.like = arrays[self.first]
        self.adapter = adapter(self.first, self.like)
        self.views = {name: self._view(name, array, self.table[name]) for name, array in arrays.items()}
        for name, array in cu_seqlens.items():
            self.views[name] = self._view(name, array, _BOUNDARIES)
        for name in arrays:
            argument = self.table[name]
            if argument.rows:
                self._check_shape(name, argument.packed if cu_seqlens else argument.extents)
                self._check_rows(name)
        for name in cu_seqlens:
            self._check_dense(name, _BOUNDARIES)

    def check_the_rest(self, seqlen_k, topk, block_size, causal):
        """What depends on the longest sequence of keys: lse, selection and weights."""
        known = self.extents
        if "heads_q" in known:
            known["tokens_q"] = known["total_q"] if self.boundaries else known["batch"] * known["seqlen_q"]
            known["routed"] = routed(topk, -(-seqlen_k // block_size), causal)
        self.check_dense_arrays()

    def check_centroids(self, scorer, blocks, sub_blocks):
        """What a scorer keeps of so many blocks; says how many heads_k there are."""
        self.extents.update(parts=scorer.parts, blocks=blocks, sub_blocks=blocks * sub_blocks)
        self.table = {**self.table, "centroids": centroids_of(scorer)}
        self._check_dense("centroids", self.table["centroids"])

    def check_dense(self, name):
        """Shape and layout of one that is no tensor of rows."""
        self._check_dense(name, self.table[name])

    def check_dense_arrays(self):
        """Shape and layout of what is no tensor of rows: its extents are known."""
        for name in self.arrays:
            if not self.table[name].rows:
                self._check_dense(name, self.table[name])

    def _view(self, name, array, argument):
        """Checks kind, dtype, device and memory."""
        arrays = self.adapter
        if not arrays.takes(array):
            other = adapter(name, array)
            raise invalid_type(
                name,
                f"is {other.KIND}",
                f"{arrays.KIND}, as {self.first} is",
                f"torch.from_numpy({name})" if other is _numpy_arrays else f"{name}.numpy()",
            )
        view = arrays.view(name, array)
        if name == self.first:
            if view.dtype not in DTYPES:
                raise invalid_type(name, f"has dtype {view.dtype}", " or ".join(DTYPES), "float32")
            self.dtype, self._device = view.dtype, view.device
        elif view.dtype != (argument.dtype or self.dtype) and not (argument.or_float32 and view.dtype == "float32"):
            rule = argument.dtype or f"{self.dtype}, the dtype of {self.first}"
            rule += ", or float32" if argument.or_float32 and self.dtype != "float32" else ""
            raise invalid_type(name, f"has dtype {view.dtype}", rule, argument.dtype or self.dtype)
        if view.device != self._device:
            raise invalid(
                name,
                f"is on device {view.device}",
                f"on {self._device}, the device of {self.first}",
                f"{name}.to({self.first}.device)",
            )
        if view.pointer % view.itemsize and 0 not in view.shape:
            raise invalid(
                name,
                f"lies at address {view.pointer:#x}",
                f"aligned to its {view.itemsize}-byte elements",
                self._copy(name),
            )
        if view.pointer == 0 and 0 not in view.shape:
            raise invalid(
                name,
                f"is a {type(array).__name__} without memory of its own",
                "an array that has its values in memory",
                self._copy(name),
            )
        return view

    def _check_dense(self, name, argument):
        self._check_shape(name, argument.extents)
        self._check_contiguous(name)

    def _check_shape(self, name, extents):
        shape = self.views[name].shape
        if self._shape_of.get(extents) != shape:
            self._compare_shape(name, shape, extents)
            self._shape_of[extents] = shape
        self._shapes[name] = shape

    def _compare_shape(self, name, shape, extents):
        known = self.extents
        if len(shape) != len(extents):
            raise invalid(name, f"has shape {shape}", self._rule(extents), self._nearest_rank(name, shape, extents))
        for extent, length in zip(extents, shape):
            if known.setdefault(extent, length) != length:
                wanted = tuple(known.get(e, n) for e, n in zip(extents, shape))
                raise invalid(name, f"has shape {shape}", self._rule(extents), f"shape {wanted}")

    def _rule(self, extents):
        """The shape in names, with the shapes of the arguments that said how long they are."""
        beside = ", ".join(f"{name} {shape}" for name, shape in self._shapes.items())
        return f"[{', '.join(extents)}]{' beside ' if beside else ''}{beside}"

    def _nearest_rank(self, name, shape, extents):
        if self.boundaries and len(shape) == 4 and len(extents) == 3:
            return f"{name}.reshape{(shape[0] * shape[1], *shape[2:])}, or no cu_seqlens"
        if not self.boundaries and len(shape) == 3 and len(extents) == 4:
            packs = "" if "lengths" in self.table else ", or cu_seqlens for packed sequences"
            return f"{name}[None] of shape {(1, *shape)}{packs}"
        return f"{len(extents)} extents"

    def _copy(self, name):
        return self.adapter.COPY.format(name)

    def _check_rows(self, name):
        view = self.views[name]
        if 0 in view.shape:
            return  # strides of nothing
        if view.steps[-1] != 1 and view.shape[-1] > 1:
            raise invalid(
                name, f"has a stride of {view.steps[-1]} in head_dim", "1 (its rows contiguous)", self._copy(name)
            )
        if min(view.steps) < 0:
            raise invalid(name, f"has strides {view.steps}", "a view without negative strides", self._copy(name))

    def _check_contiguous(self, name):
        view, step = self.views[name], 1
        if 0 in view.shape:
            return
        for length, found in zip(reversed(view.shape), reversed(view.steps)):
            if length > 1 and found != step:
                raise invalid(name, f"has strides {view.steps}", "contiguous", self._copy(name))
            step *= length


def routed(topk, blocks, causal):
    """Slots of a row of the selection: what a query keeps of so many blocks, beside its own if that is not to choose."""
    return min(topk, max(1, blocks)) - 1 if causal else min(topk, blocks)


def centroids_of(scorer):
    """The array that a Scorer keeps of keys: of the default one a row for each block and head, as ever."""
    return _CENTROIDS if scorer.number == 0 else _SUMMARIES


def given(**arguments):
    """Those that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def check_all_or_none(arguments, reason):
    """{name: value}: all given or none of them."""
    missing = [name for name, value in arguments.items() if value is None]
    if missing and len(missing) < len(arguments):
        present = [name for name in arguments if name not in missing]
        raise InvalidType(
            INVALID_ARGUMENT,
            f"{', '.join(present)} given without {', '.join(missing)}: {reason}; nearest valid "
            f"choice: give {', '.join(missing)} too",
        )


def check_boundaries(name, boundaries, total):
    """Starts at 0, never falls, ends at the number of tokens. boundaries: int64, on the host."""
    if len(boundaries) < 2:
        raise invalid(name, f"has shape {(len(boundaries),)}", "[batch + 1] for at least one sequence", "(2,)")
    if boundaries[0] != 0:
        raise invalid(f"{name}[0]", f"= {boundaries[0]}", "0", 0)
    falls = np.flatnonzero(np.diff(boundaries) < 0)
    if falls.size:
        at = int(falls[0])
        raise invalid(
            f"{name}[{at + 1}]", f"= {boundaries[at + 1]}", f"at least {name}[{at}] = {boundaries[at]}", boundaries[at]
        )
    if boundaries[-1] != total:
        raise invalid(f"{name}[{len(boundaries) - 1}]", f"= {boundaries[-1]}", f"the number of tokens, {total}", total)
