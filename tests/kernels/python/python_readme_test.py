"""The examples of kernels/python/README.md run as they stand; those that import torch only where it is installed.

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
        self.assertEqual(len(examples), 5)
        environment = dict(os.environ, PYTHONPATH=str(FOLDER), MOBALAB_KERNELS_LIBRARY=LIBRARY)
        for example in examples:
            if "import torch" in example and importlib.util.find_spec("torch") is None:
                print("skipped the example with torch: it is not installed")
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
