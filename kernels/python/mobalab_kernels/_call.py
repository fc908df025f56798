"""What all calls of C functions on arrays share: arguments checked, C structs made of them, outputs and workspace."""

import ctypes
import functools
import sys

from . import _arguments, _library
from ._arguments import flag, integer


def untraced(function):
    """The function, which torch.compile leaves out of its graphs: it would trace ctypes, and wrongly."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        torch = sys.modules.get("torch")  # who compiles has imported it
        if torch is not None and torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)
        return function(*args, **kwargs)

    return call


class Call:
    """One call: `problem`, and what is beside it. Subclasses know where sequences begin and end: they set `arrays` to the
    checked Arrays of the call, fill in the lengths of the problem, and say how many blocks there are."""

    def __init__(self, function, block_size, topk, scorer, scorer_seed, keep_first, scale, threads):
        self.name = function
        self.scorer, self.sub_blocks = _arguments.scorer("scorer", scorer)
        self.scorer_seed = integer("scorer_seed", scorer_seed)
        self.keep_first = flag("keep_first", keep_first)
        self.block_size, self.topk = integer("block_size", block_size), integer("topk", topk)
        self.scale = scale
        self.threads = integer("threads", threads)

    def make_problem(self, kept_as=0, causal=True):
        """All of the Problem but batch, lengths and boundaries."""
        p, extents = _library.Problem(), self.arrays.extents
        self.problem = p
        p.heads_k = extents.get("heads_k", 1)  # centroids, where they are given, say it later
        p.heads_q, p.head_dim = extents.get("heads_q", p.heads_k), extents["head_dim"]
        if "head_dim_v" in extents:  # 0 would mean head_dim to the library
            p.head_dim_v = _arguments.check_range("head_dim of v", extents["head_dim_v"], 1, _arguments.MAX_EXTENT)
        p.block_size, p.topk = self.block_size, self.topk
        p.dtype, p.centroids = _arguments.DTYPES[self.arrays.dtype], kept_as
        p.scorer, p.sub_blocks, p.scorer_seed = self.scorer.number, self.sub_blocks, self.scorer_seed
        p.keep_first = int(self.keep_first)
        p.non_causal = int(not causal)
        p.scale = _arguments.softmax_scale("scale", self.scale, p.head_dim)

    def check_the_rest(self, blocks, causal=True):
        """The arrays whose shapes follow from the problem; blocks: of all sequences."""
        self.blocks = blocks
        if "centroids" in self.arrays.arrays:
            self.arrays.check_centroids(self.scorer, blocks, self.sub_blocks)
            self.problem.heads_k = self.arrays.extents["heads_k"]
        self.arrays.check_the_rest(self.problem.seqlen_k, self.topk, self.block_size, causal)

    # Arguments of the C function.

    def tensor(self, name):
        """The C struct of an argument of rows."""
        view = self.arrays.views[name]
        *batch, token, head, _ = view.steps
        return _library.Tensor(view.pointer, batch[0] if batch else _library.CONTIGUOUS, token, head)

    def tensors(self, names):
        return [self.tensor(name) for name in names.split()]

    def pointer(self, name):
        """An argument that is contiguous."""
        return ctypes.c_void_p(self.arrays.views[name].pointer)

    # Outputs, and the same as arguments.

    def empty(self, extents, dtype=None):
        """Its extents are named as in the table."""
        shape = tuple(self.arrays.extents[e] for e in extents.split())
        return self.arrays.adapter.empty(self.arrays.like, shape, dtype)

    def empty_like(self, name):
        array = self.arrays.arrays[name]
        return self.arrays.adapter.empty(array, tuple(array.shape))

    def empty_out(self):
        """Like q, in the width of v."""
        shape = (*self.arrays.arrays["q"].shape[:-1], self.arrays.extents["head_dim_v"])
        return self.arrays.adapter.empty(self.arrays.like, tuple(shape))

    def empty_lse(self):
        return self.empty("heads_q tokens_q", "float32")

    def empty_selection(self):
        return self.empty("heads_q tokens_q routed", "int32")

    def output(self, array):
        """The C struct of an output of rows."""
        return _library.Tensor(self.arrays.adapter.pointer(array), *[_library.CONTIGUOUS] * 3)

    def output_pointer(self, array):
        return ctypes.c_void_p(None if array is None else self.arrays.adapter.pointer(array))

    # The call itself.

    def run(self, *arguments):
        """The C function of the same name."""
        a = self.arrays
        execution = (self.name, self.problem, self.threads, a.adapter, a.like, arguments)
        a.adapter.call_on_device(a.like, lambda: _library.execute(*execution))

    def run_routing(self, return_scores, *keys):
        """One that returns a selection, or (selection, scores); keys: its arguments beside q."""
        selection = self.empty_selection()
        scores = self.empty("heads_q tokens_q routed", "float32") if return_scores else None
        self.run(self.tensor("q"), *keys, self.output_pointer(selection), self.output_pointer(scores))
        return (selection, scores) if return_scores else selection

    def run_attention(self):
        """One that attends to given blocks: (out, lse)."""
        out, lse = self.empty_out(), self.empty_lse()
        self.run(*self.tensors("q k v"), self.pointer("selection"), self.output(out), self.output_pointer(lse))
        return out, lse

    def run_moba(self, *beside):
        """One that routes and attends: (out, lse, selection); beside: its arguments behind q, k and v."""
        out, lse, selection = self.empty_out(), self.empty_lse(), self.empty_selection()
        outputs = (self.output(out), self.output_pointer(lse), self.output_pointer(selection))
        self.run(*self.tensors("q k v"), *beside, *outputs)
        return out, lse, selection
