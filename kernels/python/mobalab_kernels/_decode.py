"""The functions of decode.h on arrays: steps of a few queries over keys and values that stand in a cache."""

import ctypes

from . import _arguments, _library
from ._arguments import flag, given, integer
from ._errors import invalid_type
from ._functions import untraced


class _Call:
    """One call: its arguments checked, the C structs made of them, its outputs and workspace allocated."""

    def __init__(
        self,
        function,
        arrays,
        *,
        block_table=None,
        block_size=1,
        topk=1,
        centred=False,
        scorer="mean",
        scorer_seed=0,
        keep_first=False,
        scale=None,
        keys=None,
        threads=0,
    ):
        """arrays: as FUNCTIONS orders them, with lengths. keys: what a sequence may grow to, where no array says it."""
        self.name = function
        self.scorer, self.sub_blocks = _arguments.scorer("scorer", scorer)
        self.block_size, self.topk = integer("block_size", block_size), integer("topk", topk)
        self.threads = integer("threads", threads)
        table = f"{function}, paged" if block_table is not None else function
        known = given(seqlen_k=None if keys is None else integer("keys", keys))
        a = self.arrays = _arguments.Arrays(table, {**arrays, **given(block_table=block_table)}, {}, known)
        a.adapter.refuse_gradients(function, arrays)
        a.check_dense("lengths")
        if block_table is not None:
            a.check_dense("block_table")
            a.extents["seqlen_k"] = a.extents["columns"] * a.extents["page_size"]
        self._fill_problem(scorer_seed, flag("keep_first", keep_first), scale)
        if "centroids" in arrays:
            a.check_centroids(self.scorer, self._blocks(), self.sub_blocks)
            self.problem.heads_k = a.extents["heads_k"]
            self.problem.centroids = self._kept_as(centred)
        a.check_the_rest(self.problem.seqlen_k, self.topk, self.block_size, causal=True)
        self._fill_cache(block_table is not None)

    def _fill_problem(self, scorer_seed, keep_first, scale):
        p, extents = _library.Problem(), self.arrays.extents
        self.problem = p
        p.batch, p.seqlen_k = extents["batch"], extents["seqlen_k"]
        p.seqlen_q = extents.get("seqlen_q", 0)
        p.heads_k = extents.get("heads_k", 1)  # centroids, where no keys are given, say it later
        p.heads_q, p.head_dim = extents.get("heads_q", p.heads_k), extents["head_dim"]
        p.block_size, p.topk = self.block_size, self.topk
        p.dtype = _arguments.DTYPES[self.arrays.dtype]
        p.scorer, p.sub_blocks = self.scorer.number, self.sub_blocks
        p.scorer_seed, p.keep_first = integer("scorer_seed", scorer_seed), int(keep_first)
        p.scale = _arguments.softmax_scale("scale", scale, p.head_dim)

    def _kept_as(self, centred):
        """MobalabCentroids: the dtype says whether they are fp32."""
        wide = self.arrays.views["centroids"].dtype == "float32"
        if not flag("centred", centred):
            return _library.CENTROIDS_FP32 if wide else 0
        if wide and self.arrays.dtype != "float32":
            rule = f"{self.arrays.dtype}, the dtype of the keys, where they are centred"
            raise invalid_type("centroids", "has dtype float32", rule, "centred=False")
        return _library.CENTROIDS_CENTRED

    def _fill_cache(self, paged):
        self.cache = _library.Cache()
        self.cache.lengths = self.arrays.views["lengths"].pointer
        if paged:
            self.cache.block_table = self.arrays.views["block_table"].pointer
            self.cache.pages, self.cache.page_size = self.arrays.extents["pages"], self.arrays.extents["page_size"]

    def _blocks(self):
        return self.arrays.extents["batch"] * -(-self.problem.seqlen_k // self.block_size)

    def empty(self, extents, dtype):
        """An output whose extents are named as in the table."""
        shape = tuple(self.arrays.extents[e] for e in extents.split())
        return self.arrays.adapter.empty(self.arrays.like, shape, dtype)

    def empty_like(self, name):
        array = self.arrays.arrays[name]
        return self.arrays.adapter.empty(array, tuple(array.shape))

    def tensor(self, name):
        view = self.arrays.views[name]
        return _library.Tensor(view.pointer, *view.steps[:3])

    def output(self, array):
        return _library.Tensor(self.arrays.adapter.pointer(array), *[_library.CONTIGUOUS] * 3)

    def pointer(self, name):
        return ctypes.c_void_p(self.arrays.views[name].pointer)

    def output_pointer(self, array):
        return ctypes.c_void_p(None if array is None else self.arrays.adapter.pointer(array))

    def run(self, *arguments):
        """The C function of the same name; a batch of nothing is done."""
        if self.problem.batch > 0:
            execution = (self.name, self.problem, self.threads)
            beside = (ctypes.byref(self.cache), *arguments)
            self.arrays.adapter.call_on_device(
                self.arrays.like, lambda: _library.execute(*execution, self.arrays.adapter, self.arrays.like, beside)
            )


def _check_written(call, name):
    """Raises for an array that may not be written in place."""
    array = call.arrays.arrays[name]
    if not call.arrays.adapter.is_writeable(array):
        raise invalid_type(name, "is read-only", "writeable, as it is updated in place", f"{name}.copy()")


def centroids_shape(batch, keys, heads_k, head_dim, block_size, scorer):
    """Of the summaries of so many sequences that may grow to so many keys."""
    found, per_block = _arguments.scorer("scorer", scorer)
    blocks = batch * -(-keys // integer("block_size", block_size))
    extents = {"parts": found.parts, "blocks": blocks, "sub_blocks": blocks * per_block}
    extents.update(heads_k=heads_k, head_dim=head_dim)
    return tuple(extents[name] for name in _arguments.centroids_of(found).extents)


def _appended(value):
    return ctypes.c_int64(integer("appended", value))


@untraced
def append_centroids(
    centroids, k, lengths, block_size, appended=1, *, block_table=None, centred=False, scorer="mean", threads=0
):
    """Brings what a scorer keeps of the keys of a cache up to its lengths, in place.

    k: [batch, seqlen_k, heads_k, head_dim], where the first lengths[b] keys of sequence b are there and the others may
    hold anything; with block_table [pages, page_size, heads_k, head_dim]. lengths: int32 [batch], each at most seqlen_k.
    block_table: int32 [batch, columns], the page of each page_size keys of a sequence; seqlen_k is then columns *
    page_size. All of them contiguous but k, and on k's device. centroids: as compute_centroids() returns them for the
    whole of k (of batch sequences of seqlen_k keys), in k's dtype or float32; contiguous. appended: how many of the
    last keys of each sequence are new; too large a number costs time and changes nothing.

    Only the blocks that hold new keys are summarised again, from at most block_size - 1 + appended keys of each sequence
    (centred: block_size more): the bits that compute_centroids() gives for sequences of these lengths. Returns
    centroids.
    """
    call = _Call(
        "append_centroids",
        {"k": k, "centroids": centroids, "lengths": lengths},
        block_table=block_table,
        block_size=block_size,
        centred=centred,
        scorer=scorer,
        threads=threads,
    )
    _check_written(call, "centroids")
    call.run(call.tensor("k"), _appended(appended), call.pointer("centroids"))
    return centroids


@untraced
def decode_route(
    q,
    centroids,
    lengths,
    keys,
    block_size,
    topk,
    *,
    return_scores=False,
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    threads=0,
):
    """The blocks of the last queries of each sequence, from summaries that append_centroids() keeps.

    q: [batch, seqlen_q, heads_q, head_dim]: row r of sequence b stands at position lengths[b] - seqlen_q + r, before
    every key where that is negative. keys: what a sequence may grow to, seqlen_k of the cache. Returns what
    route_with_centroids() returns: the selection, int32 [heads_q, batch * seqlen_q, routed], with return_scores=True
    also its scores.
    """
    return_scores = flag("return_scores", return_scores)
    call = _Call(
        "decode_route",
        {"q": q, "centroids": centroids, "lengths": lengths},
        block_size=block_size,
        topk=topk,
        scorer=scorer,
        scorer_seed=scorer_seed,
        keep_first=keep_first,
        keys=keys,
        threads=threads,
    )
    selection = call.empty("heads_q tokens_q routed", "int32")
    scores = call.empty("heads_q tokens_q routed", "float32") if return_scores else None
    call.run(call.tensor("q"), call.pointer("centroids"), call.output_pointer(selection), call.output_pointer(scores))
    return (selection, scores) if return_scores else selection


@untraced
def decode_attention(
    q, k, v, selection, lengths, block_size, topk, *, block_table=None, scale=None, threads=0
):
    """Attention of the last queries of each sequence over their own and selected blocks of a cache.

    q, selection: as in decode_route(); k, v, lengths, block_table: as in append_centroids(), v like k; scale: as in
    attention_forward(). Returns (out like q, lse float32 [heads_q, batch * seqlen_q]).
    """
    call = _Call(
        "decode_attention",
        {"q": q, "k": k, "v": v, "selection": selection, "lengths": lengths},
        block_table=block_table,
        block_size=block_size,
        topk=topk,
        scale=scale,
        threads=threads,
    )
    out, lse = call.empty_like("q"), call.empty("heads_q tokens_q", "float32")
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
def moba_decode(
    q,
    k,
    v,
    centroids,
    lengths,
    block_size,
    topk,
    *,
    appended=1,
    block_table=None,
    centred_centroids=False,
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    scale=None,
    threads=0,
):
    """A step: append_centroids(), decode_route() and decode_attention() in one call, after new keys and values were put
    into the cache and lengths were raised.

    Arguments as there; centroids are updated in place. Returns (out, lse, selection). The last rows of moba_forward()
    over the whole sequences, and no key is read but those of the blocks that a query attends to or that hold new keys.
    Not differentiable. See MobaCache, which keeps all of it.
    """
    call = _Call(
        "moba_decode",
        {"q": q, "k": k, "v": v, "centroids": centroids, "lengths": lengths},
        block_table=block_table,
        block_size=block_size,
        topk=topk,
        centred=centred_centroids,
        scorer=scorer,
        scorer_seed=scorer_seed,
        keep_first=keep_first,
        scale=scale,
        threads=threads,
    )
    _check_written(call, "centroids")
    out, lse = call.empty_like("q"), call.empty("heads_q tokens_q", "float32")
    selection = call.empty("heads_q tokens_q routed", "int32")
    call.run(
        call.tensor("q"),
        call.tensor("k"),
        call.tensor("v"),
        _appended(appended),
        call.pointer("centroids"),
        call.output(out),
        call.output_pointer(lse),
        call.output_pointer(selection),
    )
    return out, lse, selection
