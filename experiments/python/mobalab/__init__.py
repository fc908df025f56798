"""mobalab from Python: will a MoBA router find the right block?

The program `mobalab` computes; here are its commands as functions with xarray datasets as results. README.md is beside
this package.
"""

import importlib

for _name in ("h5py", "numpy", "pandas", "xarray"):
    try:
        importlib.import_module(_name)
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"mobalab needs {missing.name}: pip install 'mobalab[experiments]', or the Debian package "
                                  f"python3-{missing.name}", name=missing.name) from missing

from mobalab.combining import Combination, combine
from mobalab.commands import Measurement, Validation, measure, route, simulate, theory, validate
from mobalab.counts import Interval, Statistics, Stream, intervals, statistics
from mobalab.datasets import open_results
from mobalab.errors import MobalabError, MobalabWarning
from mobalab.live import LiveStatistics, iter_simulate
from mobalab.plotting import Plot, figures, plot
from mobalab.routers import Router
from mobalab.sampling import Sampler, sample

__all__ = ["Combination", "Interval", "LiveStatistics", "Measurement", "MobalabError", "MobalabWarning", "Plot", "Router",
           "Sampler", "Statistics", "Stream", "Validation", "combine", "figures", "intervals", "iter_simulate", "measure",
           "open_results", "plot", "route", "sample", "simulate", "statistics", "theory", "validate"]
