"""The whole MoBA attention as one differentiable torch function."""

import torch

from . import _arguments, _operators, _torch_arrays
from . import _functions as f
from ._errors import INVALID_ARGUMENT, InvalidType, invalid, invalid_type


def moba_attention(
    q,
    k,
    v,
    block_size,
    topk,
    conv_weight=None,
    *,
    cu_seqlens=None,
    max_seqlen=None,
    causal=True,
    scale=None,
    scorer="mean",
    scorer_seed=0,
    keep_first=False,
    fp32_centroids=False,
    centred_centroids=False,
    selection=None,
    return_selection=False,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    total_blocks=None,
    threads=0,
):
    """MoBA attention of torch tensors: each query attends to its own block of keys and to the topk - 1 blocks before it
    that score best (with causal=False: to the topk blocks that score best, whole ones, wherever they are).

    Tensors
      q            [batch, seqlen_q, heads_q, head_dim]; float32, bfloat16 or float16 on the CPU, the 16-bit ones on
                   CUDA devices. The last query stands at the last key; rows before every key give 0.
      k, v         [batch, seqlen_k, heads_k, head_dim], dtype and device of q; heads_q is a multiple of heads_k. The
                   head_dim of v may be another one, and is that of the output.
      conv_weight  float32 [heads_k, head_dim, width], width 1 to 8, or None. The key convolution
                   k'_t = k_t + silu(sum_l weight[head, dim, l] k_{t-l}) comes first (FlashMoBA, section 3; zero before
                   a sequence); routing and attention both read k'.
      selection    int32 [heads_q, tokens_q, routed] with routed = min(topk, blocks of the longest sequence) - 1
                   (causal=False: without the - 1), or None. Given, nothing is routed: these blocks are attended to
                   beside the own one, as sets (see attention_forward); scorer, scorer_seed, keep_first, fp32_centroids
                   and centred_centroids must then keep their defaults.
                   tokens_q is batch * seqlen_q, or total_q.
    Any strides are taken as they are while rows of head_dim are contiguous (on CUDA devices: and start at multiples of
    16 bytes); other layouts are copied.

    Packed sequences are [total, heads, head_dim] with
      cu_seqlens   int32 [batch + 1] on the device of q, from 0 to total: sequence b owns tokens
                   [cu_seqlens[b], cu_seqlens[b + 1]), of queries and keys alike.
      max_seqlen   the length of the longest, or more. Without it the contents of cu_seqlens are read back and checked,
                   on CUDA devices a wait; with it they are the caller's word there. torch.compile and CUDA graphs need
                   it.
      cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, total_blocks   where queries are not as many as
                   keys; the last three are what sequence_lengths() returns, all or none.

    Integers and flags
      block_size, topk   keys of a block; blocks of a query, its own included.
      causal             False: a query has no block of its own and no place; every block of its sequence is a candidate,
                         the partial last one too.
      scale              of q . key in the softmax, in [1e-30, 1e30]; None: head_dim ** -0.5. Routing does not see it.
                         CUDA devices take at most 65,536, and give NaN where scaled scores reach 2^30.
      scorer, scorer_seed, keep_first, fp32_centroids, centred_centroids   how blocks are scored and chosen, see the module.
      threads            CPU threads, 0 for all.

    Returns out like q in the width of v (contiguous), or (out, selection) with return_selection=True: the blocks that
    were attended to beside the own ones, as route() returns them (or what was given).

    Gradients flow to q, k, v and conv_weight, packed or not, and once: there are no second derivatives, and asking for
    them raises. None flows through the choice of blocks. Under torch.autocast q, k and v are cast to its dtype, as by
    torch.nn.functional.scaled_dot_product_attention; conv_weight stays float32. The function is one or two operators
    (torch.ops.mobalab.moba_forward or attention_forward, key_conv_forward) for torch.compile, torch.func.grad and
    checkpoints; run again on the same bits it chooses the same blocks.

    Raises ValueError for values, shapes, devices and layouts, TypeError for kinds and dtypes, both also
    mobalab_kernels.Error; RuntimeError of mobalab_kernels.Error for what the device does not do.
    """
    sequences = {"cu_seqlens": cu_seqlens, "cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k}
    others = {"conv_weight": conv_weight, "selection": selection, **sequences}
    lengths = {"max_seqlen_q": max_seqlen_q, "max_seqlen_k": max_seqlen_k, "total_blocks": total_blocks}
    options = {"block_size": block_size, "topk": topk, "causal": causal, "scale": scale, "threads": threads}
    routing = {
        "scorer": scorer,
        "scorer_seed": scorer_seed,
        "keep_first": keep_first,
        "fp32_centroids": fp32_centroids,
        "centred_centroids": centred_centroids,
    }
    check_tensors({"q": q, "k": k, "v": v, **_arguments.given(**others)})
    options, routing = plain_options(q, options), _plain_routing(routing)
    max_seqlen, lengths = plain_length("max_seqlen", max_seqlen), plain_lengths(lengths)
    return_selection = _arguments.flag("return_selection", return_selection)
    _arguments.check_all_or_none(lengths, "the caller gives all of the lengths or none")
    packed, lengths = _both_sides(cu_seqlens, max_seqlen, (cu_seqlens_q, cu_seqlens_k), lengths)
    if selection is not None:
        _check_unrouted(routing)
    out, selection = attend(q, k, v, packed, lengths, conv_weight, selection, routing, options)
    return (out, selection) if return_selection else out


def attend(q, k, v, packed, lengths, conv_weight, selection, routing, options):
    """(out, selection) of arguments that are checked one by one. packed: (cu_seqlens_q, cu_seqlens_k), None for
    [batch, ...] tensors."""
    q, k, v = _autocast(q), _autocast(k), _autocast(v)
    if not torch.compiler.is_compiling():
        lengths = _check_together(q, k, v, conv_weight, options["block_size"], packed, lengths)
    if conv_weight is not None:
        k = _operators.key_conv_forward(
            k, conv_weight, packed[1], max_seqlen_k=lengths["max_seqlen_k"], threads=options["threads"]
        )
    if selection is None:
        out, _, selection = _operators.moba_forward(q, k, v, *packed, **options, **lengths, **routing)
    else:
        out, _ = _operators.attention_forward(q, k, v, selection, *packed, **options, **lengths)
    return out, selection


def _both_sides(cu_seqlens, max_seqlen, packed, lengths):
    """cu_seqlens and max_seqlen, or what is said of queries and keys each."""
    if cu_seqlens is None:
        if max_seqlen is not None:
            raise InvalidType(
                INVALID_ARGUMENT,
                "max_seqlen given without cu_seqlens: it is the length of packed sequences; nearest valid choice: "
                "leave it out",
            )
        return packed, lengths
    others = [name for name, value in zip(("cu_seqlens_q", "cu_seqlens_k"), packed) if value is not None]
    others += [name for name, value in lengths.items() if value is not None]
    if others:
        raise InvalidType(
            INVALID_ARGUMENT,
            f"cu_seqlens given with {', '.join(others)}: it stands for queries and keys alike; nearest valid choice: "
            "cu_seqlens and max_seqlen alone",
        )
    return (cu_seqlens, cu_seqlens), {"max_seqlen_q": max_seqlen, "max_seqlen_k": max_seqlen, "total_blocks": None}


def _check_unrouted(routing):
    plain = {
        "fp32_centroids": False,
        "scorer": "mean",
        "scorer_seed": 0,
        "keep_first": False,
        "centred_centroids": False,
    }
    odd = [f"{name} = {value!r}" for name, value in routing.items() if value != plain[name]]
    if odd:
        raise invalid("selection", f"given with {', '.join(odd)}", "alone: nothing is routed", "leave one of them out")


def _autocast(tensor):
    """As torch's own attention takes it."""
    device = tensor.device.type
    if device in ("cpu", "cuda") and tensor.is_floating_point() and tensor.dtype != torch.float64:
        if torch.is_autocast_enabled(device):
            return tensor.to(torch.get_autocast_dtype(device))
    return tensor


# ----------------------------------------------------------------- checks: what no operator could be given, or say well


def check_tensors(arrays):
    for name, array in arrays.items():
        if not _torch_arrays.takes(array):
            raise invalid_type(name, f"is a {type(array).__name__}", "a torch tensor", "moba_forward for NumPy arrays")
        _torch_arrays.check_kind(name, array)


def plain_options(q, options):
    """block_size, topk, causal, scale and threads as numbers of Python."""
    numbers = {name: _arguments.integer(name, options[name]) for name in ("block_size", "topk", "threads")}
    numbers["causal"] = _arguments.flag("causal", options["causal"])
    if options["scale"] is not None:
        numbers["scale"] = _arguments.softmax_scale("scale", options["scale"], q.shape[-1] if q.dim() else 1)
    return {**options, **numbers}


def plain_length(name, value):
    return None if value is None else _arguments.integer(name, value)


def plain_lengths(lengths):
    return {name: plain_length(name, value) for name, value in lengths.items()}


def _plain_routing(routing):
    if not torch.compiler.is_compiling():  # which cannot trace the loading of the library; the operator asks again
        _arguments.scorer("scorer", routing["scorer"])
    flags = {
        name: _arguments.flag(name, routing[name]) for name in ("keep_first", "fp32_centroids", "centred_centroids")
    }
    seed = _arguments.integer("scorer_seed", routing["scorer_seed"])
    signed = seed - _arguments.UINT64_MAX - 1 if seed > _arguments.INT64_MAX else seed  # as operators have integers
    return {**routing, **flags, "scorer_seed": signed}


def _check_together(q, k, v, conv_weight, block_size, packed, lengths):
    """Keys are checked beside q and v before the convolution sees them alone; packed sequences are read back once for
    all operators. Returns the lengths. Tensors inside transforms of torch.func have no memory to look at, and are left
    to the operators."""
    cu_seqlens = _arguments.given(cu_seqlens_q=packed[0], cu_seqlens_k=packed[1])
    unread = cu_seqlens and not _arguments.given(**lengths)
    arrays = _arguments.given(q=q, k=k, v=v, conv_weight=conv_weight)
    if (conv_weight is None and not unread) or not all(map(_torch_arrays.has_memory, arrays.values())):
        return lengths
    readable = {name: _torch_arrays.readable(array.detach()) for name, array in arrays.items()}
    if conv_weight is not None:
        readable["conv_weight"] = _torch_arrays.contiguous(readable["conv_weight"])
        _arguments.Arrays("moba_attention", readable, cu_seqlens).check_dense_arrays()
    return f.sequence_lengths(readable["q"], readable["k"], block_size, *packed) if unread else lengths
