"""The functions of kernels.h on arrays."""

import ctypes

from . import _arguments, _library
from ._arguments import check_all_or_none, check_boundaries, flag, given, integer
from ._call import Call, untraced
from ._errors import INVALID_ARGUMENT, InvalidType


class _Call(Call):
    """One over whole sequences, packed or not."""

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
        super().__init__(function, block_size, topk, scorer, scorer_seed, keep_first, scale, threads)
        causal = flag("causal", causal)
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
        self.make_problem(kept_as, causal)
        self._fill_lengths(lengths)
        self.check_the_rest(self._count_blocks(), causal)
        if self.sub_blocks > 1:  # before outputs are made of it
            _library.workspace_size(function, self.problem, self._backend())

    def _fill_lengths(self, lengths):
        p, extents = self.problem, self.arrays.extents
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

    def _count_blocks(self):
        p = self.problem
        if self.arrays.boundaries:
            return p.total_blocks
        return self.arrays.extents["batch"] * -(-p.seqlen_k // p.block_size)

    def _backend(self):
        return _library.CUDA if self.arrays.adapter.is_cuda(self.arrays.like) else _library.CPU

    def empty_centroids(self):
        p = self.problem
        extents = {"parts": self.scorer.parts, "blocks": self.blocks, "sub_blocks": self.blocks * self.sub_blocks}
        extents.update(heads_k=p.heads_k, head_dim=p.head_dim)
        shape = tuple(extents[e] for e in _arguments.centroids_of(self.scorer).extents)
        dtype = "float32" if p.centroids == _library.CENTROIDS_FP32 else None
        return self.arrays.adapter.empty(self.arrays.like, shape, dtype)


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
    return call.run_routing(return_scores, call.tensor("k"))


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
    return call.run_routing(return_scores, call.pointer("centroids"))


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
    return call.run_attention()


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
    return call.run_moba()


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
        *call.tensors("q k v out d_out"),
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
