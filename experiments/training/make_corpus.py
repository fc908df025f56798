#!/usr/bin/env python3
"""The text that the language models read: python3 experiments/training/make_corpus.py --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.corpus.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
