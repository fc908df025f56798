"""NumPy arrays as a subject gets them; torch_side.py has the same methods for torch tensors."""

import contextlib

import numpy as np

from .._errors import invalid


class NumpySide:
    kind = "numpy"

    def __init__(self, device, dtype):
        if device != "cpu":
            raise invalid("device", f"= {device}", "cpu for NumPy arrays", "cpu, or --arrays torch")
        if dtype == "bfloat16":
            raise invalid("dtype", "= bfloat16", "float32 or float16 for NumPy arrays", "float16, or --arrays torch")
        self.name, self.dtype = dtype, np.dtype(dtype)

    def give(self, array):
        return array.astype(self.dtype)

    def integers(self, values):
        return np.asarray(values, dtype=np.int32)

    def to_numpy(self, found):
        return np.asarray(found)

    def dtype_of(self, found):
        return str(np.asarray(found).dtype)

    def no_gradients(self):
        return contextlib.nullcontext()
