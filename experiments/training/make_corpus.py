#!/usr/bin/env python3
"""The text that the language models read: python3 experiments/training/make_corpus.py --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":
    try:
        from training.corpus.command import main
    except ModuleNotFoundError as missing:
        nearest = "python3 -m pip install tokenizers numpy lxml"
        print(f"error: Python module {missing.name} is not installed; nearest valid choice: {nearest}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main())
