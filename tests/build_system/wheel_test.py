"""`pip install .`: one command, and the Python examples run in a fresh virtual environment that has nothing else.

Usage: wheel_test.py BUILD_DIR
The wheel takes its library from BUILD_DIR, which is what a wheel would compile again. Skipped with a message where pip
reaches no package index.
"""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import venv
import zipfile

BUILD = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command, **options):
    """(exit code, what it printed); without what would lend it this clone or another environment."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MOBALAB", "CMAKE"))
    }
    ran = subprocess.run(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500, env=environment, **options
    )
    return ran.returncode, ran.stdout


def numpy_examples():
    text = (ROOT / "kernels/python/README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    return [example for example in examples if "import torch" not in example]


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="mobalab_test_")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        try:
            venv.create(cls.folder / "venv", with_pip=True)
        except subprocess.CalledProcessError as failed:
            raise unittest.SkipTest(f"no virtual environment can be made here (python3-venv): {failed}") from failed
        cls.python = cls.folder / "venv/bin/python"
        code, text = run(
            cls.python, "-m", "pip", "download", "--no-deps", "-d", cls.folder / "index", "scikit-build-core"
        )
        if code != 0:
            why = f"pip downloads nothing here: {text.strip().splitlines()[-1]}"
            print(f"skipped: {why}", flush=True)
            raise unittest.SkipTest(why)

    def pip(self, *arguments):
        code, text = run(self.python, "-m", "pip", *arguments, cwd=self.folder)
        self.assertEqual(code, 0, text)

    def test_readme_examples_run_after_one_command(self):
        self.pip(
            "wheel",
            "--no-deps",
            "-w",
            self.folder / "wheels",
            "--config-settings",
            f"cmake.define.MOBALAB_PREBUILT={BUILD}",
            ROOT,
        )
        (wheel,) = (self.folder / "wheels").iterdir()
        self.assertRegex(wheel.name, r"^mobalab-[\d.]+-py3-none-linux_\w+\.whl$")  # of any Python, for this platform
        names = zipfile.ZipFile(wheel).namelist()
        self.assertIn("mobalab_kernels/libmobalab_kernels.so", names)
        self.assertEqual([n for n in names if n.endswith((".h", ".a", ".cmake"))], [])
        self.pip("install", wheel)
        self.assertGreaterEqual(len(numpy_examples()), 3)
        for example in numpy_examples():
            code, text = run(self.python, "-c", example, cwd=self.folder)
            self.assertEqual(code, 0, text)
        self.mobalab_imports(with_program="mobalab/program/mobalab" in names)
        if (BUILD / "bin" / "mobalab").exists():
            self.assertTrue({"mobalab/program/mobalab", "notebooks_export/__main__.py"} <= {*names})
            code, text = run(self.python.with_name("mobalab"), "theory", "--topk", "none", cwd=self.folder)
            self.assertEqual(code, 2, text)  # the program's own words, and its exit code
            self.assertIn("topk = none", text)

    def mobalab_imports(self, with_program):
        """The installed package: alone it names what it needs; beside what this Python has it calls its own program."""
        code, text = run(self.python, "-c", "import mobalab", cwd=self.folder)
        self.assertNotEqual(code, 0, text)
        self.assertIn("pip install 'mobalab[experiments]'", text.splitlines()[-1])
        if not all(importlib.util.find_spec(name) for name in ("h5netcdf", "h5py", "numpy", "pandas", "xarray")):
            print("not tested: what the package mobalab needs (pandas, xarray, h5py, h5netcdf) is not here", flush=True)
            return
        (site,) = (self.folder / "venv/lib").glob("python*/site-packages")
        words = f"import sys; sys.path.append({str(site)!r}); import mobalab; print(mobalab.__file__)"
        if with_program:
            words += "; print(mobalab.program.find_program(), mobalab.theory().sizes['point'])"
        code, text = run(sys.executable, "-c", words, cwd=self.folder)
        self.assertEqual(code, 0, text)
        self.assertIn(f"{site}/mobalab/__init__.py", text)
        if with_program:
            self.assertIn(f"{site}/mobalab/program/mobalab 1", text)

    def test_a_folder_without_the_library_is_refused(self):
        code, text = run(
            self.python,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "-w",
            self.folder / "none",
            "--config-settings",
            f"cmake.define.MOBALAB_PREBUILT={self.folder}",
            ROOT,
        )
        self.assertNotEqual(code, 0)
        self.assertIn("must be a build folder with lib/libmobalab_kernels.so", " ".join(text.split()))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
