#!python
"""Runs the program mobalab, which a wheel keeps inside the package of that name."""
import importlib.util
import os
import sys

(package,) = importlib.util.find_spec("mobalab").submodule_search_locations
program = os.path.join(package, "program", "mobalab")
os.execv(program, [program, *sys.argv[1:]])
