"""NumPy arrays as the checks and calls see them; _torch_arrays.py has the same functions for torch tensors."""

import numpy as np

from ._errors import invalid, invalid_type
from ._view import View

KIND = "a NumPy array"
COPY = "{}.copy()"


def takes(array):
    return isinstance(array, np.ndarray)


def view(name, array):
    """Its View; raises for arrays whose memory does not hold their values as elements with strides."""
    if isinstance(array, np.ma.MaskedArray):
        raise invalid_type(name, "is a masked array", "a plain array (a mask would be ignored)", f"{name}.filled(0)")
    dtype = array.dtype
    if not dtype.isnative:
        raise invalid_type(
            name,
            f"has dtype {dtype} of foreign byte order",
            "of this machine's byte order",
            f"{name}.astype({dtype.newbyteorder('=')})",
        )
    # Along extents of at most 1, and where there is no element, NumPy keeps whatever it likes.
    steps = tuple(s if n > 1 and array.size else 0 for n, s in zip(array.shape, array.strides))
    if any(s % dtype.itemsize for s in steps):
        raise invalid(
            name,
            f"has strides of {array.strides} bytes",
            f"a view whose strides its {dtype.itemsize}-byte elements divide",
            f"{name}.copy()",
        )
    return View(
        array.shape,
        tuple(s // dtype.itemsize for s in steps),
        array.__array_interface__["data"][0],
        str(dtype),
        dtype.itemsize,
        "cpu",
    )


def pointer(array):
    return array.__array_interface__["data"][0]


def is_writeable(array):
    return array.flags.writeable


def is_cuda(array):
    return False


def empty(like, shape, dtype=None):
    return np.empty(shape, dtype=like.dtype if dtype is None else dtype)


def to_host(*arrays):
    """int64 copies of small integer arrays."""
    return [array.astype(np.int64) for array in arrays]


def refuse_gradients(function, arrays):
    """NumPy arrays carry none."""


def call_on_device(like, call):
    return call()


def stream(array):
    return None
