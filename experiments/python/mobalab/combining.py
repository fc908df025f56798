"""combine: several results files of simulate as one."""

import tempfile
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Optional

import xarray as xr

from mobalab.datasets import open_results
from mobalab.errors import MobalabError
from mobalab.program import Program
from mobalab.settings import Number, Path, path_of, paths_of, switch, word_of


@dataclass(frozen=True)
class Combination:
    """Counts of several runs of simulate, added."""

    points: xr.Dataset
    """sums and their intervals, as simulate() gives them"""
    streams: xr.Dataset
    """what was added: point (row of `points`), seed, trials, misses, git_commit"""


def combine(*files: Path, confidence: Optional[Number] = None, out: Optional[Path] = None, force: bool = False) -> Combination:
    """Adds the counts of results files that simulate(..., out=...) or combine(..., out=...) wrote of the same points with
    different seeds; `mobalab combine --help` says what may be added.

    `confidence` is that of the first file without it. Raises MobalabError; so does a dataset, which is no file: of datasets add
    `statistics(dataset)`.
    """
    datasets: list[Any] = [file for file in files if isinstance(file, (xr.Dataset, Combination))]
    if datasets:
        raise MobalabError("files: a dataset is no results file; name files that simulate(..., out=...) wrote, or add "
                           "statistics(dataset)")
    if switch("force", force) and out is None:
        raise MobalabError("force: is about a results file; name it with out")
    with tempfile.TemporaryDirectory(prefix="mobalab-") as folder:
        path = FilePath(folder) / "results.h5" if out is None else FilePath(path_of("out", out))
        words = ["combine", *(f"./{name}" if name.startswith("-") else name for file in files
                              for name in paths_of("files", file)), f"--out={path}"]
        words += [] if confidence is None else [f"--confidence={word_of('confidence', confidence)}"]
        with Program([*words, *(["--force"] if force else [])]) as program:
            for _ in program.events():
                pass
        tables = open_results(path)
    return Combination(tables["simulate"], tables["streams"])
