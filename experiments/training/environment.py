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
    """The torch device of "cpu", "cuda", "cuda:<n>" or "auto", if MoBA's kernels run there."""
    reason = mk.backend_available("cuda")
    if reason is None and not torch.cuda.is_available():
        reason = "torch sees no CUDA device"
    if choice == "auto":
        choice = "cpu" if reason else "cuda"
    if choice == "cpu":
        return torch.device("cpu")
    if reason:
        raise InputError("--device", choice, f"a device that is there ({reason})", "cpu")
    return torch.device(choice if ":" in choice else choice + ":0")


@contextlib.contextmanager
def on_device(device):
    """Work on the device, on a stream of its own: CUDA graphs cannot be captured on the default stream."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        yield


def device_name(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def commit():
    """Of the checkout, or of the variable MOBALAB_COMMIT where the sources are a copy without one."""
    if os.environ.get("MOBALAB_COMMIT"):
        return os.environ["MOBALAB_COMMIT"]
    found = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
