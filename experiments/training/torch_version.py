"""PyTorch is optional for the project: what needs it says so in one line."""

import sys

LEAST = (2, 4)  # torch.nn.functional.rms_norm


def missing_torch():
    """None, or why training cannot run here."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed; nearest valid choice: pip install torch"
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < LEAST:
        return f"PyTorch is {torch.__version__}: must be 2.4 or newer; nearest valid choice: pip install --upgrade torch"
    return None


def require_torch():
    """Ends the process with exit code 2 where training cannot run."""
    reason = missing_torch()
    if reason:
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)
