#!/usr/bin/env python3
"""The C and C++ examples of kernels/README.md print what it shows.

Usage: examples_test.py PROGRAM...   (in the order of the README)
"""

import re
import subprocess
import sys
import unittest
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "kernels" / "README.md"
PROGRAMS = []


class Examples(unittest.TestCase):
    def test_they_print_what_is_shown(self):
        section = README.read_text().split("## From C and C++")[1].split("\n## ")[0]
        shown = [text.split("\n", 1)[1] for text in re.findall(r"^```text\n(\$.*?)^```$", section, re.M | re.S)]
        self.assertEqual(len(shown), len(PROGRAMS))
        for program, text in zip(PROGRAMS, shown):
            with self.subTest(program):
                ran = subprocess.run([program], text=True, capture_output=True, timeout=60)
                self.assertEqual((ran.returncode, ran.stderr, ran.stdout), (0, "", text))


if __name__ == "__main__":
    PROGRAMS, sys.argv[1:] = sys.argv[1:], []
    unittest.main()
