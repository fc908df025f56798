"""One view of torch tensors and NumPy arrays: pointer, shape, strides in elements, dtype, and how to make more."""

import sys

import numpy as np

from . import _library

_DTYPES = {"float32": 0, "bfloat16": 1, "float16": 2}


def _torch():
    return sys.modules.get("torch")


def is_torch(array):
    torch = _torch()
    return torch is not None and isinstance(array, torch.Tensor)


def is_cuda(array):
    return is_torch(array) and array.is_cuda


_codes = {}  # by dtype object: naming one takes longer than everything else here


def dtype_code(array):
    code = _codes.get(array.dtype)
    if code is None:
        name = str(array.dtype).replace("torch.", "")
        if name not in _DTYPES:
            raise TypeError(f"dtype {name}: must be one of {', '.join(_DTYPES)}")
        code = _codes[array.dtype] = _DTYPES[name]
    return code


def strides(array):
    return array.stride() if is_torch(array) else tuple(s // array.itemsize for s in array.strides)


def pointer(array):
    if array is None:
        return None
    return array.data_ptr() if is_torch(array) else array.ctypes.data


def tensor(array):
    """The C struct of a [..., tokens, heads, dim] array; a batch dimension must be dense over tokens."""
    steps, shape = strides(array), array.shape
    if steps[-1] != 1 and shape[-1] > 1:
        raise ValueError(f"stride {steps[-1]} of the last dimension: must be 1; call contiguous() first")
    if len(steps) == 4 and shape[0] > 1 and steps[0] != shape[1] * steps[1]:
        raise ValueError("the batch dimension must follow the sequence without a gap; call contiguous() first")
    return _library.Tensor(pointer(array), steps[-3], steps[-2])


def empty(like, shape, dtype=None):
    """An uninitialised array beside `like`; dtype None, "int32", "float32" or "uint8"."""
    if is_torch(like):
        torch = _torch()
        return torch.empty(shape, dtype=like.dtype if dtype is None else getattr(torch, dtype), device=like.device)
    return np.empty(shape, dtype=like.dtype if dtype is None else dtype)


def stream(array):
    return _torch().cuda.current_stream(array.device).cuda_stream if is_cuda(array) else None
