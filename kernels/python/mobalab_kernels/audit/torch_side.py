"""torch tensors as a subject gets them; numpy_side.py has the same methods for NumPy arrays."""

import numpy as np
import torch

from .._errors import invalid


class TorchSide:
    kind = "torch"

    def __init__(self, device, dtype):
        try:
            self.device = torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as failed:
            reason = str(failed).splitlines()[0]
            raise invalid("device", f"= {device}", f"a device that torch has ({reason})", "cpu") from failed
        self.name, self.dtype = dtype, getattr(torch, dtype)

    def give(self, array):
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.dtype).to(self.device)

    def leaf(self, array):
        return self.give(array).requires_grad_()

    def integers(self, values):
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    def to_numpy(self, found):
        if not isinstance(found, torch.Tensor):
            return np.asarray(found)
        found = found.detach().cpu()
        return (found.float() if found.dtype == torch.bfloat16 else found).numpy()

    def dtype_of(self, found):
        return str(found.dtype).replace("torch.", "")

    def no_gradients(self):
        return torch.no_grad()
