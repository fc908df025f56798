"""A subject under audit: somebody's functions, called with NumPy arrays in and out."""

import contextlib
import inspect

import numpy as np

from .._errors import INVALID_ARGUMENT, Error, invalid

OPERATIONS = ("summaries", "route", "attention", "gradients")
_RAISED = (Exception, SystemExit)  # by a subject: one that calls sys.exit() has failed, and must not end the audit


class Refused(Exception):
    """The subject broke its contract: what it returned, or raised, and what was asked of it."""


class Subject:
    """name: as the user typed it. target: an object with some of OPERATIONS (see mobalab_kernels.audit). arrays: what
    it gets, of arrays_of()."""

    def __init__(self, name, target, arrays):
        self.name, self.target, self.arrays = name, target, arrays
        self.ties = getattr(target, "ties", "higher")
        if self.ties not in ("higher", "any"):
            raise invalid(f"ties of {name}", f"= {self.ties!r}", "'higher' or 'any'", "'higher'")
        self.centroids = getattr(target, "centroids", "input")
        if self.centroids not in ("input", "fp32", "centred"):
            raise invalid(f"centroids of {name}", f"= {self.centroids!r}", "'input', 'fp32' or 'centred'", "'input'")
        if not any(self._function(operation) for operation in OPERATIONS):
            raise Error(
                INVALID_ARGUMENT,
                f"subject {name}: must have one of {', '.join(OPERATIONS)}; nearest valid choice: a function route(q, "
                "k, block_size, topk)",
            )

    @property
    def centroid_format(self):
        """The format that centroids are kept in between pooling and scoring."""
        return "float32" if self.centroids == "fp32" else self.arrays.name

    def offers(self, operation):
        if operation == "packed":
            return any(self.takes_sequences(o) for o in ("route", "attention"))
        if operation == "gradients" and self._function("gradients") is None:
            return self.arrays.kind == "torch" and self._function("attention") is not None and self._differentiable()
        return self._function(operation) is not None

    def summaries(self, k, block_size):
        """(float64 [blocks, heads_k, head_dim], name of the dtype it came in)."""
        blocks = -(-len(k) // block_size)
        found = self._call("summaries", [k], block_size)
        values = self._floats("summaries", found, (blocks, *k.shape[1:]))
        return values, self.arrays.dtype_of(found)

    def route(self, q, k, block_size, topk, cu_seqlens=None):
        """int64 [heads, tokens, slots]."""
        found = self._call("route", [q, k], block_size, topk, cu_seqlens=cu_seqlens)
        try:
            selection = self.arrays.to_numpy(found)
        except (TypeError, ValueError) as failed:
            raise Refused(f"route returned {_kind(found)}: must be an array ({failed})") from failed
        if selection.dtype.kind not in "iu" or selection.ndim != 3 or selection.shape[:2] != (q.shape[1], q.shape[0]):
            raise Refused(
                f"route returned {selection.dtype} {selection.shape}: must be integers [heads, tokens, slots] = "
                f"({q.shape[1]}, {q.shape[0]}, slots)"
            )
        return selection.astype(np.int64)

    def attention(self, q, k, v, block_size, topk, cu_seqlens=None):
        """float64 [tokens, heads, head_dim]."""
        found = self._call("attention", [q, k, v], block_size, topk, cu_seqlens=cu_seqlens)
        return self._floats("attention", _output(found), q.shape)

    def gradients(self, q, k, v, d_out, block_size, topk):
        """(dq, dk, dv), float64."""
        if self._function("gradients") is not None:
            found = self._call("gradients", [q, k, v, d_out], block_size, topk)
        else:
            found = self._recorded(q, k, v, d_out, block_size, topk)
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            raise Refused(f"gradients returned {_kind(found)}: must be three arrays (dq, dk, dv)")
        return tuple(self._floats(f"gradient of {n}", g, x.shape) for n, g, x in zip("qkv", found, (q, k, v)))

    def _function(self, operation):
        found = getattr(self.target, operation, None)
        return found if callable(found) else None

    def takes_sequences(self, operation):
        function = self._function(operation)
        return function is not None and "cu_seqlens" in inspect.signature(function).parameters

    def _differentiable(self):
        """Whether autograd follows attention(), seen on a small input."""
        x = np.ones((256, 1, 64), dtype=np.float32)
        try:
            out = self._attention_of_leaves([self.arrays.leaf(x) for _ in range(3)], 64, 2)
        except _RAISED:  # what a small input does not run may still run on others; the check then says what failed
            return True
        return bool(getattr(out, "requires_grad", False))

    def _attention_of_leaves(self, leaves, block_size, topk):
        out = self._function("attention")(*leaves, block_size, topk)
        return _output(out)

    def _recorded(self, q, k, v, d_out, block_size, topk):
        leaves = [self.arrays.leaf(x) for x in (q, k, v)]
        try:
            out = self._attention_of_leaves(leaves, block_size, topk)
            out.backward(self.arrays.give(d_out))
        except Refused:
            raise
        except _RAISED as failed:
            raise Refused(f"gradients of attention: {type(failed).__name__}: {failed}") from failed
        if any(leaf.grad is None for leaf in leaves):
            raise Refused("attention has no gradient for one of q, k, v")
        return [leaf.grad for leaf in leaves]

    def _call(self, operation, arrays, *numbers, cu_seqlens=None):
        given = [self.arrays.give(array) for array in arrays]
        more = {} if cu_seqlens is None else {"cu_seqlens": self.arrays.integers(cu_seqlens)}
        try:
            with contextlib.nullcontext() if operation == "gradients" else self.arrays.no_gradients():
                return self._function(operation)(*given, *numbers, **more)
        except _RAISED as failed:
            raise Refused(f"{operation} raised {type(failed).__name__}: {failed}") from failed

    def _floats(self, what, found, shape):
        try:
            values = self.arrays.to_numpy(found).astype(np.float64)
        except (TypeError, ValueError, AttributeError) as failed:
            raise Refused(f"{what} returned {_kind(found)}: must be an array ({failed})") from failed
        if values.shape != tuple(shape):
            raise Refused(f"{what} returned shape {values.shape}: must be {tuple(shape)}")
        return values


def _output(found):
    """out of what attention returned: out, or a tuple that begins with it."""
    if not isinstance(found, (tuple, list)):
        return found
    if not found:
        raise Refused(f"attention returned {_kind(found)}: must be out, or (out, lse)")
    return found[0]


def _kind(found):
    """What was returned, in words."""
    return f"a {type(found).__name__}" + (f" of {len(found)}" if isinstance(found, (tuple, list)) else "")


def arrays_of(kind, device, dtype):
    """NumPy arrays or torch tensors, as the subject gets them: kind "numpy" or "torch"."""
    if kind == "numpy":
        from .numpy_side import NumpySide

        return NumpySide(device, dtype)
    try:
        from .torch_side import TorchSide
    except ImportError as failed:
        raise invalid("arrays", f"= torch ({failed})", "numpy where torch does not import", "numpy") from failed
    return TorchSide(device, dtype)
