"""The rows: a function, what is odd about one argument, and what must come of it.

Every array of every function is tried in many layouts, shapes, dtypes, kinds and devices, every number with values at
and beyond its limits, cu_seqlens and selections with all that can stand in them. What must come of a row is decided
here, from the rules of kernels.h, not by the module.
"""

from fractions import Fraction
from typing import Callable, NamedTuple

import numpy as np

import mobalab_kernels as mk

from . import layouts
from .calls import (
    ARRAYS,
    ATTENDING,
    BLOCK,
    BLOCKS,
    CENTRED,
    FP32,
    KEEPS_FIRST,
    PACKED,
    QUERIES,
    ROUTING,
    SEQ,
    TENSORS,
    TOPK,
    call,
    good_call,
    values,
)

RIGHT = "right"  # the answer is MoBA's
RIGHT_IF_TAKEN = "right if taken"  # or MOBALAB_UNSUPPORTED: a device need not have every scorer
ANY = "any"  # an answer or an error, no crash: contents of cu_seqlens on the device are the caller's word


class Refused(NamedTuple):
    """An error of this kind whose text has all of these."""

    kind: type
    texts: tuple


class Row(NamedTuple):
    function: str
    label: str
    arguments: Callable  # fw -> keyword arguments
    wanted: object  # RIGHT, ANY, Refused, or (fw, arguments) -> one of them


def refused(*texts, kind=mk.Error):
    return Refused(kind, tuple(str(t) for t in texts))


def _row(function, label, wanted, packed=False, **changed):
    """changed: replaced arguments, each a value or a function of the framework. Where the answer must be right,
    selection, out and lse are made for them; where not, those of the good call stay."""

    def arguments(fw):
        made = {name: value(fw) if callable(value) else value for name, value in changed.items()}
        right = wanted in (RIGHT, RIGHT_IF_TAKEN)
        return call(fw, function, packed, **made) if right else {**good_call(fw, function, packed), **made}

    return Row(function, label, arguments, wanted)


def _base(name, function, packed=False):
    """fw -> float64 values of an argument of the good call."""

    def made(fw):
        alone = values(fw, function, packed)
        return alone[name] if name in alone else fw.double(good_call(fw, function, packed)[name])

    return made


# ---- layouts


def _tensor_layouts(fw, packed):
    """(label, layout, wanted) for arrays of rows: strides are free but for head_dim."""
    axes = 3 if packed else 4
    tokens, heads, dim = axes - 3, axes - 2, axes - 1
    rows = [
        ("contiguous", layouts.contiguous, RIGHT),
        ("one token expanded", layouts.expanded(tokens), RIGHT),
        ("one head expanded", layouts.expanded(heads), RIGHT),
        ("one row expanded to all", layouts.expanded(*range(dim)), RIGHT),
        ("[heads, tokens, dim] transposed", layouts.permuted(*range(tokens), heads, tokens, dim), RIGHT),
        ("every other token", layouts.every_other(tokens), RIGHT),
        ("every other head", layouts.every_other(heads), RIGHT),
        ("heads of a packed qkv", layouts.slice_of(heads, 2, 3), RIGHT),
        ("tokens of a longer tensor", layouts.slice_of(tokens, 5, 6), RIGHT),
        ("rows of a wider tensor", layouts.slice_of(dim, 8, 16), RIGHT),
        ("overlapping rows", layouts.overlapping, RIGHT),
    ]
    if not packed:
        rows += [
            ("one sequence expanded", layouts.expanded(0), RIGHT),
            ("[tokens, batch, heads, dim] transposed", layouts.permuted(1, 0, 2, 3), RIGHT),
            ("[heads, batch, tokens, dim] transposed", layouts.permuted(2, 0, 1, 3), RIGHT),
            ("every other sequence", layouts.every_other(0), RIGHT),
        ]
    stride = ("stride",)
    rows += [
        ("every other element", layouts.every_other(dim), stride),
        ("one element expanded", layouts.expanded(dim), stride),
        ("head_dim not innermost", layouts.permuted(*range(tokens), dim, tokens, heads), stride),
    ]
    if fw.name == "numpy":
        rows += [
            ("read-only", layouts.read_only, RIGHT),
            ("field of a structured array", layouts.field_of_divisible_stride, RIGHT),
            ("tokens reversed", layouts.reversed_along(tokens), ("negative strides",)),
            ("elements reversed", layouts.reversed_along(dim), stride),
        ]
    if fw.name == "torch-cuda":
        rows += [("rows behind one element", layouts.behind_one_element, ("16",))]
    return rows + _broken_memory(fw)


def _dense_layouts(fw, axes):
    rows = [
        ("contiguous", layouts.contiguous, RIGHT),
        ("slice of the first axis", layouts.slice_of(0, 1, 1), RIGHT),
        ("transposed", layouts.permuted(*reversed(range(axes))), ("contiguous",)),
        ("every other of the last axis", layouts.every_other(axes - 1), ("contiguous",)),
        ("one expanded to all", layouts.expanded(*range(axes)), ("contiguous",)),
    ]
    if fw.name == "numpy":
        rows += [
            ("read-only", layouts.read_only, RIGHT),
            ("reversed", layouts.reversed_along(axes - 1), ("contiguous",)),
        ]
    return rows + _broken_memory(fw)


def _broken_memory(fw):
    if fw.name == "numpy":
        return [
            ("field of odd byte stride", layouts.field_of_odd_stride, ("strides", "bytes")),
            ("misaligned", layouts.misaligned, ("aligned",)),
            ("foreign byte order", layouts.foreign_byte_order, ("byte order",)),
            ("masked", layouts.masked, ("masked",)),
        ]
    return [
        ("lazily negated", layouts.negated_lazily, ("negation",)),
        ("sparse", layouts.sparse, ("sparse",)),
        ("on the meta device", layouts.on_meta, ("meta",)),
    ]


class _Typed:
    """The framework with another dtype for new arrays: layouts of selection and lse keep theirs."""

    def __init__(self, fw, dtype):
        self.fw, self.dtype = fw, dtype

    def array(self, array):
        return self.fw.array(array, self.dtype)

    def __getattr__(self, name):
        return getattr(self.fw, name)


_DTYPES = {"selection": "int32", "lse": "float32", "weight": "float32", "conv_weight": "float32"}


def layout_rows(fw):
    for function, arrays in ARRAYS.items():
        for name in arrays:
            for packed in (False, True):
                tensor = name in TENSORS
                if packed and not tensor:
                    continue
                axes = 3 if packed or not tensor else 4
                axes = 2 if name == "lse" else axes
                for label, layout, wanted in _tensor_layouts(fw, packed) if tensor else _dense_layouts(fw, axes):
                    if function == "moba_attention" and _copied(label):
                        wanted = RIGHT

                    def made(fw, name=name, layout=layout, function=function, packed=packed):
                        typed = _Typed(fw, _DTYPES.get(name, fw.dtype))
                        return layout(typed, _base(name, function, packed)(fw))

                    wanted = wanted if wanted == RIGHT else refused(name.replace("conv_", ""), *wanted)
                    yield _row(function, f"{name} {'packed ' if packed else ''}{label}", wanted, packed, **{name: made})


def _copied(label):
    """moba_attention copies what the kernels cannot read as it lies."""
    return label not in ("sparse", "on the meta device")


# ---- shapes


_RANKS = {"lse": 2, "selection": 3, "weight": 3, "conv_weight": 3}


def _agree(shapes, block_size, topk):
    """Whether dense arrays of these shapes fit one another."""
    if any(len(shape) != _RANKS.get(name, 4) for name, shape in shapes.items()):
        return False
    batch, sk, hk, dim = shapes["k"]
    _, sq, hq, _ = shapes.get("q", shapes["k"])
    routed = min(topk, max(1, -(-sk // block_size))) - 1
    like_q, like_k = (batch, sq, hq, dim), (batch, sk, hk, dim)
    right = {
        "q": like_q,
        "k": like_k,
        "v": like_k,
        "out": like_q,
        "d_out": like_q,
        "lse": (hq, batch * sq),
        "selection": (hq, batch * sq, routed),
    }
    weight = shapes.get("weight", shapes.get("conv_weight", (hk, dim, 1)))
    return all(shape == right[n] for n, shape in shapes.items() if n in right) and weight[:2] == (hk, dim)


def _taken(fw, shapes):
    """Whether shapes that agree are those of a call, by the rules of kernels.h and the limits of the device."""
    _, sk, hk, dim = shapes["k"]
    _, sq, hq, _ = shapes.get("q", shapes["k"])
    width = shapes.get("weight", shapes.get("conv_weight", (hk, dim, 1)))[2]
    dims = range(8, 257, 8) if fw.device == "cuda" else range(1, 1000)
    return dim in dims and hk > 0 and hq > 0 and hq % hk == 0 and 1 <= width <= 8


def _shape_expectation(function, name):
    def wanted(fw, arguments):
        shapes = {n: tuple(arguments[n].shape) for n in ARRAYS[function]}
        if not _agree(shapes, arguments.get("block_size", 1), arguments.get("topk", 1)):
            first = name == ARRAYS[function][0] or (function, name) == (
                "moba_attention",
                "k",
            )  # convolved before q is seen
            alone = len(shapes) == 1 or (first and len(shapes[name]) != 4)
            return refused("has shape", shapes[name], *([] if alone else ["beside"]), kind=ValueError)
        return RIGHT if _taken(fw, shapes) else refused()

    return wanted


def _resized(axis, change):
    def shape(array):
        length = array.shape[axis]
        index = np.arange(max(0, length + change)) % max(length, 1)
        return array.take(index, axis=axis)

    return shape


def _shapes(axes):
    for axis in range(axes):
        for change in (-1, 1, -1000):
            label = f"axis {axis} {'empty' if change < -1 else f'{change:+d}'}"
            yield label, _resized(axis, change)
    yield "without its first axis", lambda a: a[0]
    yield "with one more axis", lambda a: a[None]
    yield "flat", lambda a: a.ravel()
    yield "a scalar", lambda a: a.ravel()[0]


def shape_rows(fw):
    for function, arrays in ARRAYS.items():
        for name in arrays:
            axes = {"lse": 2, "selection": 3, "weight": 3, "conv_weight": 3}.get(name, 4)
            for label, shape in _shapes(axes):
                wanted = _shape_expectation(function, name)
                if name == "v" and label.startswith("axis 3") and function != "attention_backward":
                    wanted = _value_dim_expectation(fw, label)
                yield Row(function, f"{name} {label}", _with_shape(function, name, shape), wanted)


def _value_dim_expectation(fw, label):
    """The width of values is free where nothing else has it; on CUDA devices a multiple of 8."""
    if label.endswith("empty"):
        return refused("head_dim of v = 0", kind=ValueError)
    return refused("head_dim_v") if fw.device == "cuda" else RIGHT


def value_dim_rows(fw):
    for function in ATTENDING:
        for width in (8, 24, 72, 256):
            for packed in (False, True):
                yield Row(
                    function,
                    f"values of {width} elements{', packed' * packed}",
                    lambda fw, function=function, width=width, packed=packed: _with_values(fw, function, width, packed),
                    RIGHT,
                )


def _with_values(fw, function, width, packed):
    """All that has the width of values, and gradients where there are some."""
    widened = {name: value for name, value in values(fw, function, packed).items() if name in ("v", "d_out")}
    widened = {name: fw.array(np.resize(value, (*value.shape[:-1], width))) for name, value in widened.items()}
    arguments = call(fw, function, packed, **widened)
    if function == "moba_attention":
        return {n: v.clone().requires_grad_() if n in ("q", "k", "v") else v for n, v in arguments.items()}
    return arguments


def _with_shape(function, name, shape):
    def arguments(fw):
        good = good_call(fw, function)
        return {**good, name: fw.array(shape(fw.double(good[name])), _DTYPES.get(name))}

    return arguments


# ---- dtypes, kinds, devices


def kind_rows(fw):
    for function, arrays in ARRAYS.items():
        for name in arrays:
            for dtype in sorted({*fw.wrong_dtypes, *fw.other_dtypes, "float32"} - {_DTYPES.get(name, fw.dtype)}):
                yield Row(
                    function,
                    f"{name} of dtype {dtype}",
                    _with_dtype(function, name, dtype),
                    _dtype_expectation(fw, arrays, name, dtype),
                )
            for label, made in _kinds(fw, function, name):
                if (name, label) != ("conv_weight", "None"):
                    yield _row_changed(function, f"{name} is {label}", refused(name.replace("conv_", "")), name, made)


def _dtype_expectation(fw, arrays, name, dtype):
    if name in TENSORS and sum(n in TENSORS for n in arrays) == 1:  # no other tensor to agree with
        if dtype in fw.other_dtypes:
            return RIGHT
        if dtype == "float32":
            return refused("fp32")  # not on CUDA
    return refused("dtype", dtype if dtype != "str" else "<U", kind=TypeError)


def _row_changed(function, label, wanted, name, made):
    return Row(function, label, lambda fw: {**good_call(fw, function), name: made(fw)}, wanted)


def _with_dtype(function, name, dtype):
    def arguments(fw):
        good = good_call(fw, function)
        return {**good, name: fw.array(fw.double(good[name]), dtype)}

    return arguments


def _kinds(fw, function, name):
    yield "None", lambda fw: None
    yield "a list", lambda fw: fw.double(good_call(fw, function)[name]).tolist()
    yield "a number", lambda fw: 3.0
    yield "a string", lambda fw: "k"
    if fw.name != "numpy" and len(ARRAYS[function]) > 1:
        yield "a NumPy array", lambda fw: fw.double(good_call(fw, function)[name]).astype("float32")
    if fw.name == "torch-cuda" and len(ARRAYS[function]) > 1:
        yield "on the host", lambda fw: good_call(fw, function)[name].cpu()


# ---- numbers


GOOD_NUMBERS = {
    "block_size": [1, 7, BLOCK, np.int8(BLOCK), np.uint64(BLOCK), np.int32(BLOCK), SEQ, 1000, 2**31 - 1],
    "topk": [1, 2, TOPK, np.int64(TOPK), np.uint8(TOPK), 6, 7, 64, 65, 1000, 2**31, 2**63 - 1],
    "threads": [0, 1, 3, np.int16(2), 4096],
}
BAD_NUMBERS = [-1, -(2**63), -(2**64), 2**64, 2**64 + 16, 2**200]
BAD_BY_NAME = {
    "block_size": [0, 2**31, 2**32 + 16, 2**63 - 1],
    "topk": [0, 2**63],
    "threads": [4097, 2**31 - 1, 2**31, 2**32],
}
NO_NUMBERS = [
    1.0,
    16.5,
    float("nan"),
    float("inf"),
    True,
    "16",
    None,
    [16],
    16 + 0j,
    np.float32(16),
    np.bool_(True),
    np.array([16]),
    np.array(16),
]


def _good_number(fw, function, name, value):
    """CUDA takes blocks of up to 16384 keys."""
    if fw.device == "cuda" and name == "block_size" and value > 16384:
        return refused() if "selection" in ARRAYS[function] else refused("block_size")
    return RIGHT


def number_rows(fw):
    for function in ARRAYS:
        names = ["threads"] + ["block_size"] * (function in BLOCKS) + ["topk"] * (function in QUERIES)
        for name in names:
            for value in GOOD_NUMBERS[name]:
                yield _row(
                    function, f"{name} = {value!r}", _good_number(fw, function, name, int(value)), **{name: value}
                )
            for value in BAD_NUMBERS + BAD_BY_NAME[name]:
                yield _number_refused(function, name, value, refused(name, value, "must be in", kind=ValueError))
            for value in NO_NUMBERS:
                yield _number_refused(function, name, value, refused(name, "integer", kind=TypeError))
        flags = [FP32[function], CENTRED[function]] if function in FP32 else []
        for name in flags + ["return_scores"] * (function == "route"):
            for value in (True, False, np.bool_(True)):
                yield _row(function, f"{name} = {value!r}", RIGHT, **{name: value})
            for value in (1, 0, "no", None, 1.0):
                yield _row(function, f"{name} = {value!r}", refused(name, kind=TypeError), **{name: value})
        if function in FP32:
            both = {FP32[function]: True, CENTRED[function]: True}
            yield _row(function, "fp32 and centred", refused(CENTRED[function], kind=ValueError), **both)
            yield _row(function, "centred, packed", RIGHT, True, **{CENTRED[function]: True})
            for scorer in ("quest", "submean-4", "random"):
                wanted = refused("centred", "scorer mean", kind=ValueError)
                yield _row(function, f"centred, {scorer}", wanted, scorer=scorer, **{CENTRED[function]: True})
        yield _row(function, "a keyword of no function", Refused(TypeError, ("nonsense",)), nonsense=1)
        for name in ("cu_seqlens", "dropout", "causal", "softmax_scale"):
            yield _row(function, f"keyword {name}", Refused(TypeError, (name,)), **{name: 1})


def _number_refused(function, name, value, wanted):
    return Row(function, f"{name} = {value!r}", lambda fw: {**good_call(fw, function), name: value}, wanted)


# ---- scorers


GOOD_SCORERS = ["mean", "quest", "max", "submean-2", "submean-4", "submean-16", "random", np.str_("quest")]
BAD_SCORERS = [
    "", "Mean", " mean", "mean ", "mean\0", "mean,", "average", "submean", "submean-", "submean-0", "submean-1",
    "submean--2", "submean-02", "submean-+2", "submean-2.0", "submean- 2", "submean-\u0662", "submean-R", "submean-2-2",
    "mean-2", "quest-2", "random-0", "submean-99999999999", "submean-" + "9" * 5000, "q" * 5000, "\ud800",
]  # fmt: skip
NO_SCORERS = [None, 0, 1, 3.0, True, b"mean", ["mean"], ("submean", 4), np.array("mean"), np.int64(1)]
GOOD_SEEDS = [0, 1, np.int8(5), np.uint64(2**64 - 1), 2**63, 2**64 - 1]


def scorer_rows(fw):
    for function in ROUTING:
        for scorer in GOOD_SCORERS:
            wanted = RIGHT if scorer == "mean" or fw.device == "cpu" else RIGHT_IF_TAKEN
            for packed in (False, True):
                label = f"scorer = {scorer!r}{', packed' * packed}"
                yield _row(function, label, wanted, packed, scorer=scorer)
            if function in FP32:
                yield _row(function, f"scorer = {scorer!r}, fp32", wanted, scorer=scorer, **{FP32[function]: True})
        for seed in GOOD_SEEDS:
            wanted = RIGHT if fw.device == "cpu" else RIGHT_IF_TAKEN
            yield _row(function, f"scorer_seed = {seed!r}", wanted, scorer="random", scorer_seed=seed)
            yield _row(function, f"scorer_seed = {seed!r} of mean", RIGHT, scorer_seed=seed)
        for scorer in BAD_SCORERS:
            label = f"scorer = {scorer[:30]!r} of length {len(scorer)}"
            yield _row(function, label, refused("scorer = ", "submean-R", "nearest", kind=ValueError), scorer=scorer)
        for scorer in NO_SCORERS:
            yield _row(function, f"scorer = {scorer!r}", refused("scorer", "string", kind=TypeError), scorer=scorer)
        for sub_blocks, nearest in ((3, 2), (7, 8), (32, 16), (1000, 16), (2**31 - 1, 16)):
            wanted = refused(f"sub_blocks = {sub_blocks}", f"choice: {nearest}", kind=ValueError)
            yield _row(function, f"scorer = 'submean-{sub_blocks}'", wanted, scorer=f"submean-{sub_blocks}")
        for seed in (-1, 2**64, -(2**64), 2**200):
            wanted = refused("scorer_seed", seed, "must be in", kind=ValueError)
            yield _row(function, f"scorer_seed = {seed}", wanted, scorer_seed=seed)
        for seed in NO_NUMBERS:
            wanted = refused("scorer_seed", "integer", kind=TypeError)
            yield _row(function, f"scorer_seed = {seed!r}", wanted, scorer_seed=seed)
    for function in ARRAYS:
        if function not in ROUTING:
            for name in ("scorer", "scorer_seed"):
                yield _row(function, f"keyword {name}", Refused(TypeError, (name,)), **{name: "mean"})


# ---- causal


def causal_rows(fw):
    for function in QUERIES:
        for packed in (False, True):
            for topk in (1, 2, TOPK, 100):
                label = f"not causal, topk = {topk}{', packed' * packed}"
                yield _row(function, label, RIGHT, packed, causal=False, topk=topk)
        yield _row(function, "causal = np.False_", RIGHT, causal=np.False_)
        yield _row(function, "causal = True", RIGHT, causal=True)
        for value in (None, 0, "no"):
            yield _row(function, f"causal = {value!r}", refused("causal", "True or False", kind=TypeError), causal=value)
    for function in KEEPS_FIRST:
        for topk in (1, 2, TOPK):
            label = f"not causal, keep_first, topk = {topk}"
            yield _row(function, label, RIGHT, causal=False, keep_first=True, topk=topk)
        for scorer in ("quest", "submean-4", "random"):
            yield _row(function, f"not causal, scorer = {scorer}", RIGHT, True, causal=False, scorer=scorer)
    yield _row("route", "not causal, scores", RIGHT, causal=False, return_scores=True)


# ---- keep_first


def keep_first_rows(fw):
    for function in KEEPS_FIRST:
        for topk in (1, 2, TOPK, 6, 1000):
            for packed in (False, True):
                label = f"keep_first, topk = {topk}{', packed' * packed}"
                yield _row(function, label, RIGHT, packed, keep_first=True, topk=topk)
        for value in (True, False, np.bool_(True), np.bool_(False)):
            yield _row(function, f"keep_first = {value!r}", RIGHT, keep_first=value)
        for scorer in GOOD_SCORERS:
            wanted = RIGHT if scorer == "mean" or fw.device == "cpu" else RIGHT_IF_TAKEN
            yield _row(function, f"keep_first, scorer = {scorer!r}", wanted, keep_first=True, scorer=scorer)
        for value in (1, 0, "yes", "", None, 1.0, np.int64(1), [True], np.array(True), np.array([True])):
            wanted = refused("keep_first", "True or False", kind=TypeError)
            yield _row(function, f"keep_first = {value!r}", wanted, keep_first=value)
    for topk in (2, TOPK):
        yield _row("route", f"keep_first, topk = {topk}, scores", RIGHT, keep_first=True, topk=topk, return_scores=True)
    for function in ARRAYS:
        if function not in KEEPS_FIRST:
            yield _row(function, "keyword keep_first", Refused(TypeError, ("keep_first",)), keep_first=True)


# ---- scale


GOOD_SCALES = [None, 0.125, 1, 0.01, np.float32(0.3), np.float64(0.3), np.float16(0.5), np.int8(1), Fraction(1, 3)]
BAD_SCALES = [0, 0.0, -0.0, -0.125, -1, float("nan"), float("inf"), -float("inf"), 1e-31, 1.1e30, 2**200, 10**400]
NO_SCALES = ["0.125", True, np.bool_(True), [0.125], np.array(0.125), np.array([0.125]), 1j, np.complex64(1), "auto"]


def scale_rows(fw):
    for function in ATTENDING:
        for value in GOOD_SCALES:
            for packed in (False, True):
                yield _row(function, f"scale = {value!r}{', packed' * packed}", RIGHT, packed, scale=value)
        for value in BAD_SCALES:
            wanted = refused("scale = ", "must be in", "nearest valid choice", kind=ValueError)
            yield _row(function, f"scale = {str(value)[:20]}", wanted, scale=value)
        for value in NO_SCALES:
            wanted = refused("scale = ", "a number or None", kind=TypeError)
            yield _row(function, f"scale = {value!r}", wanted, scale=value)
        if fw.device == "cuda":
            wanted = refused("scale = 65537", "at most 65536", "nearest valid choice: 65536")
            yield _row(function, "scale = 65537", wanted, scale=65537)
            # Gradients have no row: lse has steps of 1/8 there, and probabilities recomputed from it errors of a tenth.
            if function != "attention_backward":
                yield _row(function, "scale = 65536", RIGHT, scale=65536)
    for function in ARRAYS:
        if function not in ATTENDING:
            yield _row(function, "keyword scale", Refused(TypeError, ("scale",)), scale=0.125)


def given_centroids_rows(fw):
    """route_with_centroids: what compute_centroids returned, for these keys, and what it did not."""
    function = "route_with_centroids"

    def arguments(packed=False, scorer="mean", fp32=False, **changed):
        def made(fw):
            good = call(fw, "route", packed)
            only_k = {n: good[n] for n in ("cu_seqlens_k",) if n in good}
            kept = mk.compute_centroids(good.pop("k"), BLOCK, fp32=fp32, scorer=scorer, **only_k)
            good = {**good, "centroids": kept, "keys": SEQ, "scorer": scorer}
            return {**good, **{n: v(fw, good) if callable(v) else v for n, v in changed.items()}}

        return made

    def row(label, wanted, **how):
        return Row(function, label, arguments(**how), wanted)

    scorers = GOOD_SCORERS if fw.device == "cpu" else ["mean"]
    for scorer in scorers:
        for packed in (False, True):
            label = f"{scorer!r}{', packed' * packed}"
            yield row(label, RIGHT, packed=packed, scorer=scorer)
            yield row(f"{label}, scores", RIGHT, packed=packed, scorer=scorer, return_scores=True)
            yield row(f"{label}, keep_first", RIGHT, packed=packed, scorer=scorer, return_scores=True, keep_first=True)
        yield row(f"{scorer!r}, fp32", RIGHT, scorer=scorer, fp32=True)
        for rows in (0, 1, 17):
            yield row(f"{scorer!r}, last {rows}", RIGHT, scorer=scorer, q=lambda fw, a, n=rows: a["q"][:, SEQ - n :])
        other = "quest" if scorer == "mean" else "mean"
        yield Row(
            function,
            f"centroids of {scorer!r} taken for those of {other!r}",
            lambda fw, scorer=scorer, other=other: {**arguments(scorer=scorer)(fw), "scorer": other},
            refused("centroids has shape", kind=ValueError),
        )
    yield row("packed, lengths given", RIGHT, packed=True, **LENGTHS)
    others = {**LENGTHS, "total_blocks": 8}
    yield row("packed, total_blocks of others", refused("centroids has shape"), packed=True, **others)
    for keys in (SEQ - BLOCK, SEQ + BLOCK, 0, 1, 2**31 - 1):
        yield row(f"keys = {keys}", refused(), keys=keys)
        yield row(f"keys = {keys}, packed", refused(), packed=True, keys=keys)
    for keys in (-1, 2**31, 2**64, -(2**63)):
        yield row(f"keys = {keys}", refused("keys", keys, "must be in", kind=ValueError), keys=keys)
    for keys in NO_NUMBERS:
        if keys is not None:
            yield row(f"keys = {keys!r}", refused("keys", "integer", kind=TypeError), keys=keys)
    for axis in range(3):
        for change in (-1, 1, -1000):
            if (axis, change) == (1, -1):
                continue  # one head of keys for all queries is another good call
            wanted = refused() if axis == 1 else refused("centroids has shape", kind=ValueError)
            resize = _resized(axis, change)
            made = lambda fw, a, resize=resize: fw.array(resize(fw.double(a["centroids"])))  # noqa: E731
            yield row(f"centroids axis {axis} {change:+d}", wanted, centroids=made)
    for label, change in {
        "of two extents": lambda c: c[0],
        "of four extents": lambda c: c[None],
        "a scalar": lambda c: c.ravel()[0],
    }.items():
        wanted = refused("centroids has shape", kind=ValueError)
        made = lambda fw, a, change=change: fw.array(change(fw.double(a["centroids"])))  # noqa: E731
        yield row(f"centroids {label}", wanted, centroids=made)
    for label, layout, wanted in _dense_layouts(fw, 3):
        wanted = wanted if wanted == RIGHT else refused("centroids", *wanted)
        made = lambda fw, a, layout=layout: layout(fw, fw.double(a["centroids"]))  # noqa: E731
        yield row(f"centroids {label}", wanted, centroids=made)
    for dtype in fw.wrong_dtypes:
        made = lambda fw, a, dtype=dtype: fw.array(fw.double(a["centroids"]), dtype)  # noqa: E731
        yield row(f"centroids of dtype {dtype}", refused("centroids", "dtype", kind=TypeError), centroids=made)
    for label, kind in (("None", None), ("a list", [[[1.0]]]), ("a number", 3.0)):
        yield row(f"centroids is {label}", refused("centroids", kind=TypeError), centroids=kind)
    for name in ("block_size", "topk", "threads"):
        for value in BAD_NUMBERS[:2]:
            yield row(f"{name} = {value}", refused(name, value, "must be in", kind=ValueError), **{name: value})


# ---- lengths


BAD_BOUNDARIES = {
    "falling": ([0, 60, 37, SEQ], "at least"),
    "not from 0": ([1, 37, 37, SEQ], "0"),
    "negative": ([0, -5, 37, SEQ], "at least"),
    "short of the tokens": ([0, 37, 37, SEQ - 1], "number of tokens"),
    "beyond the tokens": ([0, 37, 37, SEQ + 1], "number of tokens"),
    "far beyond": ([0, 37, 2**31 - 1, SEQ], "at least"),
    "all zero": ([0, 0, 0, 0], "number of tokens"),
    "without a sequence": ([0], "at least one"),
    "empty": ([], "at least one"),
}
LENGTHS = {"max_seqlen_q": 51, "max_seqlen_k": 51, "total_blocks": 7}


def _lengths(function):
    names = ["max_seqlen_q"] * (function in QUERIES) + ["max_seqlen_k"] + ["total_blocks"] * (function in BLOCKS)
    return {name: LENGTHS[name] for name in names}


def boundary_rows(fw):
    for function in ARRAYS:
        names = ["cu_seqlens_q"] * (function in QUERIES) + ["cu_seqlens_k"]
        lengths = _lengths(function)
        yield _row(function, "packed", RIGHT, packed=True)
        yield _row(function, "packed, lengths given", RIGHT, packed=True, **lengths)
        yield _row(
            function, "packed, NumPy lengths", RIGHT, packed=True, **{n: np.int64(v) for n, v in lengths.items()}
        )
        yield _row(
            function,
            "packed, longest sequence overstated",
            RIGHT,
            packed=True,
            **{**lengths, **{n: 80 for n in lengths if n.startswith("max")}},
        )
        for label, (contents, text) in BAD_BOUNDARIES.items():

            def cu(fw, contents=contents):
                return fw.array(np.array(contents, dtype=np.int32), "int32")

            yield _row(
                function, f"cu_seqlens {label}", refused("cu_seqlens", text), packed=True, **{n: cu for n in names}
            )
            if len(contents) > 1:  # the caller's word, on CUDA: no illegal access whatever it is
                yield _row(
                    function,
                    f"cu_seqlens {label}, lengths given",
                    ANY if fw.device == "cuda" else refused("cu_seqlens"),
                    packed=True,
                    **{n: cu for n in names},
                    **lengths,
                )
        yield from _boundary_kinds(fw, function, names)
        yield from _boundary_pairs(fw, function, names, lengths)
        yield from _length_rows(fw, function, lengths)


def _boundary_kinds(fw, function, names):
    good = np.array(PACKED)
    for name in names:
        for dtype in ("int64", "float32", "uint8"):
            yield _row(
                function,
                f"{name} of dtype {dtype}",
                refused(name, dtype, kind=TypeError),
                packed=True,
                **{name: lambda fw, dtype=dtype: fw.array(good, dtype)},
            )
        yield _row(
            function,
            f"{name} of two axes",
            refused("cu_seqlens", "shape"),
            packed=True,
            **{name: lambda fw: fw.array(good[None], "int32")},
        )
        yield _row(
            function,
            f"{name} every other",
            refused(name, "contiguous"),
            packed=True,
            **{name: lambda fw: fw.array(np.repeat(good, 2), "int32")[::2]},
        )
        yield _row(function, f"{name} is a list", refused(name, kind=TypeError), packed=True, **{name: PACKED})
        yield _row(function, f"{name} is a number", refused(name, kind=TypeError), packed=True, **{name: 3})
        if fw.name != "numpy":
            yield _row(
                function,
                f"{name} is a NumPy array",
                refused(name, kind=TypeError),
                packed=True,
                **{name: good.astype("int32")},
            )
        if fw.device == "cuda":
            yield _row(
                function,
                f"{name} on the host",
                refused(name, "device"),
                packed=True,
                **{name: lambda fw: fw.array(good, "int32").cpu()},
            )
        yield Row(
            function,
            f"{name} with [batch, ...] tensors",
            lambda fw, name=name: {**good_call(fw, function), **{n: fw.array(good, "int32") for n in names}},
            refused("shape", "cu_seqlens"),
        )


def _boundary_pairs(fw, function, names, lengths):
    yield Row(
        function,
        "packed without cu_seqlens",
        lambda fw: {n: v for n, v in good_call(fw, function, True).items() if n not in names},
        refused("shape", "cu_seqlens"),
    )
    if len(names) == 1:
        return
    for name in names:
        yield Row(
            function,
            f"{name} missing",
            lambda fw, name=name: {n: v for n, v in good_call(fw, function, True).items() if n != name},
            refused(name),
        )
    yield _row(
        function,
        "cu_seqlens of different batch",
        refused("cu_seqlens", "shape", "(3,)", "(4,)"),
        packed=True,
        cu_seqlens_k=lambda fw: fw.array(np.array([0, 37, SEQ]), "int32"),
    )
    for label, more_queries in {"more queries than keys": [0, 40, 40, SEQ], "no keys": [0, 37, 40, SEQ]}.items():
        cu = lambda fw, more_queries=more_queries: fw.array(np.array(more_queries), "int32")  # noqa: E731
        yield _row(function, f"a sequence of {label}", RIGHT, packed=True, cu_seqlens_q=cu)
        yield _row(function, f"a sequence of {label}, lengths given", RIGHT, packed=True, cu_seqlens_q=cu, **lengths)


def _length_rows(fw, function, lengths):
    for name in lengths:
        if len(lengths) > 1:
            yield _row(
                function,
                f"{name} missing",
                refused(name),
                packed=True,
                **{n: v for n, v in lengths.items() if n != name},
            )
        for value in (1.0, "51", True, [51]):
            yield _row(
                function, f"{name} = {value!r}", refused(name, kind=TypeError), packed=True, **{**lengths, name: value}
            )
        for value in (-1, 2**31, 2**64):
            yield _row(
                function, f"{name} = {value}", refused(name, kind=ValueError), packed=True, **{**lengths, name: value}
            )
        for value in (0, 1, lengths[name] - 1, lengths[name] + 1, 2**31 - 1):
            overstated = name.startswith("max") and value > lengths[name]
            yield _row(
                function,
                f"{name} = {value} of {lengths[name]}",
                ANY if fw.device == "cuda" or overstated else refused(),
                packed=True,
                **{**lengths, name: value},
            )
    yield Row(
        function,
        "lengths with [batch, ...] tensors",
        lambda fw: {**good_call(fw, function), **lengths},
        refused("max_seqlen_k", "cu_seqlens"),
    )


# ---- contents


def selection_rows(fw):
    """A row of the selection is a set: what is no candidate is ignored, a block named twice counts once."""

    def hostile(change):
        def arguments(fw, function, packed):
            good = good_call(fw, function, packed)
            selection = fw.double(good["selection"]).astype(np.int64)
            return call(fw, function, packed, selection=fw.array(change(selection).astype(np.int32), "int32"))

        return arguments

    own = np.arange(SEQ) // BLOCK
    changes = {
        "in reverse order": lambda s: s[..., ::-1],
        "all -1": lambda s: np.full_like(s, -1),
        "one block twice": lambda s: np.repeat(s[..., :1], s.shape[-1], axis=-1),
        "own block": lambda s: np.where(np.arange(s.shape[-1]) == 0, np.resize(own, s.shape[1])[None, :, None], s),
        "later block": lambda s: np.where(
            np.arange(s.shape[-1]) == 0, np.resize(own, s.shape[1])[None, :, None] + 1, s
        ),
        "no block of the sequence": lambda s: np.where(s == 0, 10**6, s),
        "the largest int": lambda s: np.where(s == 0, 2**31 - 1, s),
        "the smallest int": lambda s: np.where(s == 0, -(2**31), s),
        "-2": lambda s: np.where(s == 0, -2, s),
    }
    for function in ("attention_forward", "attention_backward"):
        for label, change in changes.items():
            for packed in (False, True):

                def arguments(fw, function=function, change=change, packed=packed):
                    made = hostile(change)(fw, function, packed)
                    if function == "attention_backward":  # lse and out of that set
                        forward = {n: v for n, v in made.items() if n not in ("out", "d_out", "lse")}
                        made["out"], made["lse"] = mk.attention_forward(**forward)
                    return made

                yield Row(function, f"selection {'packed ' if packed else ''}with {label}", arguments, RIGHT)


def decoding_rows(fw):
    """Fewer queries than keys: the last tokens of every sequence, as views."""
    for function in QUERIES:
        for label, rows in (
            ("the last token", slice(-1, None)),
            ("the last 17 tokens", slice(-17, None)),
            ("no token", slice(0, 0)),
        ):
            yield _row(function, f"q is {label}", RIGHT, **_views(function, ("q", "d_out"), (slice(None), rows)))
    for function, arrays in ARRAYS.items():
        tensors = [name for name in arrays if name in TENSORS and name != "out"]
        for label, at in (
            ("one token of each sequence", (slice(None), slice(-1, None))),
            ("one sequence", (slice(1, 2),)),
            ("no tokens at all", (slice(None), slice(0, 0))),
            ("an empty batch", (slice(0, 0),)),
        ):
            yield _row(function, label, RIGHT, **_views(function, tensors, at))


def _views(function, names, at):
    return {
        name: lambda fw, name=name: fw.array(_base(name, function)(fw))[at]
        for name in names
        if name in ARRAYS[function]
    }


def gradient_rows(fw):
    """Where autograd records, only moba_attention takes tensors that require grad (and routing: integers have none)."""
    if fw.name == "numpy":
        return
    for function, arrays in ARRAYS.items():
        for name in arrays:
            if name == "selection":
                continue

            def arguments(fw, function=function, name=name):
                good = good_call(fw, function)
                return {**good, name: good[name].clone().requires_grad_()}

            taken = function in ("route", "moba_attention")
            yield Row(
                function,
                f"{name} requires grad",
                arguments,
                RIGHT if taken else refused(name, "requires grad", "moba_attention", kind=ValueError),
            )
    yield Row(
        "route",
        "q requires grad, with scores",
        lambda fw: {**call(fw, "route", q=fw.array(values(fw, "route")["q"]).requires_grad_()), "return_scores": True},
        refused("q", "requires grad"),
    )

    def all_of_them(fw, packed):
        return {
            n: v.clone().requires_grad_() if n in ARRAYS["moba_attention"] else v
            for n, v in call(fw, "moba_attention", packed).items()
        }

    for packed in (False, True):
        yield Row(
            "moba_attention",
            f"all require grad{', packed' * packed}",
            lambda fw, packed=packed: all_of_them(fw, packed),
            RIGHT,
        )
        yield Row(
            "moba_attention",
            f"all require grad, keep_first{', packed' * packed}",
            lambda fw, packed=packed: {**all_of_them(fw, packed), "keep_first": True},
            RIGHT,
        )
        yield Row(
            "moba_attention",
            f"all require grad, not causal{', packed' * packed}",
            lambda fw, packed=packed: {**all_of_them(fw, packed), "causal": False},
            RIGHT,
        )
        yield Row(
            "moba_attention",
            f"all require grad, scale{', packed' * packed}",
            lambda fw, packed=packed: {**all_of_them(fw, packed), "scale": 0.3},
            RIGHT,
        )
        yield Row(
            "moba_attention",
            f"all require grad, routed by quest{', packed' * packed}",
            lambda fw, packed=packed: {**all_of_them(fw, packed), "scorer": "quest"},
            RIGHT if fw.device == "cpu" else RIGHT_IF_TAKEN,
        )
        for name in ("q", "k", "v"):
            for label, layout, _ in _tensor_layouts(fw, packed):
                if _copied(label):

                    def laid_out(fw, name=name, layout=layout, packed=packed):
                        array = layout(fw, values(fw, "moba_attention", packed)[name]).detach().requires_grad_()
                        return {**all_of_them(fw, packed), name: array}

                    yield Row("moba_attention", f"gradient of {name} {'packed ' * packed}{label}", laid_out, RIGHT)


def rows(fw):
    """Every row, in an order that never changes."""
    groups = (
        layout_rows,
        shape_rows,
        kind_rows,
        number_rows,
        scorer_rows,
        value_dim_rows,
        causal_rows,
        keep_first_rows,
        scale_rows,
        given_centroids_rows,
        boundary_rows,
        selection_rows,
        decoding_rows,
        gradient_rows,
    )
    return [row for group in groups for row in group(fw) if fw.name != "numpy" or row.function != "moba_attention"]
