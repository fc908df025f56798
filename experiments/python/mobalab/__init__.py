"""mobalab from Python: will a MoBA router find the right block?

The program `mobalab` computes; here are its commands as functions with xarray datasets as results. README.md is beside
this package.
"""

from mobalab.commands import Measurement, Validation, measure, route, simulate, theory, validate
from mobalab.datasets import open_results
from mobalab.errors import MobalabError, MobalabWarning

__all__ = ["Measurement", "MobalabError", "MobalabWarning", "Validation", "measure", "open_results", "route", "simulate",
           "theory", "validate"]
