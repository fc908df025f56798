"""What a run ran on."""

import contextlib
import os
import platform
import subprocess
from pathlib import Path

import torch

import mobalab_kernels as mk

from .errors import InputError


def device_of(choice):
    """The torch device of "cpu", "cuda" (the first) or "auto", if MoBA's kernels run there."""
    if choice not in ("cpu", "cuda", "auto"):
        raise InputError("--device", choice, "cpu, cuda or auto", "auto")
    try:
        reason = mk.backend_available("cuda")
    except (OSError, mk.Error) as failed:
        raise InputError(
            "MOBALAB_KERNELS_LIBRARY",
            os.environ.get("MOBALAB_KERNELS_LIBRARY", "unset"),
            f"the library of the kernels ({failed})",
            "cmake --build --preset release --target mobalab_kernels_c",
        ) from failed
    if reason is None and not torch.cuda.is_available():
        reason = "torch sees no CUDA device"
    if choice == "auto":
        choice = "cpu" if reason else "cuda"
    if choice == "cpu":
        return torch.device("cpu")
    if reason:
        raise InputError("--device", choice, f"a device that is there ({reason})", "cpu")
    return torch.device("cuda:0")


@contextlib.contextmanager
def on_device(device):
    """Work on the device: on a GPU on a stream of its own, as CUDA graphs cannot be captured on the default one; on a
    CPU with one thread, as models this small wait for each other's threads most of the time (30 times as long on a
    machine that is busy), and sums do not depend on the number of cores then."""
    if device.type != "cuda":
        torch.set_num_threads(1)
        yield
        return
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        yield


def device_name(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU"


def commit():
    """Of the checkout, or of the variable MOBALAB_COMMIT where the sources are a copy without one."""
    if os.environ.get("MOBALAB_COMMIT"):
        return os.environ["MOBALAB_COMMIT"]
    found = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
