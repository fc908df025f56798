"""The functions of kernels.h on arrays."""

import ctypes
import functools
import sys

from . import _arguments, _library
from ._arguments import check_all_or_none, check_boundaries, flag, given, integer
from ._errors import INVALID_ARGUMENT, InvalidType


def untraced(function):
    """The function, which torch.compile leaves out of its graphs: it would trace ctypes, and wrongly."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        torch = sys.modules.get("torch")  # who compiles has imported it
        if torch is not None and torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)
        return function(*args, **kwargs)

    return call


class _Call:
    """One call: its arguments checked, the C structs made of them, its outputs and workspace allocated."""

    def __init__(
        self,
        function,
        arrays,
        *,
        block_size=1,
        topk=1,
        kept_as=0,
        scorer="mean",
        scorer_seed=0,
        keep_first=False,
        causal=True,
        scale=None,
        keys=None,
        cu_seqlens=None,
        lengths=None,
        threads=0,
        integers_out=False,
    ):
        """arrays: as FUNCTIONS orders them. cu_seqlens, lengths: {name: value or None}, all that the function has.
        kept_as: MobalabCentroids. keys: the extent of the keys, where no array of them is given. integers_out: whether
        all outputs are integers, which autograd would not follow anyway."""
        self.name = function
        self.scorer, self.sub_blocks = _arguments.scorer("scorer", scorer)
        self.scorer_seed = integer("scorer_seed", scorer_seed)
        self.keep_first = flag("keep_first", keep_first)
        self.causal = flag("causal", causal)
        self.block_size, self.topk = integer("block_size", block_size), integer("topk", topk)
        self.threads = integer("threads", threads)
        self.scale = scale
        check_all_or_none(cu_seqlens, "packed sequences need both")
        check_all_or_none(lengths, "the caller gives all of the lengths or none")
        lengths = {name: integer(name, value) for name, value in given(**lengths).items()}
        packed = given(**cu_seqlens)
        known = None if keys is None else {"total_k" if packed else "seqlen_k": integer("keys", keys)}
        self.arrays = _arguments.Arrays(function, arrays, packed, known)
        if lengths and not self.arrays.boundaries:
            raise InvalidType(
                INVALID_ARGUMENT,
                f"{', '.join(lengths)} given without {', '.join(cu_seqlens)}: lengths are those "
                "of packed sequences; nearest valid choice: leave them out",
            )
        if not integers_out:
            self.arrays.adapter.refuse_gradients(function, arrays)
        self._fill_problem(kept_as, lengths)
        if "centroids" in arrays:
            self.arrays.check_centroids(self.scorer, self._blocks(), self.sub_blocks)
            self.problem.heads_k = self.arrays.extents["heads_k"]
        self.arrays.check_the_rest(self.problem.seqlen_k, self.topk, self.block_size, self.causal)
        if self.sub_blocks > 1:  # before outputs are made of it
            _library.workspace_size(function, self.problem, self._backend())

    def _fill_problem(self, kept_as, lengths):
        p = self.problem = _library.Problem()
        extents = self.arrays.extents
        p.heads_k = extents.get("heads_k", 1)  # centroids, where they are given, say it later
        p.heads_q, p.head_dim = extents.get("heads_q", p.heads_k), extents["head_dim"]
        if "head_dim_v" in extents:  # 0 would mean head_dim to the library
            p.head_dim_v = _arguments.check_range("head_dim of v", extents["head_dim_v"], 1, _arguments.MAX_EXTENT)
        p.block_size, p.topk = self.block_size, self.topk
        p.dtype, p.centroids = _arguments.DTYPES[self.arrays.dtype], kept_as
        p.scorer, p.sub_blocks, p.scorer_seed = self.scorer.number, self.sub_blocks, self.scorer_seed
        p.keep_first = int(self.keep_first)
        p.non_causal = int(not self.causal)
        p.scale = _arguments.softmax_scale("scale", self.scale, p.head_dim)
        if self.arrays.boundaries:
            self._fill_packed(p, lengths)
        elif extents["batch"] == 0:  # to the library one batch of nothing
            p.batch, p.seqlen_q, p.seqlen_k = 1, 0, 0
        else:
            p.batch, p.seqlen_k = extents["batch"], extents["seqlen_k"]
            p.seqlen_q = extents.get("seqlen_q", p.seqlen_k)

    def _fill_packed(self, p, lengths):
        extents = self.arrays.extents
        self.lengths = lengths or self._read_lengths()
        views = self.arrays.views
        p.cu_seqlens_k = views["cu_seqlens_k"].pointer
        p.cu_seqlens_q = views["cu_seqlens_q"].pointer if "cu_seqlens_q" in views else p.cu_seqlens_k
        p.batch = views["cu_seqlens_k"].shape[0] - 1
        p.total_k = extents["total_k"]
        p.total_q = extents.get("total_q", p.total_k)
        p.seqlen_k = self.lengths["max_seqlen_k"]
        p.seqlen_q = self.lengths.get("max_seqlen_q", p.seqlen_k)
        p.total_blocks = self.lengths.get("total_blocks", 0)
        if "total_blocks" in self.lengths:  # before it becomes memory; its exact value hangs on the contents
            least = -(-p.total_k // self.block_size)
            _arguments.check_range("total_blocks", p.total_blocks, least, min(p.total_k, least + p.batch))

    def _read_lengths(self):
        """The lengths from the contents of cu_seqlens, which are checked: on CUDA devices the host waits for them."""
        names = list(self.arrays.boundaries)
        on_host = self.arrays.adapter.to_host(*self.arrays.boundaries.values())
        sequences = {}
        for name, boundaries in zip(names, on_host):
            side = name[-1]
            check_boundaries(name, boundaries, self.arrays.extents["total_" + side])
            sequences[side] = boundaries[1:] - boundaries[:-1]
        lengths = {f"max_seqlen_{side}": int(s.max()) for side, s in sequences.items()}
        lengths["total_blocks"] = int((-(-sequences["k"] // self.block_size)).sum())
        return lengths

    def empty(self, extents, dtype=None):
        """An output whose extents are named as in the table."""
        return self.arrays.adapter.empty(
            self.arrays.like, tuple(self.arrays.extents[e] for e in extents.split()), dtype
        )

    def empty_like(self, name):
        array = self.arrays.arrays[name]
        return self.arrays.adapter.empty(array, tuple(array.shape))

    def empty_out(self):
        """Like q, in the width of v."""
        shape = (*self.arrays.arrays["q"].shape[:-1], self.arrays.extents["head_dim_v"])
        return self.arrays.adapter.empty(self.arrays.like, tuple(shape))

    def _blocks(self):
        p = self.problem
        if self.arrays.boundaries:
            return p.total_blocks
        return self.arrays.extents["batch"] * -(-p.seqlen_k // p.block_size)

    def empty_centroids(self):
        p, blocks = self.problem, self._blocks()
        extents = {"parts": self.scorer.parts, "blocks": blocks, "sub_blocks": blocks * self.sub_blocks}
        extents.update(heads_k=p.heads_k, head_dim=p.head_dim)
        shape = tuple(extents[e] for e in _arguments.centroids_of(self.scorer).extents)
        dtype = "float32" if p.centroids == _library.CENTROIDS_FP32 else None
        return self.arrays.adapter.empty(self.arrays.like, shape, dtype)

    def tensor(self, name):
        """The C struct of an argument of rows."""
        view = self.arrays.views[name]
        *batch, token, head, _ = view.steps
        return _library.Tensor(view.pointer, batch[0] if batch else _library.CONTIGUOUS, token, head)

    def output(self, array):
        """The C struct of an output."""
        return _library.Tensor(self.arrays.adapter.pointer(array), *[_library.CONTIGUOUS] * 3)

    def pointer(self, name):
        """An argument that is contiguous."""
        return ctypes.c_void_p(self.arrays.views[name].pointer)

    def output_pointer(self, array):
        return ctypes.c_void_p(None if array is None else self.arrays.adapter.pointer(array))

    def run(self, *arguments):
        """The C function of the same name."""
        self.arrays.adapter.call_on_device(self.arrays.like, lambda: self._run(arguments))

    def _backend(self):
        return _library.CUDA if self.arrays.adapter.is_cuda(self.arrays.like) else _library.CPU

    def _run(self, arguments):
        _library.execute(self.name, self.problem, self.threads, self.arrays.adapter, self.arrays.like, arguments)


def _both_sides(cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, total_blocks):
    """Keywords of _Call for functions of queries and keys."""
    return {
        "cu_seqlens": {"cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k},
        "lengths": {"max_seqlen_q": max_seqlen_q, "max_seqlen_k": max_seqlen_k, "total_blocks": total_blocks},
    }


@untraced
def compute_centroids(
    k,
    block_size,
    *,
    fp32=False,
    centred=False,
    scorer="mean",
    scorer_seed=0,
    cu_seqlens_k=None,
    max_seqlen_k=None,
    total_blocks=None,
    threads=0,
):
    """What a scorer keeps of the blocks of keys: their means, by default.

    k: [batch, seqlen_k, heads_k, head_dim] (or [total_k, heads_k, head_dim] with cu_seqlens_k).
    Returns [blocks, heads_k, head_dim], the blocks of one sequence behind those of the other, in k's dtype, or float32
    with fp32=True; a partial last block is averaged over its real length. Not differentiable. centred=True: each less
    that of block 0 of its sequence, see the module.
    Other scorers than "mean": [sub_blocks, parts, heads_k, head_dim]. "quest" has 2 parts (largest and smallest key of
    each channel), "max" and "submean-R" 1, "random" none; sub_blocks = blocks, for "submean-R" R times that. What lies
    behind the last key is zero.
    """
    call = _Call(
        "compute_centroids",
        {"k": k},
        block_size=block_size,
        kept_as=_arguments.kept_as(fp32=fp32, centred=centred),
        scorer=scorer,
        scorer_seed=scorer_seed,
        cu_seqlens={"cu_seqlens_k": cu_seqlens_k},
        lengths={"max_seqlen_k": max_seqlen_k, "total_blocks": total_blocks},
        threads=threads,
    )
    out = call.empty_centroids()
    call.run(call.tensor("k"), call.output_pointer(out))
    return out


@untraced
def route(
    q,
    k,
    block_size,
    topk,
    *,
    return_scores=False,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    total_blocks=None,
    fp32_centroids=False,
    centred_centroids=False,
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    causal=True,
    threads=0,
):
    """The blocks that each query is routed to, beside its own.

    q: [batch, seqlen_q, heads_q, head_dim], k: [batch, seqlen_k, heads_k, head_dim] (or packed, see the module).
    Returns the selection: int32 [heads_q, tokens_q, routed], block numbers within the query's own sequence, best first,
    -1 where there are fewer candidates; tokens_q = batch * seqlen_q and routed = min(topk, blocks of the longest
    sequence) - 1 (not causal: without the - 1). With return_scores=True also their scores, float32 of that shape, -inf
    past the candidates. A score that is NaN ranks first. Integers have no gradient, so tensors that require grad are
    taken unless scores are asked for.
    scorer: how a query scores a block, keep_first: whether block 0 is always kept (then in slot 0, with score +inf),
    causal: whether blocks from the query's own on are no candidates, see the module.
    """
    return_scores = flag("return_scores", return_scores)
    call = _Call(
        "route",
        {"q": q, "k": k},
        block_size=block_size,
        topk=topk,
        kept_as=_arguments.kept_as(fp32_centroids=fp32_centroids, centred_centroids=centred_centroids),
        scorer=scorer,
        scorer_seed=scorer_seed,
        keep_first=keep_first,
        **_both_sides(cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, total_blocks),
        causal=causal,
        threads=threads,
        integers_out=not return_scores,
    )
    return _routed(call, return_scores, call.tensor("k"))


def _routed(call, return_scores, keys):
    """Runs a call that routes; keys: its argument beside q."""
    selection = call.empty("heads_q tokens_q routed", "int32")
    scores = call.empty("heads_q tokens_q routed", "float32") if return_scores else None
    call.run(call.tensor("q"), keys, call.output_pointer(selection), call.output_pointer(scores))
    return (selection, scores) if return_scores else selection


@untraced
def route_with_centroids(
    q,
    centroids,
    keys,
    block_size,
    topk,
    *,
    return_scores=False,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    total_blocks=None,
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    causal=True,
    threads=0,
):
    """route() with what compute_centroids() returned for the keys: one pooling serves many chunks of queries.

    q, and what is returned: as in route(), bit for bit with the same scorer, block_size and dtype of the centroids.
    centroids: contiguous, of q's dtype or float32. keys: how many keys they were made of, seqlen_k of
    [batch, ...] tensors or total_k of packed ones.
    """
    return_scores = flag("return_scores", return_scores)
    call = _Call(
        "route_with_centroids",
        {"q": q, "centroids": centroids},
        block_size=block_size,
        topk=topk,
        scorer=scorer,
        scorer_seed=scorer_seed,
        keep_first=keep_first,
        keys=keys,
        **_both_sides(cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, total_blocks),
        causal=causal,
        threads=threads,
        integers_out=not return_scores,
    )
    call.problem.centroids = int(call.arrays.views["centroids"].dtype == "float32")
    return _routed(call, return_scores, call.pointer("centroids"))


@untraced
def attention_forward(
    q,
    k,
    v,
    selection,
    block_size,
    topk,
    *,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    total_blocks=None,
    scale=None,
    causal=True,
    threads=0,
):
    """Attention over each query's own (if causal) and selected blocks.

    q, k, causal: as in route(); v: like k, but for its head_dim, which is free. selection: int32 [heads_q, tokens_q,
    routed], contiguous, each row a set: the order is free, a block named twice counts once, entries that are no
    candidates of their row are ignored.
    scale: of q . key in the softmax, a number in [1e-30, 1e30]; None: head_dim ** -0.5. CUDA devices take at most
    65,536, and give NaN where scaled scores reach 2^30.
    Returns (out like q in the width of v, lse float32 [heads_q, tokens_q]): lse is the natural logarithm of the sum of
    exponentials, +inf (and out 0) for a row that sees no key. Not differentiable: see attention_backward and
    moba_attention.
    """
    call = _Call(
        "attention_forward",
        {"q": q, "k": k, "v": v, "selection": selection},
        block_size=block_size,
        topk=topk,
        **_both_sides(cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, total_blocks),
        scale=scale,
        causal=causal,
        threads=threads,
    )
    out = call.empty_out()
    lse = call.empty("heads_q tokens_q", "float32")
    call.run(
        call.tensor("q"),
        call.tensor("k"),
        call.tensor("v"),
        call.pointer("selection"),
        call.output(out),
        call.output_pointer(lse),
    )
    return out, lse


@untraced
def moba_forward(
    q,
    k,
    v,
    block_size,
    topk,
    *,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    total_blocks=None,
    fp32_centroids=False,
    centred_centroids=False,
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    scale=None,
    causal=True,
    threads=0,
):
    """route() and attention_forward() in one call.

    q, k, causal: as in route(); v, scale: as in attention_forward(). Returns (out, lse, selection) as they do. Not
    differentiable: tensors that require grad are refused while autograd records; moba_attention is differentiable.
    """
    call = _Call(
        "moba_forward",
        {"q": q, "k": k, "v": v},
        block_size=block_size,
        topk=topk,
        kept_as=_arguments.kept_as(fp32_centroids=fp32_centroids, centred_centroids=centred_centroids),
        scorer=scorer,
        scorer_seed=scorer_seed,
        keep_first=keep_first,
        **_both_sides(cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, total_blocks),
        scale=scale,
        causal=causal,
        threads=threads,
    )
    out = call.empty_out()
    lse = call.empty("heads_q tokens_q", "float32")
    selection = call.empty("heads_q tokens_q routed", "int32")
    call.run(
        call.tensor("q"),
        call.tensor("k"),
        call.tensor("v"),
        call.output(out),
        call.output_pointer(lse),
        call.output_pointer(selection),
    )
    return out, lse, selection


@untraced
def attention_backward(
    q,
    k,
    v,
    out,
    d_out,
    lse,
    selection,
    block_size,
    topk,
    *,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    total_blocks=None,
    scale=None,
    causal=True,
    threads=0,
):
    """Gradients of attention_forward, recomputed from lse.

    q, k, v, selection, scale, causal: what attention_forward was given; out, lse: what it returned; d_out: gradient of
    the loss by out, like it. Returns (dq, dk, dv) like q, k and v; no gradient flows through the selection. Not itself
    differentiable.
    """
    call = _Call(
        "attention_backward",
        {"q": q, "k": k, "v": v, "out": out, "d_out": d_out, "lse": lse, "selection": selection},
        block_size=block_size,
        topk=topk,
        **_both_sides(cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, total_blocks),
        scale=scale,
        causal=causal,
        threads=threads,
    )
    gradients = tuple(call.empty_like(name) for name in ("q", "k", "v"))
    call.run(
        *(call.tensor(name) for name in ("q", "k", "v", "out", "d_out")),
        call.pointer("lse"),
        call.pointer("selection"),
        *(call.output(gradient) for gradient in gradients),
    )
    return gradients


@untraced
def key_conv_forward(k, weight, *, cu_seqlens_k=None, max_seqlen_k=None, threads=0):
    """The key convolution k'_t = k_t + silu(sum_l weight[head, dim, l] k_{t-l}), zero before a sequence.

    k: [batch, seqlen_k, heads_k, head_dim] (or packed); weight: float32 [heads_k, head_dim, width], contiguous, lag 0
    first, width 1 to 8. Returns k' like k. Not differentiable: see key_conv_backward, and conv_weight of
    moba_attention.
    """
    call = _Call(
        "key_conv_forward",
        {"k": k, "weight": weight},
        cu_seqlens={"cu_seqlens_k": cu_seqlens_k},
        lengths={"max_seqlen_k": max_seqlen_k},
        threads=threads,
    )
    out = call.empty_like("k")
    call.run(call.tensor("k"), call.pointer("weight"), _width(weight), call.output(out))
    return out


@untraced
def key_conv_centroids(
    k,
    weight,
    block_size,
    *,
    fp32=False,
    centred=False,
    scorer="mean",
    scorer_seed=0,
    cu_seqlens_k=None,
    max_seqlen_k=None,
    total_blocks=None,
    threads=0,
):
    """(k', its block means): key_conv_forward and compute_centroids of its output in one pass; arguments as there."""
    call = _Call(
        "key_conv_centroids",
        {"k": k, "weight": weight},
        block_size=block_size,
        kept_as=_arguments.kept_as(fp32=fp32, centred=centred),
        scorer=scorer,
        scorer_seed=scorer_seed,
        cu_seqlens={"cu_seqlens_k": cu_seqlens_k},
        lengths={"max_seqlen_k": max_seqlen_k, "total_blocks": total_blocks},
        threads=threads,
    )
    out, centroids = call.empty_like("k"), call.empty_centroids()
    call.run(call.tensor("k"), call.pointer("weight"), _width(weight), call.output(out), call.output_pointer(centroids))
    return out, centroids


@untraced
def key_conv_backward(k, weight, d_out, *, cu_seqlens_k=None, max_seqlen_k=None, threads=0):
    """Gradients of key_conv_forward: (dk like k, d_weight float32 like weight); d_out: like k. Not differentiable."""
    call = _Call(
        "key_conv_backward",
        {"k": k, "weight": weight, "d_out": d_out},
        cu_seqlens={"cu_seqlens_k": cu_seqlens_k},
        lengths={"max_seqlen_k": max_seqlen_k},
        threads=threads,
    )
    dk, d_weight = call.empty_like("k"), call.empty_like("weight")
    call.run(
        call.tensor("k"),
        call.pointer("weight"),
        _width(weight),
        call.tensor("d_out"),
        call.output(dk),
        call.output_pointer(d_weight),
    )
    return dk, d_weight


def _width(weight):
    return ctypes.c_int32(weight.shape[-1])


@untraced
def sequence_lengths(q, k, block_size, cu_seqlens_q, cu_seqlens_k):
    """The lengths of packed sequences, {"max_seqlen_q", "max_seqlen_k", "total_blocks"}, from checked cu_seqlens.

    Given to other calls (**lengths) they save reading cu_seqlens back from the GPU again. On CUDA devices the contents
    of cu_seqlens are then the caller's word: wrong ones give unspecified results, though no access outside the tensors.
    """
    cu_seqlens = {"cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k}
    for name, array in cu_seqlens.items():
        _arguments.adapter(name, array)  # both must be there
    return _Call(
        "route",
        {"q": q, "k": k},
        block_size=block_size,
        cu_seqlens=cu_seqlens,
        lengths={"max_seqlen_q": None, "max_seqlen_k": None, "total_blocks": None},
        integers_out=True,
    ).lengths
