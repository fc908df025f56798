"""Type hints hold: mypy --strict on the package. Skipped with a message where there is no mypy."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "experiments" / "python" / "mobalab"
MYPY = shutil.which("mypy") or (importlib.util.find_spec("mypy") and "mypy")


@unittest.skipIf(MYPY is None, "mypy is not installed: type hints are not checked")
class Types(unittest.TestCase):
    def check(self, path):
        command = [MYPY] if MYPY != "mypy" else [sys.executable, "-m", "mypy"]
        return subprocess.run([*command, "--strict", "--ignore-missing-imports", "--follow-imports=silent", "--cache-dir=/dev/null",
                               "--python-version=3.11", str(path)], cwd=PACKAGE.parent, capture_output=True, text=True)

    def test_the_package_is_typed(self):
        self.assertTrue((PACKAGE / "py.typed").exists())
        ran = self.check(PACKAGE)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)

    def test_a_wrong_call_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            for line, found in (("mobalab.theory(heads_dim=64)", "heads_dim"), ("mobalab.simulate(force=3)", "force")):
                path = Path(folder) / "call.py"
                path.write_text(f"import mobalab\n\n{line}\n")
                ran = self.check(path)
                self.assertEqual(ran.returncode, 1, ran.stdout + ran.stderr)
                self.assertIn(found, ran.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
