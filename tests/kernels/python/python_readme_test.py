"""The examples of kernels/python/README.md run as they stand; those that import torch or transformers only where these
are installed.

Usage: python_readme_test.py LIBRARY
"""

import importlib.util
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "kernels" / "python"
LIBRARY = sys.argv.pop(1)


class Readme(unittest.TestCase):
    def test_examples_run(self):
        examples = re.findall(r"^```python\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.MULTILINE | re.DOTALL)
        self.assertEqual(len(examples), 10)
        path = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = dict(os.environ, PYTHONPATH=path, MOBALAB_KERNELS_LIBRARY=LIBRARY)
        for example in examples:
            needed = [name for name in ("torch", "transformers") if f"import {name}" in example]
            missing = [name for name in needed if importlib.util.find_spec(name) is None]
            if missing:
                print(f"skipped the example with {', '.join(needed)}: {missing[0]} is not installed")
                continue
            ran = subprocess.run(
                [sys.executable, "-"],
                input=example,
                text=True,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=300,
            )
            self.assertEqual(ran.returncode, 0, ran.stdout)


if __name__ == "__main__":
    unittest.main()
