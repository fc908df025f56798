"""python3 -m mobalab_kernels.audit SUBJECT: see --help."""

import argparse
import platform
import shlex
import sys
import traceback
from pathlib import Path

import numpy as np

from .._errors import INVALID_ARGUMENT, Error, invalid
from . import case as cases
from . import report
from .checks import CHECKS
from .files import remove, write_bytes
from .finding import NOT_OFFERED
from .page import page
from .run import audit, chosen, exit_code, replay
from .settings import Settings
from .subject import Refused, Subject, arrays_of
from .subjects import target

UNEXPECTED = 3


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Error(INVALID_ARGUMENT, f"{message}; see --help")


def _parser():
    d = Settings()
    parser = _Parser(
        prog="mobalab audit",
        description="Runs a router or a MoBA attention through the checks that the kernels of this project must pass.",
        epilog="Exit code: 0 nothing failed, 1 a check failed or nothing could be checked, 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("subject", help="ours, ours_centred, flash_moba (the official package), or MODULE:NAME of your own")
    parser.add_argument("--out", default="audit", help="folder of results.json, index.html, worst/ (default: audit)")
    parser.add_argument("--replay", metavar="FILE", help="run one input again that an audit wrote; writes nothing")
    parser.add_argument("--arrays", choices=("numpy", "torch"), default="numpy", help="what the subject gets (default: numpy)")
    parser.add_argument("--device", default="cpu", help="of torch tensors, such as cuda (default: cpu)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default=d.dtype, help=f"(default: {d.dtype})")
    parser.add_argument("--only", metavar="CHECKS", help='checks to run, such as "top-k,repeats"; without it all')
    for name, text in (
        ("seq_len", "tokens of most inputs"),
        ("heads", "query heads"),
        ("heads_k", "key heads"),
        ("head_dim", "channels of a head"),
        ("block_size", "keys of a block"),
        ("topk", "blocks a row keeps, its own included"),
        ("seed", "of every draw"),
    ):
        default = getattr(d, name)
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default, help=f"{text} (default: {default})")
    return parser


def _versions(subject):
    found = {"python": platform.python_version(), "numpy": np.__version__}
    for name in ("torch", "flash_moba"):
        if name in sys.modules:
            found[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return found


def _replay_command(given, file):
    words = ["mobalab", "audit", given.subject, "--replay", str(file)]
    for name, plain in (("arrays", "numpy"), ("device", "cpu")):
        words += [f"--{name}", getattr(given, name)] if getattr(given, name) != plain else []
    return shlex.join(words)


def _worst_file(folder, check):
    return folder / "worst" / (check.replace(" ", "_").replace("-", "_") + ".npz")


def _write_worst(folder, verdicts):
    """{check: file}; of every check that ran. Those of an earlier audit go: they belong to no verdict of this one."""
    files = {}
    for verdict in verdicts:
        if verdict.case is not None:
            file = _worst_file(folder, verdict.check)
            cases.save(file, verdict.case)
            files[verdict.check] = str(file)
    for check in CHECKS:
        if check.NAME not in files:
            remove(_worst_file(folder, check.NAME))
    return files


def _subject(given, settings):
    arrays = arrays_of(given.arrays, given.device, settings.dtype)
    return Subject(given.subject, target(given.subject, given.device, settings), arrays)


def _run_replay(given):
    if given.only is not None:
        raise invalid("--only", f"= {given.only}", "left out with --replay: the file has its check", "no flag")
    for name, plain in Settings()._asdict().items():
        if getattr(given, name) != plain:
            flag = f"--{name.replace('_', '-')}"
            raise invalid(flag, f"= {getattr(given, name)}", "left out with --replay: the file has it", "no flag")
    case = cases.load(given.replay)
    subject = _subject(given, case.settings)
    try:
        verdict = replay(subject, case)
    except Refused as refused:
        found = f"{given.replay} ({refused})"
        raise invalid("replay", found, "a file that an audit wrote", "one of its folder worst") from None
    print(f"{given.replay}: {case.check}, {case.name}, seed {case.settings.seed}")
    print("\n".join(report.table([verdict], {})))
    return exit_code([verdict])


def _run_audit(given):
    settings = Settings(**{name: getattr(given, name) for name in Settings._fields}).checked()
    checks = chosen(None if given.only is None else [name.strip() for name in given.only.split(",")])
    subject = _subject(given, settings)
    folder = Path(given.out)
    if folder.exists() and not folder.is_dir():
        raise invalid("out", f"= {given.out}", "a folder", f"{given.out}.audit")
    shown = lambda name: print(f"\r{name:<40}", end="", file=sys.stderr, flush=True)  # noqa: E731
    verdicts = audit(subject, settings, checks, shown if sys.stderr.isatty() else lambda name: None)
    if sys.stderr.isatty():
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)
    files = _write_worst(folder, verdicts)
    found = report.record(subject, settings, verdicts, files, _versions(subject))
    commands = {check: _replay_command(given, file) for check, file in files.items()}
    write_bytes(folder / "results.json", report.as_json(found))
    write_bytes(folder / "index.html", page(found, commands))
    numbers = ", ".join(f"{name} {getattr(settings, name)}" for name in settings._fields)
    print(f"{given.subject}: {numbers}")
    print("\n".join(report.table(verdicts, files)))
    print(report.summary(given.subject, verdicts))
    if all(verdict.status == NOT_OFFERED for verdict in verdicts):
        print(f"{given.subject}: nothing could be checked", file=sys.stderr)
    return exit_code(verdicts)


def main(arguments=None):
    try:
        given = _parser().parse_args(arguments)
        return _run_replay(given) if given.replay is not None else _run_audit(given)
    except (Error, FileNotFoundError) as refused:
        print(f"mobalab audit: error: {refused}", file=sys.stderr)
        return 2


def entry(arguments=None):
    """main(), with an exit code of its own for what nobody expected: Python's is 1, a check that failed."""
    try:
        return main(arguments)
    except Exception:
        traceback.print_exc()
        return UNEXPECTED


if __name__ == "__main__":
    sys.exit(entry())
