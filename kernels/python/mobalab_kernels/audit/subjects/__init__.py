"""What may be audited: `ours`, `ours_centred`, `flash_moba`, or MODULE:NAME of the user's own code."""

import importlib
import inspect
import os
import sys

from ..._errors import INVALID_ARGUMENT, Error, invalid

NAMED = ("ours", "ours_centred", "flash_moba")


def target(name, device, settings=None):
    """The object with the operations of a subject (see mobalab_kernels.audit), on a torch device or "cpu". Raises for
    settings that ours or flash_moba does not take: what a kernel is not made for, it cannot fail."""
    if name in NAMED:
        try:
            found = importlib.import_module(f"{__name__}.{name}").Target(device)
            if settings is not None:
                found.check_settings(settings)
            return found
        except ImportError as failed:
            rule = "a package that imports here" if name == "flash_moba" else "importable"
            raise invalid("subject", f"{name} ({failed})", rule, "ours") from failed
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise invalid("subject", repr(name), f"one of {', '.join(NAMED)} or MODULE:NAME", "my_router:route")
    return _with_operations(name, _attribute(name, module, attribute))


def _attribute(name, module, attribute):
    if os.getcwd() not in sys.path:  # as python3 -m has it; a program that calls main() may not
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as failed:  # whatever the user's module raises
        said = _said(failed)
        raise invalid("subject", f"{name} ({said})", f"a module {module} that imports", "its folder in PYTHONPATH") from failed
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise invalid("subject", name, f"a name that {module} has ({part} is none)", _near(part, found))
        found = getattr(found, part)
    return found


def _near(part, found):
    import difflib

    names = [n for n in dir(found) if not n.startswith("_")]
    return (difflib.get_close_matches(part, names, 1, 0) or ["route"])[0]


class _Function:
    """A subject that is one function."""

    def __init__(self, operation, function):
        setattr(self, operation, function)
        for name in ("ties", "centroids"):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))


def _said(failed):
    return f"{type(failed).__name__}: {failed}".splitlines()[0]


def _made(name, kind):
    try:
        return kind()
    except (Exception, SystemExit) as failed:
        rule = "a class that is made without arguments"
        raise invalid("subject", f"{name}() ({_said(failed)})", rule, "an object of it, made in its module") from failed


def _with_operations(name, found):
    if inspect.isclass(found):
        found = _made(name, found)
    if not inspect.isroutine(found):
        return found
    try:
        parameters = list(inspect.signature(found).parameters)
    except ValueError as failed:  # of some functions that are written in C
        rule = "a function whose parameters Python knows"
        raise invalid("subject", f"{name} ({failed})", rule, "a function of your own that calls it") from failed
    if parameters[:2] == ["q", "k"]:
        return _Function("attention" if parameters[2:3] == ["v"] else "route", found)
    raise Error(
        INVALID_ARGUMENT,
        f"subject {name}({', '.join(parameters)}): must be a function of (q, k, block_size, topk) or (q, k, v, block_size, "
        "topk), or an object with route, attention, summaries, gradients; nearest valid choice: name its parameters so",
    )
