"""The tutorial runs from top to bottom, and a notebook's bar shows: tutorial_test.py PATH_OF_MOBALAB."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from with_program import ROOT

import nbformat

TUTORIAL = ROOT / "experiments" / "python" / "tutorial.ipynb"


def executed(path):
    """The notebook after every cell has run; an error in a cell is one here."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "executed.ipynb"
        ran = subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", path, "--output", out],
                             capture_output=True, text=True)
        if ran.returncode != 0:
            raise AssertionError(ran.stderr)
        return nbformat.read(out, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


class Tutorial(unittest.TestCase):
    def test_it_runs_and_shows_what_it_says(self):
        found = outputs(executed(TUTORIAL))
        self.assertEqual(sum("image/png" in output.get("data", {}) for output in found), 2)
        printed = "".join(output.get("text", "") for output in found)
        for text in ("theory, simulation and kernel agree", "refused: seed = 1", "nearest valid: head_dim", "best key"):
            self.assertIn(text, printed)
        self.assertFalse([output for output in found if output.get("name") == "stderr"])

    def test_the_file_holds_no_outputs(self):
        notebook = nbformat.read(TUTORIAL, as_version=4)
        nbformat.validate(notebook)
        self.assertEqual(outputs(notebook), [])
        self.assertGreater(len(notebook.cells), 20)

    def test_a_cell_that_fails_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.ipynb"
            nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert False")]), path)
            with self.assertRaises(AssertionError):
                executed(path)

    def test_a_notebook_gets_a_bar_that_is_removed(self):
        cell = ("import mobalab\nfrom mobalab import progress\nprogress.SILENT_SECONDS = 0.0\nshown = []\n"
                "update = progress.Bar.update\n"
                "progress.Bar.update = lambda self, event: (update(self, event), shown.append(self._shown))\n"
                "run = mobalab.simulate(head_dim=[32, 64], candidates=20, trials=2000)\nprint(any(shown))")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.ipynb"
            nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)]), path)
            bar, text = outputs(executed(path))
        self.assertEqual((bar.data["text/html"], text.text), ("", "True\n"))


if __name__ == "__main__":
    unittest.main()
