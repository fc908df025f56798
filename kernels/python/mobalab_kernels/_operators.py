"""The differentiable functions as operators of torch, torch.ops.mobalab.*: what torch.compile puts into a graph,
torch.func and checkpoints see, and torch.library.opcheck checks.

An operator takes what the function of the same name in _functions.py takes, which checks it when the operator runs.
Fake tensors, by which torch.compile finds shapes, have no contents to check.
"""

import torch

from . import _arguments, _decode, _torch_arrays
from . import _functions as f
from ._errors import INVALID_ARGUMENT, Error, invalid

if not hasattr(torch.library, "register_autograd"):
    raise ImportError(
        f"torch {torch.__version__}: must be 2.4 or later for moba_attention; nearest valid choice: moba_forward and "
        "attention_backward, which take tensors of older ones"
    )

_library = torch.library.Library("mobalab", "DEF")

_SEQUENCES = "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k"
_LENGTHS = "SymInt? max_seqlen_q, SymInt? max_seqlen_k, SymInt? total_blocks"
_ATTENTION = f"SymInt block_size, SymInt topk, bool causal, {_LENGTHS}, float? scale, int threads"
_ROUTING = "bool fp32_centroids, bool centred_centroids, str scorer, int scorer_seed, bool keep_first"


def _operator(signature, run, fake, setup_context, backward):
    """Defines one for CPU and CUDA tensors; setup_context and backward as torch.library.register_autograd takes them.
    Returns what calls it."""
    name = _library.define(signature, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        _library.impl(name, run, device)
    torch.library.register_fake(f"mobalab::{name}", fake, lib=_library)
    torch.library.register_autograd(f"mobalab::{name}", backward, setup_context=setup_context, lib=_library)
    operator = getattr(torch.ops.mobalab, name).default
    function = _function(operator, setup_context, backward)

    def call(*tensors, **options):
        recorded = torch.is_grad_enabled() and any(x.requires_grad for x in tensors if x is not None)
        compiling = torch.compiler.is_compiling()
        if not compiling and _torch_arrays.has_tangent(tensors):
            recorded = True  # the function refuses it; the operator would drop it
        if (compiling or not recorded) and not torch._C._are_functorch_transforms_active():
            return operator(*tensors, **options)
        return function.apply(*tensors, options)

    return call


def _function(operator, setup_context, backward):
    """The operator with the same autograd once more: as a function that torch.func.grad takes, as it does not take that
    of operators, and that costs half as much to call."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(*inputs):
            return operator(*inputs[:-1], **inputs[-1])

        @staticmethod
        def setup_context(ctx, inputs, output):
            setup_context(ctx, inputs[:-1], inputs[-1], output)

        @staticmethod
        def backward(ctx, *gradients):
            return (*backward(ctx, *gradients), None)

    return Function


def _refused(name):
    """setup_context and backward of an operator that computes gradients."""

    def refuse(ctx, *gradients):
        raise Error(
            INVALID_ARGUMENT,
            f"gradient of {name}: moba_attention is differentiable once; nearest valid choice: no create_graph",
        )

    return lambda ctx, inputs, keyword_only_inputs, output: None, refuse


def _sequences(cu_seqlens_q, cu_seqlens_k, q, k, block_size, max_seqlen_q, max_seqlen_k, total_blocks):
    """Keywords of the functions about packed sequences. Lengths that are given may be longer than the longest sequence;
    the number of blocks then follows from the contents or, on CUDA devices, where that would be a wait, is bounded."""
    keywords = {
        "cu_seqlens_q": cu_seqlens_q,
        "cu_seqlens_k": cu_seqlens_k,
        "max_seqlen_q": max_seqlen_q,
        "max_seqlen_k": max_seqlen_k,
        "total_blocks": total_blocks,
    }
    if cu_seqlens_k is None or max_seqlen_q is None or max_seqlen_k is None or total_blocks is not None:
        return keywords
    if k.is_cuda:
        least = -(-k.shape[0] // block_size)
        return {**keywords, "total_blocks": min(k.shape[0], least + cu_seqlens_k.shape[0] - 1)}
    found = f.sequence_lengths(q, k, block_size, cu_seqlens_q, cu_seqlens_k)
    for name, given in (("max_seqlen_q", max_seqlen_q), ("max_seqlen_k", max_seqlen_k)):
        if given < found[name]:
            rule = "at least the length of the longest sequence"
            raise invalid(name, f"= {given}", rule, found[name])
    return {**keywords, "total_blocks": found["total_blocks"]}


# ------------------------------------------------------------------------------------------------------- fake tensors


def _fake_rows(q, k, cu_seqlens_k, max_seqlen_k):
    """(heads_q, tokens_q, the longest sequence of keys) of tensors that have shapes and nothing else."""
    rank = 4 if cu_seqlens_k is None else 3
    for name, tensor in (("q", q), ("k", k)):
        if tensor.dim() != rank:
            raise invalid(name, f"has shape {tuple(tensor.shape)}", f"of {rank} extents", f"{rank} extents")
    if cu_seqlens_k is None:
        return q.shape[2], q.shape[0] * q.shape[1], k.shape[1]
    if max_seqlen_k is None:
        rule = "given where torch.compile traces packed sequences, as shapes hang on it"
        raise invalid("max_seqlen_k", "= None", rule, "max_seqlen_q and max_seqlen_k of the longest sequences")
    return q.shape[1], q.shape[0], max_seqlen_k


def _fake_attention(q, k, v, cu_seqlens_k, max_seqlen_k):
    """out and lse."""
    heads, tokens, _ = _fake_rows(q, k, cu_seqlens_k, max_seqlen_k)
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty((heads, tokens), dtype=torch.float32)


# ---------------------------------------------------------------------------------------------- routing and attention


def _route(q, k, cu_seqlens_q, cu_seqlens_k, *, block_size, topk, threads, scorer_seed, **options):
    lengths = {name: options.pop(name) for name in ("max_seqlen_q", "max_seqlen_k", "total_blocks")}
    q, k = _torch_arrays.readable(q), _torch_arrays.readable(k)
    sequences = _sequences(cu_seqlens_q, cu_seqlens_k, q, k, block_size, **lengths)
    seed = scorer_seed % (_arguments.UINT64_MAX + 1)
    return f.route(q, k, block_size, topk, **sequences, **options, scorer_seed=seed, threads=threads)


def _fake_selection(q, k, cu_seqlens_q, cu_seqlens_k, *, block_size, topk, causal, max_seqlen_k, scorer, **options):
    _arguments.scorer("scorer", scorer)
    _arguments.check_range("block_size", block_size, 1, _arguments.MAX_EXTENT)
    heads, tokens, longest = _fake_rows(q, k, cu_seqlens_k, max_seqlen_k)
    blocks = (longest + block_size - 1) // block_size
    routed = torch.sym_min(topk, torch.sym_max(1, blocks)) - 1 if causal else torch.sym_min(topk, blocks)
    return q.new_empty((heads, tokens, routed), dtype=torch.int32)


def _moba_forward(q, k, v, cu_seqlens_q, cu_seqlens_k, *, block_size, topk, scale, threads, scorer_seed, **options):
    lengths = {name: options.pop(name) for name in ("max_seqlen_q", "max_seqlen_k", "total_blocks")}
    q, k, v = (_torch_arrays.readable(tensor) for tensor in (q, k, v))
    sequences = _sequences(cu_seqlens_q, cu_seqlens_k, q, k, block_size, **lengths)
    seed = scorer_seed % (_arguments.UINT64_MAX + 1)
    return f.moba_forward(
        q, k, v, block_size, topk, **sequences, **options, scorer_seed=seed, scale=scale, threads=threads
    )


def _moba_forward_fake(q, k, v, cu_seqlens_q, cu_seqlens_k, *, max_seqlen_k, **options):
    selection = _fake_selection(q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_k=max_seqlen_k, **options)
    return *_fake_attention(q, k, v, cu_seqlens_k, max_seqlen_k), selection


def _save_moba_forward(ctx, inputs, keyword_only_inputs, output):
    _save_attention(ctx, inputs[:3], inputs[3:], output[2], output[:2], keyword_only_inputs)
    ctx.mark_non_differentiable(output[1], output[2])


def _attention_forward(
    q, k, v, selection, cu_seqlens_q, cu_seqlens_k, *, block_size, topk, causal, scale, threads, **lengths
):
    q, k, v = (_torch_arrays.readable(tensor) for tensor in (q, k, v))
    sequences = _sequences(cu_seqlens_q, cu_seqlens_k, q, k, block_size, **lengths)
    options = {"causal": causal, "scale": scale, "threads": threads}
    return f.attention_forward(q, k, v, selection, block_size, topk, **sequences, **options)


def _attention_forward_fake(q, k, v, selection, cu_seqlens_q, cu_seqlens_k, *, max_seqlen_k, **options):
    return _fake_attention(q, k, v, cu_seqlens_k, max_seqlen_k)


def _save_attention_forward(ctx, inputs, keyword_only_inputs, output):
    _save_attention(ctx, inputs[:3], inputs[4:], inputs[3], output, keyword_only_inputs)
    ctx.mark_non_differentiable(output[1])


def _save_attention(ctx, tensors, cu_seqlens, selection, output, options):
    ctx.save_for_backward(*tensors, *output, selection, *cu_seqlens)
    ctx.set_materialize_grads(False)
    kept = ("block_size", "topk", "causal", "max_seqlen_q", "max_seqlen_k", "total_blocks", "scale", "threads")
    ctx.options = {name: options[name] for name in kept}


def _attention_gradients(ctx, d_out):
    """Of q, k and v where they are needed."""
    if d_out is None:
        return (None, None, None)
    q, k, v, out, lse, selection, cu_seqlens_q, cu_seqlens_k = ctx.saved_tensors
    gradients = _attention_backward_operator(
        q, k, v, out, d_out, lse, selection, cu_seqlens_q, cu_seqlens_k, **ctx.options
    )
    return _needed(ctx, gradients)


def _needed(ctx, gradients):
    return tuple(gradient if needed else None for needed, gradient in zip(ctx.needs_input_grad, gradients))


def _attention_backward(
    q, k, v, out, d_out, lse, selection, cu_seqlens_q, cu_seqlens_k, *, block_size, topk, causal, scale, threads, **lengths
):
    q, k, v, out, d_out = (_torch_arrays.readable(tensor) for tensor in (q, k, v, out, d_out))
    sequences = _sequences(cu_seqlens_q, cu_seqlens_k, q, k, block_size, **lengths)
    options = {"causal": causal, "scale": scale, "threads": threads}
    return f.attention_backward(q, k, v, out, d_out, lse, selection, block_size, topk, **sequences, **options)


def _attention_backward_fake(q, k, v, *others, **options):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v))


_attention_backward_operator = _operator(
    f"attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor d_out, Tensor lse, Tensor selection, "
    f"{_SEQUENCES}, *, {_ATTENTION}) -> (Tensor, Tensor, Tensor)",
    _attention_backward,
    _attention_backward_fake,
    *_refused("attention_backward"),
)
route = _operator(
    f"route(Tensor q, Tensor k, {_SEQUENCES}, *, SymInt block_size, SymInt topk, bool causal, {_LENGTHS}, {_ROUTING}, "
    "int threads) "
    "-> Tensor",
    _route,
    _fake_selection,
    lambda ctx, inputs, keyword_only_inputs, output: ctx.mark_non_differentiable(output),
    lambda ctx, d_selection: (None, None, None, None),
)
moba_forward = _operator(
    f"moba_forward(Tensor q, Tensor k, Tensor v, {_SEQUENCES}, *, {_ATTENTION}, {_ROUTING}) "
    "-> (Tensor, Tensor, Tensor)",
    _moba_forward,
    _moba_forward_fake,
    _save_moba_forward,
    lambda ctx, d_out, d_lse, d_selection: (*_attention_gradients(ctx, d_out), None, None),
)
attention_forward = _operator(
    f"attention_forward(Tensor q, Tensor k, Tensor v, Tensor selection, {_SEQUENCES}, *, {_ATTENTION}) "
    "-> (Tensor, Tensor)",
    _attention_forward,
    _attention_forward_fake,
    _save_attention_forward,
    lambda ctx, d_out, d_lse: (*_attention_gradients(ctx, d_out), None, None, None),
)

# ---------------------------------------------------------------------------------------------------- key convolution


def _key_conv_forward(k, weight, cu_seqlens_k, *, max_seqlen_k, threads):
    k, weight = _torch_arrays.readable(k), _torch_arrays.contiguous(weight)
    return f.key_conv_forward(k, weight, cu_seqlens_k=cu_seqlens_k, max_seqlen_k=max_seqlen_k, threads=threads)


def _save_key_conv(ctx, inputs, keyword_only_inputs, output):
    ctx.save_for_backward(*inputs)
    ctx.options = keyword_only_inputs


def _key_conv_gradients(ctx, d_out):
    k, weight, cu_seqlens_k = ctx.saved_tensors
    return (*_needed(ctx, _key_conv_backward_operator(k, weight, d_out, cu_seqlens_k, **ctx.options)), None)


def _key_conv_backward(k, weight, d_out, cu_seqlens_k, *, max_seqlen_k, threads):
    k, d_out, weight = _torch_arrays.readable(k), _torch_arrays.readable(d_out), _torch_arrays.contiguous(weight)
    return f.key_conv_backward(k, weight, d_out, cu_seqlens_k=cu_seqlens_k, max_seqlen_k=max_seqlen_k, threads=threads)


_key_conv_backward_operator = _operator(
    "key_conv_backward(Tensor k, Tensor weight, Tensor d_out, Tensor? cu_seqlens_k, *, SymInt? max_seqlen_k, "
    "int threads) -> (Tensor, Tensor)",
    _key_conv_backward,
    lambda k, weight, d_out, cu_seqlens_k, **options: (k.new_empty(k.shape), weight.new_empty(weight.shape)),
    *_refused("key_conv_backward"),
)
key_conv_forward = _operator(
    "key_conv_forward(Tensor k, Tensor weight, Tensor? cu_seqlens_k, *, SymInt? max_seqlen_k, int threads) -> Tensor",
    _key_conv_forward,
    lambda k, weight, cu_seqlens_k, **options: k.new_empty(k.shape),
    _save_key_conv,
    _key_conv_gradients,
)

# ----------------------------------------------------------------------------------------------------------- decoding


def _moba_decode(q, k, v, centroids, lengths, block_table, *, block_size, topk, scorer_seed, **options):
    seed = scorer_seed % (_arguments.UINT64_MAX + 1)
    q = _torch_arrays.readable(q)
    cache = {"block_table": block_table, "scorer_seed": seed}
    return _decode.moba_decode(q, k, v, centroids, lengths, block_size, topk, **cache, **options)


def _moba_decode_fake(q, k, v, centroids, lengths, block_table, *, block_size, topk, scorer, **options):
    _arguments.scorer("scorer", scorer)
    _arguments.check_range("block_size", block_size, 1, _arguments.MAX_EXTENT)
    for name, tensor in (("q", q), ("k", k)):
        if tensor.dim() != 4:
            raise invalid(name, f"has shape {tuple(tensor.shape)}", "of 4 extents", "4 extents")
    heads, tokens = q.shape[2], q.shape[0] * q.shape[1]
    longest = k.shape[1] if block_table is None else block_table.shape[1] * k.shape[1]
    blocks = torch.sym_max(1, (longest + block_size - 1) // block_size)
    selection = q.new_empty((heads, tokens, torch.sym_min(topk, blocks) - 1), dtype=torch.int32)
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    return out, q.new_empty((heads, tokens), dtype=torch.float32), selection


# Not differentiable, and it writes centroids: no autograd, and the function refuses tensors that require grad.
_name = _library.define(
    "moba_decode(Tensor q, Tensor k, Tensor v, Tensor(a!) centroids, Tensor lengths, Tensor? block_table, *, "
    "SymInt block_size, SymInt topk, SymInt appended, bool centred_centroids, str scorer, int scorer_seed, "
    "bool keep_first, float? scale, int threads) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
for _device in ("CPU", "CUDA"):
    _library.impl(_name, _moba_decode, _device)
torch.library.register_fake(f"mobalab::{_name}", _moba_decode_fake, lib=_library)
moba_decode = torch.ops.mobalab.moba_decode.default
