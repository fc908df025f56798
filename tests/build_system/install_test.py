"""`cmake --install` gives somebody else's project headers, libraries and find_package(mobalab).

Usage: install_test.py CMAKE CXX_COMPILER BUILD_DIR
The examples of kernels/README.md are built against an installed copy, away from the sources, and print what is shown.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

CMAKE, COMPILER, BUILD = sys.argv[1:4]
HERE = pathlib.Path(__file__).resolve().parent
KERNELS = HERE.parents[1] / "kernels"


class Install(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="mobalab_test_")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_command(self, *command):
        ran = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        self.assertEqual(ran.returncode, 0, ran.stdout)
        return ran.stdout

    def test_examples_build_against_an_installed_copy(self):
        prefix, build = self.folder / "prefix", self.folder / "build"
        self.run_command(CMAKE, "--install", BUILD, "--prefix", prefix, "--component", "development")
        self.run_command(
            CMAKE,
            "-S",
            HERE / "installed",
            "-B",
            build,
            "-G",
            "Ninja",
            f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_CXX_COMPILER={COMPILER}",
            f"-DEXAMPLES={KERNELS / 'examples'}",
        )
        self.assertNotIn(str(HERE.parents[1]), "".join(p.read_text() for p in prefix.rglob("*.cmake")))
        self.run_command(CMAKE, "--build", build)
        section = (KERNELS / "README.md").read_text().split("## From C and C++")[1].split("\n## ")[0]
        shown = [text.split("\n", 1)[1] for text in re.findall(r"^```text\n(\$.*?)^```$", section, re.M | re.S)]
        self.assertEqual([self.run_command(build / name) for name in ("find_block", "find_block_cc")], shown)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
