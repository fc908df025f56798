"""Keys and values of sequences that grow, what a scorer keeps of them, and steps over both."""

import torch

from . import _arguments, _decode, _library, _operators, _torch_arrays
from ._errors import invalid, invalid_type


class MobaCache:
    """The keys and values of a batch of sequences that grow, with the summaries that routing looks at: a decoding step
    reads the summaries and the blocks it attends to, and pools no key twice.

        cache = MobaCache.empty(batch, 65536, heads_k, head_dim, block_size=64, topk=16, dtype=..., device=...)
        cache.append(k, v)        # [batch, tokens, heads_k, head_dim]: the prompt, then every token's
        out = cache.attend(q)     # [batch, rows, heads_q, head_dim]: of the last rows of each sequence
        out = cache.step(q, k, v) # both at once

    k, v: tensors of [batch, seqlen_k, heads_k, head_dim], or with block_table (int32 [batch, columns]) of [pages,
    page_size, heads_k, head_dim], which stay the caller's (v may have another head_dim, which is the output's): the cache
    writes new tokens where they say, into pages that the block table has to name by then. lengths: int32 [batch] on
    their device, how many keys of each sequence are there already (None: none of any); the tensor itself is kept and
    raised. block_size, topk, fp32_centroids and what else moba_decode takes (centred_centroids, scorer, scorer_seed,
    keep_first, scale, threads) are those of every step.

    Attributes: k, v, block_table, lengths, centroids, selection (of the last step). Whoever writes keys, values and
    lengths elsewhere calls update(). Everything stands at fixed addresses and a step waits for nothing, so it can be
    captured in a CUDA graph and replayed while the lengths grow (a replay beyond what a sequence may hold is a
    device-side assertion of torch's); torch.compile takes attend(). Inference alone: tensors that require grad are
    refused while autograd records. Raises what moba_decode raises.
    """

    def __init__(self, k, v, block_size, topk, *, block_table=None, lengths=None, fp32_centroids=False, **options):
        known = ("centred_centroids", "scorer", "scorer_seed", "keep_first", "scale", "threads")
        unknown = [name for name in options if name not in known]
        if unknown:
            raise invalid_type(unknown[0], "is no argument of MobaCache", f"one of {', '.join(known)}", known[0])
        _check_tensors(k, v, block_table, lengths)
        self.k, self.v, self.block_table = k, v, block_table
        batch = k.shape[0] if block_table is None else block_table.shape[0]
        self._most = k.shape[1] if block_table is None else block_table.shape[1] * k.shape[1]
        self.lengths = torch.zeros(batch, dtype=torch.int32, device=k.device) if lengths is None else lengths
        self._longest = 0 if lengths is None or batch == 0 else int(lengths.max())  # None: changed elsewhere
        if not 0 <= self._longest <= self._most:
            raise invalid("lengths", f"= {self.lengths.tolist()}", f"in [0, {self._most}]", self._most)
        self.selection = None
        self._options = {"block_size": block_size, "topk": topk, **_checked(options, k.shape[3])}
        centred = self._options["centred_centroids"]
        kept_as = _arguments.kept_as(fp32_centroids=fp32_centroids, centred_centroids=centred)
        _arguments.integer("topk", topk)
        scorer = self._options["scorer"]
        shape = _decode.centroids_shape(batch, self._most, *k.shape[2:], block_size, scorer)
        kept_dtype = torch.float32 if kept_as == _library.CENTROIDS_FP32 else k.dtype
        self.centroids = torch.zeros(shape, dtype=kept_dtype, device=k.device)
        self._summarise(self._longest)

    @classmethod
    def empty(
        cls,
        batch,
        max_tokens,
        heads_k,
        head_dim,
        block_size,
        topk,
        *,
        head_dim_v=None,
        dtype=torch.bfloat16,
        device=None,
        **options,
    ):
        """One without pages, of new tensors: each sequence may grow to max_tokens. head_dim_v: of values, None for
        head_dim."""
        extents = {"batch": batch, "max_tokens": max_tokens, "heads_k": heads_k, "head_dim": head_dim}
        shape = [_arguments.positive(name, value) for name, value in extents.items()]
        width = shape[-1] if head_dim_v is None else _arguments.positive("head_dim_v", head_dim_v)
        k, v = (torch.empty((*shape[:-1], d), dtype=dtype, device=device) for d in (shape[-1], width))
        return cls(k, v, block_size, topk, **options)

    def append(self, k, v):
        """Puts keys and values behind those of each sequence, [batch, tokens, heads_k, head_dim] each, raises the lengths and
        brings the summaries up to date."""
        self._use_new(self._put(k, v), self._summarise)

    def update(self, appended):
        """Brings the summaries up to date where the last `appended` keys of each sequence (or fewer) are new: after keys,
        values and lengths were written elsewhere."""
        self._longest = None
        self._summarise(appended)

    def _summarise(self, appended):
        options = self._options
        _decode.append_centroids(
            self.centroids,
            self.k,
            self.lengths,
            options["block_size"],
            appended,
            block_table=self.block_table,
            centred=options["centred_centroids"],
            scorer=options["scorer"],
            threads=options["threads"],
        )

    def attend(self, q):
        """Attention of the last q.shape[1] rows of each sequence, like q."""
        return self._decode(q, 0)

    def step(self, q, k, v):
        """append(k, v) and attend(q), in fewer launches."""
        _torch_arrays.refuse_gradients("MobaCache", {"q": q})
        return self._use_new(self._put(k, v), lambda tokens: self._decode(q, tokens))

    def reset(self):
        """Empties every sequence."""
        self.lengths.zero_()
        self._longest = 0

    def _use_new(self, tokens, use):
        """use(tokens); where that is refused, no sequence has grown."""
        try:
            return use(tokens)
        except Exception:
            self.lengths -= tokens
            self._count_back(tokens)
            raise

    def _put(self, k, v):
        tokens = k.shape[1] if k.dim() == 4 else "tokens"
        for name, tensor, kept in (("k", k, self.k), ("v", v, self.v)):
            wanted = (self.lengths.shape[0], tokens, *kept.shape[2:])
            if tuple(tensor.shape) != wanted:
                raise invalid(name, f"has shape {tuple(tensor.shape)}", "[batch, tokens, heads_k, head_dim]", wanted)
            if tensor.dtype != self.k.dtype:
                raise invalid_type(name, f"has dtype {tensor.dtype}", f"{self.k.dtype}, as the cache", "a cast")
        _torch_arrays.refuse_gradients("MobaCache", {"k": k, "v": v})
        self._count(tokens)
        places = self.lengths.long()[:, None] + torch.arange(tokens, device=self.k.device)
        entries = torch.arange(places.shape[0], device=self.k.device)[:, None].expand_as(places)
        if self.block_table is not None:
            entries = self._pages(places // self.k.shape[1], tokens)
            places = places % self.k.shape[1]
        self.k.index_put_((entries, places), k)
        self.v.index_put_((entries, places), v)
        self.lengths += tokens
        return tokens

    def _pages(self, columns, tokens):
        """Of the block table. index_put_ would take a negative number for a page counted from the end: on a GPU, where
        nobody looks at the table, it becomes one far past the end, which is an assertion of torch's there."""
        pages, last = self.block_table.gather(1, columns).long(), self.k.shape[0] - 1
        if pages.is_cuda:
            return pages & 0xFFFFFFFF
        wrong = ((pages < 0) | (pages > last)).nonzero()
        if wrong.shape[0] > 0:
            self._count_back(tokens)
            b, i = wrong[0].tolist()
            page = int(pages[b, i])
            name, nearest = f"block_table[{b}][{int(columns[b, i])}]", max(0, min(page, last))
            raise invalid(name, f"= {page}", f"in [0, {last}]", nearest)
        return pages

    def _count_back(self, tokens):
        if self._longest is not None:
            self._longest -= tokens

    def _count(self, tokens):
        """Refuses more than a sequence may hold. A step that is captured is replayed uncounted."""
        if self.k.is_cuda and torch.cuda.is_current_stream_capturing():
            self._longest = None
            return
        if self._longest is None:
            self._longest = int(self.lengths.max()) if self.lengths.numel() > 0 else 0
        left = self._most - self._longest
        if tokens > left:
            rule = f"at most {left}, as the longest sequence has {self._longest} of {self._most} keys"
            raise invalid("tokens", f"= {tokens}", rule, left)
        self._longest += tokens

    def _decode(self, q, appended):
        _torch_arrays.refuse_gradients("MobaCache", {"q": q})
        out, _, self.selection = _operators.moba_decode(
            q, self.k, self.v, self.centroids, self.lengths, self.block_table, appended=appended, **self._options
        )
        return out


def _checked(options, head_dim):
    """What every step is given."""
    scale = _arguments.softmax_scale("scale", options.get("scale"), head_dim)
    scorer = options.get("scorer", "mean")
    _arguments.scorer("scorer", scorer)
    return {
        "centred_centroids": _arguments.flag("centred_centroids", options.get("centred_centroids", False)),
        "scorer": scorer,
        # A seed is unsigned, integers of torch's operators are not.
        "scorer_seed": _signed(_arguments.integer("scorer_seed", options.get("scorer_seed", 0))),
        "keep_first": _arguments.flag("keep_first", options.get("keep_first", False)),
        "scale": scale or None,
        "threads": _arguments.integer("threads", options.get("threads", 0)),
    }


def _signed(seed):
    return seed - (_arguments.UINT64_MAX + 1) if seed > _arguments.INT64_MAX else seed


def _check_tensors(k, v, block_table, lengths):
    """Kinds and shapes that this file looks at; the rest is checked where it is used."""
    tensors = {"k": k, "v": v, **_arguments.given(block_table=block_table, lengths=lengths)}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise invalid_type(name, f"is a {type(tensor).__name__}", "a torch tensor", f"torch.as_tensor({name})")
    _torch_arrays.refuse_gradients("MobaCache", {"k": k, "v": v})
    ranks = {"k": 4, "v": 4, "block_table": 2, "lengths": 1}
    for name, tensor in tensors.items():
        if tensor.dim() != ranks[name]:
            raise invalid(name, f"has shape {tuple(tensor.shape)}", f"of {ranks[name]} extents", ranks[name])
    if k.shape[:-1] != v.shape[:-1]:
        wanted = (*k.shape[:-1], v.shape[-1])
        raise invalid("v", f"has shape {tuple(v.shape)}", f"like k, {tuple(k.shape)}, but for its head_dim", wanted)
    for name in ("block_table", "lengths"):
        if name in tensors and tensors[name].dtype != torch.int32:
            raise invalid_type(name, f"has dtype {tensors[name].dtype}", "int32", f"{name}.int()")
    batch = k.shape[0] if block_table is None else block_table.shape[0]
    if lengths is not None and lengths.shape[0] != batch:
        raise invalid("lengths", f"has shape {tuple(lengths.shape)}", "[batch]", (batch,))
