#!/usr/bin/env python3
"""The recall experiment: python3 experiments/training/recall.py --help"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "experiments"), str(ROOT / "kernels" / "python")]

from training.torch_version import require_torch  # noqa: E402

if __name__ == "__main__":
    require_torch()
    from training.recall_command import main

    sys.exit(main())
