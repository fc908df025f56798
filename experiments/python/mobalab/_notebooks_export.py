"""Where the package `notebooks_export` is: installed beside this one, or in the clone this one lies in."""

import importlib.util
import sys

from mobalab.program import CLONE

if importlib.util.find_spec("notebooks_export") is None and (CLONE / "notebooks_export" / "__init__.py").exists():
    sys.path.append(str(CLONE))
