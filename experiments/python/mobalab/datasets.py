"""Results files as xarray datasets, one a table."""

import os
from pathlib import Path as FilePath
from typing import Union

import xarray as xr

import mobalab._notebooks_export  # noqa: F401
from mobalab.errors import MobalabError
from notebooks_export import results as results_file
from notebooks_export.results import PROVENANCE, ExportError


def open_results(path: Union[str, os.PathLike[str]]) -> dict[str, xr.Dataset]:
    """Tables of a results file that `out=` or `mobalab COMMAND --out` wrote, by name, the main one first.

    Columns have the names, units and definitions they have in the file (`dataset.low.attrs`); what a row does not have is
    NaN. The attributes of each dataset are those of its table and of the file: command, settings, seed, version,
    git_commit, build, device, utc_time, task. Raises MobalabError for what is no such file, or a damaged one.
    """
    try:
        _, groups, attributes = results_file.read_root(path)
        tables = {name: results_file.load_table(FilePath(path), name) for name in groups}
    except ExportError as error:
        raise MobalabError(str(error)) from None
    main = attributes.get("subcommand")
    names = sorted(tables, key=lambda name: (name != main, name))
    return {name: tables[name].assign_attrs(attributes) for name in names}


def provenance_of(dataset: xr.Dataset) -> dict[str, str]:
    """What a dataset's attributes say of the file it is from."""
    return {name: str(dataset.attrs[name]) for name in ("subcommand", *PROVENANCE) if name in dataset.attrs}
