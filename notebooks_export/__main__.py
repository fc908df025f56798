"""python3 -m notebooks_export RESULTS.h5 --out DIR; what `mobalab export` runs."""

import argparse
import importlib.util
import os
import signal
import sys

DEBIAN_PACKAGES = {
    "h5py": "python3-h5py", "h5netcdf": "python3-h5netcdf", "xarray": "python3-xarray", "pandas": "python3-pandas",
    "matplotlib": "python3-matplotlib", "nbformat": "python3-nbformat", "jinja2": "python3-jinja2",
}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="mobalab export", description="Figures (PNG, SVG), a notebook and an HTML "
                                     "page from a results file.")
    parser.add_argument("results", metavar="RESULTS.h5", help="file written by mobalab with --out")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the figures; made when missing")
    options = parser.parse_args(arguments)

    missing = [name for name in DEBIAN_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(DEBIAN_PACKAGES[name] for name in missing)
        return _fail(f"{sys.executable} has no module {', '.join(missing)}; install the Debian package"
                     f"{'s' if len(missing) > 1 else ''} {packages}, or name another Python in MOBALAB_PYTHON")

    from notebooks_export.export import export
    from notebooks_export.results import ExportError
    try:
        written, left_out = export(options.results, options.out)
    except ExportError as error:
        return _fail(str(error))
    for reason in dict.fromkeys(left_out.values()):
        names = ", ".join(name for name in left_out if left_out[name] == reason)
        print(f"mobalab export: left out {names}: {reason}", file=sys.stderr)
    for path in written:
        _print(path)
    return 0


def _print(path):
    """A line of stdout with the bytes of the file's name, whatever the encoding of the terminal."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # not a file: the tests' capture
        print(path)
        return
    sys.stdout.flush()
    binary.write(os.fsencode(path) + b"\n")
    binary.flush()


def _fail(message):
    print(f"mobalab export: error: {message}", file=sys.stderr)
    return 2


def _end_quietly_on_signals():
    """Ctrl-C ends the program as it ends others, without a traceback; `mobalab export` holds it back until here."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


if __name__ == "__main__":
    _end_quietly_on_signals()
    sys.exit(main())
