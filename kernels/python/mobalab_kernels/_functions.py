"""The functions of kernels.h on arrays."""

import ctypes

from . import _arrays, _library


def _same_kind(**arrays):
    names = list(arrays)
    first = arrays[names[0]]
    for name in names[1:]:
        other = arrays[name]
        if other.dtype != first.dtype or _arrays.is_cuda(other) != _arrays.is_cuda(first):
            raise ValueError(f"{name}: dtype and device must be those of {names[0]} ({first.dtype})")
        if other.shape[-1] != first.shape[-1]:
            raise ValueError(f"{name}: head dimension {other.shape[-1]} must be that of {names[0]} ({first.shape[-1]})")


def _cu_seqlens(cu_seqlens, total, name):
    if str(cu_seqlens.dtype).replace("torch.", "") != "int32":
        raise TypeError(f"{name}: dtype {cu_seqlens.dtype}, must be int32")
    lengths = cu_seqlens[1:] - cu_seqlens[:-1]
    if int(cu_seqlens[-1]) != total:
        raise ValueError(f"{name}: last entry {int(cu_seqlens[-1])} must be the number of tokens {total}")
    return lengths


def _problem(q, k, block_size, topk, cu_seqlens_q=None, cu_seqlens_k=None, fp32_centroids=False, total_blocks=None,
             max_seqlen_q=None, max_seqlen_k=None):
    if len(q.shape) != (3 if cu_seqlens_k is not None else 4) or len(k.shape) != len(q.shape):
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)}: must be [batch, seq, heads, dim], or [tokens, heads, "
                         "dim] with cu_seqlens_q and cu_seqlens_k")
    p = _library.Problem()
    p.heads_q, p.heads_k, p.head_dim = q.shape[-2], k.shape[-2], q.shape[-1]
    p.block_size, p.topk = block_size, topk
    p.dtype, p.centroids = _arrays.dtype_code(q), int(fp32_centroids)
    if cu_seqlens_k is None:
        if q.shape[0] != k.shape[0]:
            raise ValueError(f"k: batch {k.shape[0]} must be that of q ({q.shape[0]})")
        p.batch, p.seqlen_q, p.seqlen_k = q.shape[0], q.shape[1], k.shape[1]
        return p
    p.batch = cu_seqlens_k.shape[0] - 1
    p.cu_seqlens_q, p.cu_seqlens_k = _arrays.pointer(cu_seqlens_q), _arrays.pointer(cu_seqlens_k)
    p.total_q, p.total_k = q.shape[0], k.shape[0]
    if total_blocks is None or max_seqlen_q is None or max_seqlen_k is None:
        # Reads cu_seqlens back: one synchronisation. Pass the three numbers to avoid it.
        lengths_q = _cu_seqlens(cu_seqlens_q, p.total_q, "cu_seqlens_q")
        lengths_k = _cu_seqlens(cu_seqlens_k, p.total_k, "cu_seqlens_k")
        total_blocks = int(((lengths_k + block_size - 1) // block_size).sum())
        max_seqlen_q, max_seqlen_k = int(lengths_q.max()), int(lengths_k.max())
    p.seqlen_q, p.seqlen_k, p.total_blocks = max_seqlen_q, max_seqlen_k, total_blocks
    return p


def _execution(operation, problem, like, threads):
    """The C struct and the workspace that must live as long as the call."""
    e = _library.Execution()
    e.backend = _library.CUDA if _arrays.is_cuda(like) else _library.CPU
    e.threads = threads
    e.stream = _arrays.stream(like)
    size = _library.workspace_size(operation, problem, e.backend)
    workspace = _arrays.empty(like, (size,), "uint8") if size > 0 else None
    e.workspace, e.workspace_bytes = _arrays.pointer(workspace), size
    return e, workspace


def _tokens_q(p):
    return p.total_q if p.cu_seqlens_q else p.batch * p.seqlen_q


def _selection(p, like):
    return _arrays.empty(like, (p.heads_q, _tokens_q(p), max(p.topk - 1, 0)), "int32")  # the library refuses topk < 1


def _ptr(array):
    return ctypes.c_void_p(_arrays.pointer(array))


def _run(name, operation, problem, like, threads, *arguments):
    execution, workspace = _execution(operation, problem, like, threads)
    _library.call(name, ctypes.byref(problem), *arguments, ctypes.byref(execution))
    return workspace  # kept alive until the call is enqueued; torch's allocator is stream-ordered


def _centroids(p, k):
    blocks = p.total_blocks if p.cu_seqlens_k else p.batch * -(-p.seqlen_k // p.block_size)
    return _arrays.empty(k, (blocks, p.heads_k, p.head_dim), "float32" if p.centroids else None)


def compute_centroids(k, block_size, *, fp32=False, cu_seqlens_k=None, threads=0):
    """[blocks, heads, dim] block means in k's dtype (or fp32)."""
    p = _problem(k, k, block_size, 1, cu_seqlens_k, cu_seqlens_k, fp32)
    out = _centroids(p, k)
    _run("compute_centroids", "centroids", p, k, threads, _arrays.tensor(k), _ptr(out))
    return out


def route(q, k, block_size, topk, *, return_scores=False, cu_seqlens_q=None, cu_seqlens_k=None, fp32_centroids=False,
          threads=0, **lengths):
    """int32 [heads_q, tokens_q, topk - 1]: routed blocks, best first, -1 where there are fewer candidates."""
    _same_kind(q=q, k=k)
    p = _problem(q, k, block_size, topk, cu_seqlens_q, cu_seqlens_k, fp32_centroids, **lengths)
    selection = _selection(p, q)
    scores = _arrays.empty(q, tuple(selection.shape), "float32") if return_scores else None
    _run("route", "route", p, q, threads, _arrays.tensor(q), _arrays.tensor(k), _ptr(selection), _ptr(scores))
    return (selection, scores) if return_scores else selection


def attention_forward(q, k, v, selection, block_size, topk, *, cu_seqlens_q=None, cu_seqlens_k=None, threads=0, **lengths):
    """(out like q, lse fp32 [heads_q, tokens_q]) over the own and the selected blocks."""
    _same_kind(q=q, k=k, v=v)
    p = _problem(q, k, block_size, topk, cu_seqlens_q, cu_seqlens_k, **lengths)
    out = _arrays.empty(q, tuple(q.shape))
    lse = _arrays.empty(q, (p.heads_q, _tokens_q(p)), "float32")
    _run("attention_forward", "attention_forward", p, q, threads, _arrays.tensor(q), _arrays.tensor(k),
         _arrays.tensor(v), _ptr(selection), _arrays.tensor(out), _ptr(lse))
    return out, lse


def moba_forward(q, k, v, block_size, topk, *, cu_seqlens_q=None, cu_seqlens_k=None, fp32_centroids=False, threads=0,
                 **lengths):
    """(out, lse, selection): routing and attention in one call."""
    _same_kind(q=q, k=k, v=v)
    p = _problem(q, k, block_size, topk, cu_seqlens_q, cu_seqlens_k, fp32_centroids, **lengths)
    out = _arrays.empty(q, tuple(q.shape))
    lse = _arrays.empty(q, (p.heads_q, _tokens_q(p)), "float32")
    selection = _selection(p, q)
    _run("moba_forward", "moba_forward", p, q, threads, _arrays.tensor(q), _arrays.tensor(k), _arrays.tensor(v),
         _arrays.tensor(out), _ptr(lse), _ptr(selection))
    return out, lse, selection


def attention_backward(q, k, v, out, d_out, lse, selection, block_size, topk, *, cu_seqlens_q=None, cu_seqlens_k=None,
                       threads=0, **lengths):
    """(dq, dk, dv) of attention_forward, recomputed from lse."""
    _same_kind(q=q, k=k, v=v, out=out, d_out=d_out)
    p = _problem(q, k, block_size, topk, cu_seqlens_q, cu_seqlens_k, **lengths)
    dq, dk, dv = (_arrays.empty(x, tuple(x.shape)) for x in (q, k, v))
    _run("attention_backward", "attention_backward", p, q, threads, _arrays.tensor(q), _arrays.tensor(k),
         _arrays.tensor(v), _arrays.tensor(out), _arrays.tensor(d_out), _ptr(lse), _ptr(selection),
         _arrays.tensor(dq), _arrays.tensor(dk), _arrays.tensor(dv))
    return dq, dk, dv


def key_conv_forward(k, weight, *, cu_seqlens_k=None, threads=0, **lengths):
    """k'_t = k_t + silu(sum_l weight[head, dim, l] k_{t-l}); weight fp32 [heads, dim, width], lag 0 first."""
    p = _problem(k, k, 1, 1, cu_seqlens_k, cu_seqlens_k, **lengths)
    _check_weight(k, weight)
    out = _arrays.empty(k, tuple(k.shape))
    execution, _ = _execution("centroids", p, k, threads)
    _library.call("key_conv_forward", ctypes.byref(p), _arrays.tensor(k), _ptr(weight), ctypes.c_int32(weight.shape[-1]),
                  _arrays.tensor(out), ctypes.byref(execution))
    return out


def key_conv_centroids(k, weight, block_size, *, fp32=False, cu_seqlens_k=None, threads=0, **lengths):
    """(k', its block means): key_conv_forward and compute_centroids of its output in one pass."""
    p = _problem(k, k, block_size, 1, cu_seqlens_k, cu_seqlens_k, fp32, **lengths)
    _check_weight(k, weight)
    out, centroids = _arrays.empty(k, tuple(k.shape)), _centroids(p, k)
    _run("key_conv_centroids", "key_conv_centroids", p, k, threads, _arrays.tensor(k), _ptr(weight),
         ctypes.c_int32(weight.shape[-1]), _arrays.tensor(out), _ptr(centroids))
    return out, centroids


def key_conv_backward(k, weight, d_out, *, cu_seqlens_k=None, threads=0, **lengths):
    """(dk, d_weight) of key_conv_forward."""
    p = _problem(k, k, 1, 1, cu_seqlens_k, cu_seqlens_k, **lengths)
    _check_weight(k, weight)
    _same_kind(k=k, d_out=d_out)
    dk = _arrays.empty(k, tuple(k.shape))
    d_weight = _arrays.empty(weight, tuple(weight.shape))
    _run("key_conv_backward", "key_conv_backward", p, k, threads, _arrays.tensor(k), _ptr(weight),
         ctypes.c_int32(weight.shape[-1]), _arrays.tensor(d_out), _arrays.tensor(dk), _ptr(d_weight))
    return dk, d_weight


def _check_weight(k, weight):
    if _arrays.dtype_code(weight) != 0 or tuple(weight.shape[:2]) != tuple(k.shape[-2:]) or len(weight.shape) != 3:
        raise ValueError(f"weight {tuple(weight.shape)} {weight.dtype}: must be fp32 [{k.shape[-2]}, {k.shape[-1]}, width]")
    if _arrays.strides(weight) != (weight.shape[1] * weight.shape[2], weight.shape[2], 1):
        raise ValueError("weight must be contiguous")
