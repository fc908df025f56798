"""Builds the notebook that reads a results file again and draws every figure of it."""

import json
import os
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PACKAGE_ROOT = Path(__file__).resolve().parent.parent

INTRODUCTION = """\
# Will a MoBA router find the right block?

This notebook reads the results file again and draws every figure from it. Run it from top to bottom. If you move it,
mend the two paths of the next cell."""

SETUP = """\
%matplotlib inline
import sys

RESULTS = {results}  # the results file
PACKAGE = {package}  # the folder that holds notebooks_export/

sys.path.insert(0, PACKAGE)
import pandas as pd
from notebooks_export.figures import FIGURES, agreement
from notebooks_export.results import open_results

figures = {{figure.name: figure for figure in FIGURES}}
results = open_results(RESULTS)
pd.Series(results.provenance(), name="what made this file").to_frame()"""

SUMMARY_TEXT = """\
## Do they agree?

One line a kind of comparison. Adjusted p-values hold for the whole table at once (Holm); a kind disagrees when its
smallest one is below the family-wise error rate."""

OWN_TEXT = """\
## Your own look

Each table of the file is an ordinary xarray dataset, one group a table."""

OWN_CODE = """\
import xarray as xr

table = xr.open_dataset(RESULTS, engine="h5netcdf", group={group}).to_dataframe()
table.describe().T"""


def build(results, figures, out):
    """Bytes of a notebook to be saved in folder `out`, with a section for each of `figures` (FigureSpec)."""
    setup = SETUP.format(results=_relative(results.path, out), package=_relative(PACKAGE_ROOT, out))
    cells = [new_markdown_cell(INTRODUCTION), new_code_cell(setup)]
    if "validate_comparisons" in results.tables:
        cells += [new_markdown_cell(SUMMARY_TEXT), new_code_cell("pd.DataFrame(agreement.summary(results))")]
    for figure in figures:
        cells += [new_markdown_cell(f"## {figure.title}\n\n{figure.text}"),
                  new_code_cell(f'figures["{figure.name}"].draw(results)')]
    cells += [new_markdown_cell(OWN_TEXT), new_code_cell(OWN_CODE.format(group=json.dumps(next(iter(results.tables)))))]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02}"  # nbformat's own are random
    notebook = new_notebook(cells=cells, metadata={
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    return nbformat.writes(notebook).encode() + b"\n"


def _relative(path, folder):
    """A Python literal. Bytes of a name that are no UTF-8 stand as the lone surrogates Python opens files by."""
    name = os.path.relpath(Path(path).resolve(), Path(folder).resolve())
    encodable = name.encode("utf-8", "ignore").decode() == name
    return json.dumps(name, ensure_ascii=False) if encodable else ascii(name)
