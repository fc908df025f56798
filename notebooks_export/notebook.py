"""Builds the notebook that reads a results file again and draws every figure of it."""

import json
import os
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PACKAGE_ROOT = Path(__file__).resolve().parent.parent

INTRODUCTION = """\
# Will a MoBA router find the right block?

This notebook reads the results files again and draws every figure from them, with the options that `mobalab export` was
called with. Run it from top to bottom. If you move it, mend the paths of the next cell; for another view change what
`open_study` is told: `x="topk"`, `colour="head_dim"`, `panels="seq_len,cluster_size"`, `where="topk in 4,8"`."""

SETUP = """\
%matplotlib inline
import sys

RESULTS = [{results}]  # the results files
PACKAGE = {package}  # the folder that holds notebooks_export/

sys.path.insert(0, PACKAGE)
import pandas as pd
from IPython.display import Markdown, display
from notebooks_export.figures import FIGURES, agreement
from notebooks_export.study import open_study

figures = {{figure.name: figure for figure in FIGURES}}
study = open_study(RESULTS{options})


def show(name, place=0):
    drawing = figures[name].draw(study, place)
    display(drawing.picture)
    display(Markdown(drawing.caption))


pd.DataFrame({{label: results.provenance() for label, results in zip(study.labels, study.files)}})"""

SUMMARY_TEXT = """\
## Do they agree?

One line a kind of comparison. Adjusted p-values hold for the whole table at once (Holm); a kind disagrees when its
smallest one is below the family-wise error rate."""

OWN_TEXT = """\
## Your own look

Each table of the file is an ordinary xarray dataset, one group a table."""

OWN_CODE = """\
import xarray as xr

table = xr.open_dataset(RESULTS[0], engine="h5netcdf", group={group}).to_dataframe()
table.describe().T"""


def build(study, figures, out):
    """Bytes of a notebook to be saved in folder `out`, with a section for each of `figures`: (FigureSpec, file's place)."""
    results = ", ".join(_relative(results.path, out) for results in study.files)
    options = "".join(f", {name}={json.dumps(value, ensure_ascii=False)}" for name, value in study.view.options().items())
    setup = SETUP.format(results=results, package=_relative(PACKAGE_ROOT, out), options=options)
    cells = [new_markdown_cell(INTRODUCTION), new_code_cell(setup)]
    for place, results in enumerate(study.files):
        if "validate_comparisons" in results.tables:
            cells += [new_markdown_cell(SUMMARY_TEXT),
                      new_code_cell(f"pd.DataFrame(agreement.summary(study.files[{place}]))")]
    for figure, place in figures:
        behind = f", {place}" if place else ""
        cells += [new_markdown_cell(f"## {figure.title}\n\n{figure.text}"), new_code_cell(f'show("{figure.name}"{behind})')]
    group = next(iter(study.files[0].tables))
    cells += [new_markdown_cell(OWN_TEXT), new_code_cell(OWN_CODE.format(group=json.dumps(group)))]
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
