"""python3 -m notebooks_export RESULTS.h5... --out DIR; what `mobalab export` runs."""

import argparse
import importlib.util
import os
import signal
import sys
import textwrap

DEBIAN_PACKAGES = {
    "h5py": "python3-h5py", "h5netcdf": "python3-h5netcdf", "xarray": "python3-xarray", "pandas": "python3-pandas",
    "matplotlib": "python3-matplotlib", "nbformat": "python3-nbformat", "jinja2": "python3-jinja2",
}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="mobalab export", description="Figures (PNG, SVG), a notebook and an HTML "
                                     "page from a results file.")
    parser.add_argument("results", metavar="RESULTS.h5", nargs="+", help="files written by mobalab with --out")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the figures; made when missing")
    parser.add_argument("--x", metavar="AXIS", help="axis along x, such as topk or d/B")
    parser.add_argument("--colour", metavar="AXIS", help="axis of the colours")
    parser.add_argument("--panels", metavar="AXES", help="axes of the panels, such as seq_len,cluster_size")
    parser.add_argument("--where", metavar="CONDITIONS", help='rows to draw, such as "head_dim = 128 and topk in 4,8"')
    options = parser.parse_args(arguments)

    missing = [name for name in DEBIAN_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(DEBIAN_PACKAGES[name] for name in missing)
        return _fail(f"{sys.executable} has no module {', '.join(missing)}; install the Debian package"
                     f"{'s' if len(missing) > 1 else ''} {packages}, or name another Python in MOBALAB_PYTHON")

    from notebooks_export.export import export
    from notebooks_export.results import ExportError
    try:
        result = export(options.results, options.out, x=options.x, colour=options.colour, panels=options.panels,
                        where=options.where)
    except ExportError as error:
        return _fail(str(error))
    for reason in dict.fromkeys(result.left_out.values()):
        names = ", ".join(name for name in result.left_out if result.left_out[name] == reason)
        print(f"mobalab export: left out {names}: {reason}", file=sys.stderr)
    for path, said in result.written:
        _print(path)
        for line in textwrap.wrap(said, 110, initial_indent="  ", subsequent_indent="  "):
            print(line)
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
