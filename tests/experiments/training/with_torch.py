"""What tests of training need first: the library, the paths, and torch, without which they are skipped (exit code 77)."""

import multiprocessing
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SKIPPED = 77

if multiprocessing.current_process().name == "MainProcess":  # workers import the test too, and have the variable already
    os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv.pop(1)
sys.path[:0] = [str(ROOT / "experiments"), str(ROOT / "kernels" / "python")]

from training.torch_version import missing_torch  # noqa: E402

if missing_torch():
    print(f"skipped: {missing_torch()}")
    sys.exit(SKIPPED)
