"""One good call of every function, and whether the answer of any call is right."""

import functools

import numpy as np

import mobalab_kernels as mk

from . import reference

SEED = 51
BATCH, SEQ, HEADS_Q, HEADS_K, BLOCK, TOPK, WIDTH = 2, 88, 4, 2, 16, 3, 3
PACKED = [0, 37, 37, 88]  # the middle sequence is empty

# The largest absolute error of values of order 1: products in the dtype, sums in fp32.
TOLERANCE = {"float32": 2e-5, "float16": 2e-2, "bfloat16": 1.2e-1}

# Arrays of each function in the order of its signature; what comes before the star may be mutated on its own.
ARRAYS = {
    "compute_centroids": ("k",),
    "route": ("q", "k"),
    "attention_forward": ("q", "k", "v", "selection"),
    "moba_forward": ("q", "k", "v"),
    "attention_backward": ("q", "k", "v", "out", "d_out", "lse", "selection"),
    "key_conv_forward": ("k", "weight"),
    "key_conv_centroids": ("k", "weight"),
    "key_conv_backward": ("k", "weight", "d_out"),
    "moba_attention": ("q", "k", "v", "conv_weight"),
}
TENSORS = ("q", "k", "v", "out", "d_out")
BLOCKS = (
    "compute_centroids",
    "route",
    "attention_forward",
    "moba_forward",
    "attention_backward",
    "key_conv_centroids",
    "moba_attention",
)
QUERIES = tuple(f for f, arrays in ARRAYS.items() if "q" in arrays)
ROUTING = tuple(f for f in BLOCKS if not f.startswith("attention"))  # what a scorer changes
ATTENDING = ("attention_forward", "moba_forward", "attention_backward", "moba_attention")
KEEPS_FIRST = tuple(f for f in ROUTING if f in QUERIES)
FP32 = {
    "compute_centroids": "fp32",
    "key_conv_centroids": "fp32",
    "route": "fp32_centroids",
    "moba_forward": "fp32_centroids",
    "moba_attention": "fp32_centroids",
}
CENTRED = {function: name.replace("fp32", "centred") for function, name in FP32.items()}


def values(fw, function, packed=False):
    """Random float64 values of the arrays that stand alone: {name: values}."""
    rng = np.random.default_rng(SEED)
    extent = (SEQ,) if packed else (BATCH, SEQ)
    dim = fw.head_dim
    shapes = {
        "q": (*extent, HEADS_Q, dim),
        "k": (*extent, HEADS_K, dim),
        "v": (*extent, HEADS_K, dim),
        "d_out": (*extent, HEADS_K if function.startswith("key_conv") else HEADS_Q, dim),
        "weight": (HEADS_K, dim, WIDTH),
        "conv_weight": (HEADS_K, dim, WIDTH),
    }
    made = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return {name: made[name] for name in ARRAYS[function] if name in made}


def boundaries(fw, function, contents=PACKED):
    cu = fw.array(np.array(contents, dtype=np.int32), "int32")
    return {f"cu_seqlens_{side}": cu for side in ("q", "k") if side == "k" or function in QUERIES}


def call(fw, function, packed=False, **changed):
    """Keyword arguments of a good call; `changed` replaces some before selection, out and lse are made for them."""
    arguments = {}
    for name, value in values(fw, function, packed).items():
        arguments[name] = changed.get(name, fw.array(value, "float32" if name.endswith("weight") else None))
    if function in BLOCKS:
        arguments["block_size"] = BLOCK
    if function in QUERIES:
        arguments["topk"] = TOPK
    if packed:
        arguments.update(boundaries(fw, function))
    arguments.update(changed)
    if "selection" in ARRAYS[function]:
        plain = {name: fw.array(fw.double(arguments[name])) for name in ("q", "k", "v")}
        plain.update((name, arguments[name]) for name in ("scale", "causal") if name in arguments)
        sequences = {name: arguments[name] for name in ("cu_seqlens_q", "cu_seqlens_k") if name in arguments}
        out, lse, selection = mk.moba_forward(
            **plain, block_size=arguments["block_size"], topk=arguments["topk"], **sequences
        )
        for name, made in (("out", out), ("lse", lse), ("selection", selection)):
            if name in ARRAYS[function]:
                arguments.setdefault(name, made)
    return {name: arguments[name] for name in (*ARRAYS[function], *arguments) if name in arguments}


@functools.lru_cache(maxsize=None)
def good_call(fw, function, packed=False):
    """A call() that nothing has changed, to swap one argument of: made once in a process, never written to."""
    return call(fw, function, packed)


class Wrong(AssertionError):
    pass


def _close(name, got, want, tolerance):
    if got.shape != want.shape:
        raise Wrong(f"{name} has shape {got.shape}, right is {want.shape}")
    scale = max(1.0, np.abs(want[np.isfinite(want)]).max(initial=0))
    with np.errstate(invalid="ignore"):  # inf - inf
        error = np.abs(got - want)
    same = (got == want) | (error <= tolerance * scale)
    if not same.all():
        raise Wrong(f"{name} is wrong by up to {error[~same].max():.3g}, allowed {tolerance * scale:.3g}")


class _Sequences:
    """The arrays of a call in float64, cut into sequences."""

    def __init__(self, fw, arguments):
        self.block = int(arguments.get("block_size", 1))
        self.topk = int(arguments.get("topk", 1))
        self.scorer, self.seed = str(arguments.get("scorer", "mean")), int(arguments.get("scorer_seed", 0))
        self.keep_first = bool(arguments.get("keep_first", False))
        self.scale, self.causal = arguments.get("scale"), bool(arguments.get("causal", True))
        cu = {side: arguments.get(f"cu_seqlens_{side}") for side in ("q", "k")}
        self.cu = {side: None if c is None else fw.double(c).astype(int) for side, c in cu.items()}
        self.parts = {}
        for name in TENSORS:
            if name in arguments:
                side = "k" if name in ("k", "v") or "q" not in arguments else "q"
                self.parts[name] = reference.split(fw.double(arguments[name]), self.cu[side])
        self.lengths = [len(q) for q in self.parts.get("q", [])]
        longest = max((len(k) for k in self.parts["k"]), default=0)
        longest = int(arguments.get("max_seqlen_k") or longest)
        blocks = -(-longest // self.block)
        self.routed = min(self.topk, max(1, blocks)) - 1 if self.causal else min(self.topk, blocks)

    def __call__(self, *names):
        return zip(*(self.parts[name] for name in names))

    def rows(self, array):
        return reference.split_rows(array, self.lengths) if self.lengths else []

    def tokens(self, parts, like):
        """One array shaped like `like` from its sequences."""
        return np.concatenate([np.zeros((0, *like.shape[-2:])), *parts]).reshape(like.shape)


def _check_selection(s, selection, scores, tolerance):
    """Every row names its best candidates, best first; scores (or None) are theirs."""
    tokens = sum(s.lengths)
    if selection.shape != (selection.shape[0], tokens, s.routed):
        raise Wrong(f"selection has shape {selection.shape}, right is (heads, {tokens}, {s.routed})")
    score_rows = s.rows(scores) if scores is not None else [None] * len(s.lengths)
    for i, ((q, k), picks, given) in enumerate(zip(s("q", "k"), s.rows(selection), score_rows)):
        if picks.size:
            exact = reference.scores(q, k, s.block, s.scorer, s.seed, i)
            exactly = 0 if s.scorer == "random" else tolerance
            own = reference.candidates(len(q), len(k), s.block, s.causal)
            if s.keep_first:
                picks, exact, own, given = _behind_first(picks, exact, own, given)
            if picks.size:
                exact = np.concatenate([exact, np.full((*exact.shape[:2], 1), -np.inf)], axis=-1)  # a block that is none
                _check_picks(picks, exact, own, given, exactly)


def _behind_first(picks, exact, own, given):
    """The same without block 0 and its slot, numbers counted from block 1 on, once that slot is checked."""
    first = np.where(own > 0, 0, -1)
    if (picks[..., 0] != first).any():
        raise Wrong("slot 0 does not hold block 0 of the rows that have it as a candidate")
    if given is not None:
        _close("scores of slot 0", given[..., 0], np.broadcast_to(np.where(own > 0, np.inf, -np.inf), given.shape[:-1]), 0)
        given = given[..., 1:]
    rest = picks[..., 1:]
    if (rest == 0).any():
        raise Wrong("selection names block 0 twice")
    return np.where(rest > 0, rest - 1, rest), exact[..., 1:], np.maximum(own - 1, 0), given


def _check_picks(picks, exact, own, given, tolerance):
    """picks and given [heads, sq, routed], exact [heads, sq, blocks], own [sq]."""
    named = np.arange(picks.shape[-1]) < own[:, None]  # as many as there are candidates
    valid = np.where(named, (picks >= 0) & (picks < own[:, None]), picks == -1)
    if not valid.all():
        raise Wrong(f"selection {picks[~valid.all(-1)][0].tolist()}: blocks that are no candidates, or too few")
    distinct = np.sort(np.where(named, picks, -1 - np.arange(picks.shape[-1])), axis=-1)
    if (np.diff(distinct, axis=-1) == 0).any():
        raise Wrong("selection names a block twice")
    allowed = tolerance * np.abs(exact[np.isfinite(exact)]).max(initial=1.0)
    found = np.where(named, np.take_along_axis(exact, np.maximum(picks, 0), axis=-1), -np.inf)
    rest = np.concatenate(
        [np.where(np.arange(exact.shape[-1]) < own[:, None], exact, -np.inf), np.full((*exact.shape[:2], 1), -np.inf)],
        axis=-1,
    )
    np.put_along_axis(rest, np.where(named, picks, exact.shape[-1]), -np.inf, axis=-1)
    falls = found[..., 1:] <= found[..., :-1] + allowed
    worst = np.where(named, found, np.inf).min(-1)
    if not falls.all() or (rest.max(-1) > worst + allowed).any():
        raise Wrong("selection does not name the best candidates, best first")
    if given is not None:
        _close("scores", given, found, tolerance)


def _dtype(array):
    return str(array.dtype).replace("torch.", "")


class _Outputs:
    """Results in float64, their dtype and device checked."""

    def __init__(self, fw, arguments):
        self.fw, self.k = fw, arguments["k"]

    def __call__(self, name, array, dtype=None):
        wanted = dtype or _dtype(self.k)
        if _dtype(array) != wanted:
            raise Wrong(f"{name} has dtype {_dtype(array)}, right is {wanted}")
        if self.fw.name != "numpy" and array.device != self.k.device:
            raise Wrong(f"{name} is on {array.device}, right is {self.k.device}")
        return self.fw.double(array)


def verify(fw, function, arguments, result):
    """Raises Wrong unless the result is MoBA's."""
    if function == "route_with_centroids":  # of these keys, whatever else was changed
        k = values(fw, "route", "cu_seqlens_k" in arguments)["k"]
        arguments = {**arguments, "k": fw.array(k, _dtype(arguments["q"]))}
        function = "route"
    s = _Sequences(fw, arguments)
    s.tolerance = TOLERANCE[_dtype(arguments["k"])]
    _VERIFY[function](fw, arguments, s, result, _Outputs(fw, arguments))


def _verify_centroids(fw, arguments, s, result, output, keys=None):
    got = output("centroids", result, "float32" if arguments.get("fp32") else None)
    heads_and_dim = tuple(arguments["k"].shape[-2:])
    none = np.zeros((0, len(reference.SCORERS[reference.parse(s.scorer)[0]]), *heads_and_dim))
    want = [reference.summaries(k, s.block, s.scorer) for k in (s.parts["k"] if keys is None else keys)]
    if arguments.get("centred"):
        want = [kept - kept[:1] for kept in want]
    want = np.concatenate([none, *want])
    _close("centroids", got, want[:, 0] if s.scorer == "mean" else want, s.tolerance)


def _verify_route(fw, arguments, s, result, output):
    selection, scores = result if arguments.get("return_scores") else (result, None)
    scores = None if scores is None else output("scores", scores, "float32")
    _check_selection(s, output("selection", selection, "int32").astype(int), scores, s.tolerance)


def _verify_forward(fw, arguments, s, result, output):
    out, lse = output("out", result[0]), output("lse", result[1], "float32")
    if "selection" in arguments:
        selection = fw.double(arguments["selection"]).astype(int)
    else:
        selection = output("selection", result[2], "int32").astype(int)
        _check_selection(s, selection, None, s.tolerance)
    want = [
        reference.attention(q, k, v, rows, s.block, s.scale, s.causal)
        for (q, k, v), rows in zip(s("q", "k", "v"), s.rows(selection))
    ]
    _close("out", out, s.tokens([w[0] for w in want], out), s.tolerance)
    _close("lse", lse, np.concatenate([np.zeros((lse.shape[0], 0)), *(w[1] for w in want)], axis=1), s.tolerance)


def _verify_backward(fw, arguments, s, result, output):
    lse, selection = (fw.double(arguments[name]) for name in ("lse", "selection"))
    want = [
        reference.attention_gradients(*tensors, rows, picks.astype(int), s.block, s.scale, s.causal)
        for tensors, rows, picks in zip(s("q", "k", "v", "out", "d_out"), s.rows(lse), s.rows(selection))
    ]
    for i, name in enumerate(("dq", "dk", "dv")):
        got = output(name, result[i])
        _close(name, got, s.tokens([w[i] for w in want], got), 2 * s.tolerance)


def _verify_conv(fw, arguments, s, result, output):
    weight = fw.double(arguments["weight"])
    got = output("k'", result)
    _close("k'", got, s.tokens([reference.convolution(k, weight) for k in s.parts["k"]], got), s.tolerance)


def _verify_conv_centroids(fw, arguments, s, result, output):
    _verify_conv(fw, arguments, s, result[0], output)
    weight = fw.double(arguments["weight"])
    _verify_centroids(fw, arguments, s, result[1], output, [reference.convolution(k, weight) for k in s.parts["k"]])


def _verify_conv_backward(fw, arguments, s, result, output):
    weight = fw.double(arguments["weight"])
    want = [reference.convolution_gradients(k, weight, d_out) for k, d_out in s("k", "d_out")]
    dk, d_weight = output("dk", result[0]), output("d_weight", result[1], "float32")
    _close("dk", dk, s.tokens([w[0] for w in want], dk), s.tolerance)
    _close("d_weight", d_weight, sum((w[1] for w in want), np.zeros(weight.shape)), 4 * s.tolerance)


def _verify_attention(fw, arguments, s, result, output):
    """The output and, where inputs require grad, the gradients for the d_out that `run` gave."""
    out, d_out, gradients = result
    weight = arguments.get("conv_weight")
    keys = s.parts["k"] if weight is None else [reference.convolution(k, fw.double(weight)) for k in s.parts["k"]]
    selection = fw.double(_selection_of(fw, arguments)).astype(int)
    rows = s.rows(selection)
    wide = [
        reference.attention(q, k, v, r, s.block, s.scale, s.causal)
        for q, k, v, r in zip(s.parts["q"], keys, s.parts["v"], rows)
    ]
    got = output("out", out)
    _close("out", got, s.tokens([w[0] for w in wide], got), s.tolerance)
    d_outs = reference.split(fw.double(d_out), s.cu["q"])
    wanted = {"q": [], "k": [], "v": [], "conv_weight": []}
    for i, (q, v) in enumerate(s("q", "v")):
        out, lse = wide[i]
        dq, dk, dv = reference.attention_gradients(
            q, keys[i], v, out, d_outs[i], lse, rows[i], s.block, s.scale, s.causal
        )
        if weight is not None:
            dk, dw = reference.convolution_gradients(s.parts["k"][i], fw.double(weight), dk)
            wanted["conv_weight"].append(dw)
        wanted["q"].append(dq), wanted["k"].append(dk), wanted["v"].append(dv)
    for name, gradient in gradients.items():
        got = fw.double(gradient)
        want = sum(wanted[name]) if name == "conv_weight" else s.tokens(wanted[name], got)
        _close("gradient of " + name, got, want, 8 * s.tolerance)


def _selection_of(fw, arguments):
    """What moba_attention routes to."""
    q, k = (
        fw.array(fw.double(arguments[name]), str(arguments["q"].dtype).replace("torch.", "")) for name in ("q", "k")
    )
    sequences = {n: arguments[n] for n in ("cu_seqlens_q", "cu_seqlens_k") if n in arguments}
    if arguments.get("conv_weight") is not None:
        only_k = {n: c for n, c in sequences.items() if n.endswith("k")}
        k = mk.key_conv_forward(k, arguments["conv_weight"].detach().resolve_neg().contiguous(), **only_k)
    return mk.route(
        q,
        k,
        arguments["block_size"],
        arguments["topk"],
        **sequences,
        fp32_centroids=arguments.get("fp32_centroids", False),
        centred_centroids=arguments.get("centred_centroids", False),
        scorer=arguments.get("scorer", "mean"),
        scorer_seed=arguments.get("scorer_seed", 0),
        keep_first=arguments.get("keep_first", False),
        causal=arguments.get("causal", True),
    )


_VERIFY = {
    "compute_centroids": _verify_centroids,
    "route": _verify_route,
    "attention_forward": _verify_forward,
    "moba_forward": _verify_forward,
    "attention_backward": _verify_backward,
    "key_conv_forward": _verify_conv,
    "key_conv_centroids": _verify_conv_centroids,
    "key_conv_backward": _verify_conv_backward,
    "moba_attention": _verify_attention,
}


def run(fw, function, arguments):
    """The call, and for moba_attention also its gradients by a fixed d_out."""
    if function != "moba_attention":
        return getattr(mk, function)(**arguments)
    import torch

    out = mk.moba_attention(**arguments)
    leaves = {
        name: arguments[name]
        for name in ARRAYS[function]
        if isinstance(arguments.get(name), torch.Tensor) and arguments[name].requires_grad
    }
    d_out = fw.array(
        np.random.default_rng(SEED + 1).standard_normal(tuple(out.shape)), str(out.dtype).replace("torch.", "")
    )
    gradients = torch.autograd.grad(out, list(leaves.values()), d_out) if leaves else ()
    return out, d_out, dict(zip(leaves, gradients))
