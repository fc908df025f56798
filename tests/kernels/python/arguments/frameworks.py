"""NumPy and torch as the table sees them: arrays from values, values from arrays, views."""

import numpy as np

try:
    import torch
except ImportError:
    torch = None


class Numpy:
    name, device, dtype, head_dim = "numpy", "cpu", "float32", 8
    other_dtypes = ("float16",)
    integers = {name: np.dtype(name) for name in ("int32", "int64", "uint32")}
    wrong_dtypes = ("float64", "int32", "int64", "uint8", "bool", "complex64", "object", "str")

    def array(self, values, dtype=None):
        return np.array(values, dtype=dtype or self.dtype, order="C")

    def double(self, array):
        return np.array(array, dtype=np.float64)

    def permute(self, array, axes):
        return array.transpose(axes)

    def expand(self, array, shape):
        return np.broadcast_to(array, shape)

    def windows(self, flat, shape, strides):
        return np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in strides])

    def synchronize(self):
        pass


class Torch:
    integers = {"int32": "int32", "int64": "int64"}
    wrong_dtypes = ("float64", "int32", "int64", "uint8", "bool", "complex64")

    def __init__(self, device):
        self.name, self.device = f"torch-{device}", device
        self.dtype, self.head_dim = ("float16", 32) if device == "cuda" else ("float32", 8)
        self.other_dtypes = ("bfloat16",) if device == "cuda" else ("float16", "bfloat16")

    def array(self, values, dtype=None):
        values = np.array(values, order="C")
        values = values.astype(np.float32) if values.dtype == np.float64 else values
        return torch.from_numpy(values).to(getattr(torch, dtype or self.dtype)).to(self.device)

    def double(self, array):
        return array.detach().double().cpu().contiguous().numpy()

    def permute(self, array, axes):
        return array.permute(axes)

    def expand(self, array, shape):
        return array.expand(shape)

    def windows(self, flat, shape, strides):
        return flat.as_strided(shape, strides)

    def synchronize(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def framework(name):
    return Numpy() if name == "numpy" else Torch(name.split("-")[1])


def missing(name):
    """Why this framework cannot run here, or None."""
    if name == "numpy":
        return None
    if torch is None:
        return "no torch"
    if name == "torch-cuda" and not torch.cuda.is_available():
        return "no CUDA device"
    return None
