"""The functions of decode.h on arrays: steps of a few queries over keys and values that stand in a cache."""

import ctypes

from . import _arguments, _library
from ._arguments import flag, given, integer
from ._call import Call, untraced
from ._errors import invalid_type


class _Call(Call):
    """One over a cache."""

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
        super().__init__(function, block_size, topk, scorer, scorer_seed, keep_first, scale, threads)
        table = f"{function}, paged" if block_table is not None else function
        known = given(seqlen_k=None if keys is None else integer("keys", keys))
        a = self.arrays = _arguments.Arrays(table, {**arrays, **given(block_table=block_table)}, {}, known)
        a.adapter.refuse_gradients(function, arrays)
        a.check_dense("lengths")
        if block_table is not None:
            a.check_dense("block_table")
            a.extents["seqlen_k"] = a.extents["columns"] * a.extents["page_size"]
        self.make_problem(self._kept_as(flag("centred", centred)) if "centroids" in arrays else 0)
        p, extents = self.problem, a.extents
        p.batch, p.seqlen_k, p.seqlen_q = extents["batch"], extents["seqlen_k"], extents.get("seqlen_q", 0)
        self.check_the_rest(p.batch * -(-p.seqlen_k // self.block_size))
        self._fill_cache(block_table is not None)

    def _kept_as(self, centred):
        """MobalabCentroids: the dtype says whether they are fp32."""
        wide = self.arrays.views["centroids"].dtype == "float32"
        if not centred:
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

    def run(self, *arguments):
        """A batch of nothing is done."""
        if self.problem.batch > 0:
            super().run(ctypes.byref(self.cache), *arguments)


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
    return call.run_routing(return_scores, call.pointer("centroids"))


@untraced
def decode_attention(
    q, k, v, selection, lengths, block_size, topk, *, block_table=None, scale=None, threads=0
):
    """Attention of the last queries of each sequence over their own and selected blocks of a cache.

    q, selection: as in decode_route(); k, v, lengths, block_table: as in append_centroids(), v like k but for its
    head_dim, which is free; scale: as in attention_forward(). Returns (out like q in the width of v, lse float32
    [heads_q, batch * seqlen_q]).
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
    return call.run_attention()


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
    return call.run_moba(_appended(appended), call.pointer("centroids"))
