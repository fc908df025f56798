"""The state of a training run in one file, from which it goes on with the same numbers."""

import io
from pathlib import Path

import torch

from .atomic_file import write_bytes
from .errors import InputError


def save(path, settings, model, optimizer, state):
    """Writes the checkpoint atomically.

    settings: the plain values that identify the run; a checkpoint of other settings is refused by load(). state: plain
    values and tensors that the run needs besides the model's and the optimizer's own.
    """
    content = {
        "settings": settings,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": state,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load(path, settings, model, optimizer, device):
    """Restores model and optimizer and returns the run's state, or None where there is no file."""
    if not Path(path).exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found = content["settings"]
    except Exception as failed:  # torch names damage in many ways
        rule = f"one that this program wrote ({failed})"
        raise InputError("checkpoint", path, rule, "remove it and start again") from failed
    differing = [name for name in sorted({*found, *settings}) if found.get(name) != settings.get(name)]
    if differing:
        name = differing[0]
        raise InputError(
            "checkpoint",
            path,
            f"of a run with {name} {settings.get(name)}, and it is of one with {found.get(name)}",
            "another --out",
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return content["state"]
