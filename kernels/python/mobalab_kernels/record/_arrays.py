"""Queries, keys and values of any framework as the numbers a trace stores."""

import sys

import numpy as np

from .._errors import invalid, invalid_type

DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}  # what users and metadata say, what safetensors says
LAYOUTS = ("token,head,dim", "head,token,dim")


def round_to_bf16(x):
    """The bits (uint16) of float32 numbers rounded to the nearest bf16, ties to even. NaN stays NaN."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _is_torch(array):
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    return torch is not None and isinstance(array, torch.Tensor)


def _check_kind(name, array):
    if isinstance(array, np.ndarray):
        if array.dtype not in (np.float32, np.float16, np.float64):
            raise invalid_type(name, f"has dtype {array.dtype}", "float32, float16 or float64", "astype(numpy.float32)")
    elif not _is_torch(array):
        raise invalid_type(name, f"of type {type(array).__name__}", "a NumPy array or a torch tensor", "numpy.asarray")
    elif not array.is_floating_point():
        raise invalid_type(name, f"has dtype {array.dtype}", "a floating-point tensor", "float()")


def _to_float32(array):
    if isinstance(array, np.ndarray):
        return array.astype(np.float32)
    return array.detach().float().cpu().numpy()


def one_sequence(name, array, layout):
    """[token, head, dim] of `array`, a view: 3-d, or 4-d with a batch of one before it."""
    _check_kind(name, array)
    if layout not in LAYOUTS:
        raise invalid("layout", repr(layout), f"one of {', '.join(LAYOUTS)}", LAYOUTS[0])
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise invalid(
            name, f"has shape {list(array.shape)}", f"[{layout}], or a batch of one of it", "one sequence at a time"
        )
    return array if layout == LAYOUTS[0] else array.swapaxes(0, 1)


def stored(name, array, dtype):
    """The array as the file holds it: float32, float16, or uint16 with the bits of bf16. All must be finite there."""
    x = _to_float32(array)
    with np.errstate(over="ignore"):
        kept = {"bf16": round_to_bf16, "fp16": np.float16, "fp32": np.asarray}[dtype](x)
        finite = np.isfinite(x) & ((kept & 0x7F80) != 0x7F80 if dtype == "bf16" else np.isfinite(kept))
    if not finite.all():
        token, head, channel = (int(i) for i in np.argwhere(~finite)[0])
        raise invalid(
            name,
            f"is {x[token, head, channel]} at token {token}, head {head}, channel {channel}",
            f"finite in {dtype}",
            "fp32" if np.isfinite(x).all() else "a model without NaN and infinities",
        )
    return np.ascontiguousarray(kept)
