"""torch tensors as the checks and calls see them; _numpy_arrays.py has the same functions for NumPy arrays."""

import numpy as np
import torch
from torch.autograd import forward_ad

from ._errors import invalid, invalid_type
from ._view import View

KIND = "a torch tensor"
COPY = "{}.clone(memory_format=torch.contiguous_format)"

_ROW_BYTES = 16  # on CUDA devices rows are read in pieces of this size
_names = {}  # of dtypes: making one takes longer than looking it up


def takes(array):
    return isinstance(array, torch.Tensor)


def check_kind(name, tensor):
    """Raises for what is no strided tensor on a device that has kernels."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        kind = "nested" if tensor.is_nested else str(tensor.layout)
        raise invalid_type(name, f"is a {kind} tensor", "a dense (strided) one", f"{name}.to_dense()")
    device = tensor.device
    if device.type not in ("cpu", "cuda"):
        raise invalid(name, f"is on device {device}", "on a CPU or CUDA device", f"{name}.cpu()")


def view(name, tensor):
    """Its View; raises for tensors whose memory does not hold their values as elements with strides."""
    check_kind(name, tensor)
    device = tensor.device
    if tensor.is_neg() or tensor.is_conj():
        raise invalid(
            name,
            "is a lazy conjugate or negation",
            "a tensor whose memory holds its values",
            f"{name}.resolve_conj().resolve_neg()",
        )
    dtype = tensor.dtype
    if dtype not in _names:
        _names[dtype] = str(dtype).replace("torch.", "")
    return View(tuple(tensor.shape), tensor.stride(), tensor.data_ptr(), _names[dtype], tensor.element_size(), device)


def pointer(tensor):
    return tensor.data_ptr()


def is_writeable(tensor):
    return True


def is_cuda(tensor):
    return tensor.is_cuda


def empty(like, shape, dtype=None):
    return torch.empty(shape, dtype=like.dtype if dtype is None else getattr(torch, dtype), device=like.device)


def to_host(*tensors):
    """int64 copies of small integer tensors on the host: one transfer, and one wait where they are on a GPU."""
    together = torch.cat([t.detach() for t in tensors]).cpu().numpy().astype(np.int64)
    return np.split(together, np.cumsum([t.shape[0] for t in tensors])[:-1])


def has_tangent(tensors):
    """Whether one of them (or None) carries a derivative of forward-mode automatic differentiation."""
    if forward_ad._current_level < 0:
        return False
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def refuse_gradients(function, tensors):
    """Raises where autograd is recording: the results would be cut off from it without a word."""
    if has_tangent(tensors.values()):
        name = next(name for name, tensor in tensors.items() if has_tangent([tensor]))
        raise invalid(name, "has a tangent", f"without one in {function}: there is no forward mode", f"{name}.detach()")
    if not torch.is_grad_enabled():
        return
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            raise invalid(
                name,
                "requires grad",
                f"without it in {function}, which autograd does not follow",
                f"moba_attention (differentiable), {name}.detach() or torch.no_grad()",
            )


def call_on_device(like, call):
    """call() with the tensor's CUDA device current."""
    if not like.is_cuda or torch.cuda.current_device() == like.device.index:
        return call()
    with torch.cuda.device(like.device):
        return call()


def stream(tensor):
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else None


def has_memory(tensor):
    """Not so inside transforms of torch.func."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


def contiguous(tensor):
    """The tensor, or a contiguous copy of it; what has no strides is left to the checks, which refuse it."""
    return tensor.contiguous() if tensor.layout is torch.strided and not tensor.is_nested else tensor


def readable(tensor):
    """The tensor, or a copy of it where the kernels cannot read it as it lies: a row must be contiguous and, on CUDA
    devices, start at a multiple of 16 bytes. Every other stride is taken, 0 included."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.dim() == 0:
        return tensor  # the checks refuse it
    tensor = tensor.resolve_neg()
    steps, shape = tensor.stride(), tensor.shape
    good = shape[-1] <= 1 or steps[-1] == 1
    if good and tensor.is_cuda:
        elements = _ROW_BYTES // tensor.element_size()
        good = tensor.data_ptr() % _ROW_BYTES == 0 and not any(s % elements for n, s in zip(shape[:-1], steps) if n > 1)
    return tensor if good else tensor.clone(memory_format=torch.contiguous_format)
