"""Every argument of every function of the Python module: shape, dtype, device, strides, contents, range; a table.

Usage: python_arguments_test.py LIBRARY [numpy | torch-cpu | torch-cuda] [ROW...]

A row is a call with one odd argument. It must give MoBA's answer (compared in float64), or one error of the right kind
that names what is wrong. Rows run in processes apart, each of which serves a few (torch-cuda: all, since a GPU takes
long to start on) and is replaced after a failure: a crash fails its row only. ROW: only rows whose "function: label"
has one of these texts. On a GPU machine, with every access checked:

    compute-sanitizer --target-processes all --error-exitcode 9 \\
        python3 tests/kernels/python/python_arguments_test.py LIBRARY torch-cuda
"""

import os
import sys
from pathlib import Path

if "torch-cuda" in sys.argv:  # every tensor an allocation of its own, so that memcheck sees what leaves it
    os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
os.environ["MOBALAB_KERNELS_LIBRARY"] = sys.argv[1]
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "kernels" / "python"))

import mobalab_kernels as mk  # noqa: E402
from arguments import calls, frameworks, table, workers  # noqa: E402

UNSUPPORTED = 2
DEVICE_ERROR = 5
SKIPPED = 77  # CTest's SKIP_RETURN_CODE


class Judge:
    """Runs a row by its number; picklable, so that a fresh process makes the same table."""

    def __init__(self, framework):
        self.framework = framework

    def __getstate__(self):
        return self.framework

    def __setstate__(self, framework):
        self.__init__(framework)

    def rows(self):
        if not hasattr(self, "_rows"):
            self._fw = frameworks.framework(self.framework)
            self._rows = table.rows(self._fw)
        return self._rows

    def __call__(self, number):
        row = self.rows()[number]
        fw = self._fw
        arguments = row.arguments(fw)
        wanted = row.wanted(fw, arguments) if callable(row.wanted) and not isinstance(row.wanted, type) else row.wanted
        try:
            result = calls.run(fw, row.function, arguments)
            fw.synchronize()
        except Exception as error:
            return self._judge_error(wanted, error)
        if wanted == table.ANY:
            return None
        if wanted not in (table.RIGHT, table.RIGHT_IF_TAKEN):
            return f"taken, must be refused: {wanted}"
        try:
            calls.verify(fw, row.function, arguments, result)
        except calls.Wrong as wrong:
            return str(wrong)
        return None

    def _judge_error(self, wanted, error):
        text = f"{type(error).__name__}: {error}"
        if wanted == table.RIGHT_IF_TAKEN and getattr(error, "code", None) == UNSUPPORTED:
            return None
        if wanted in (table.RIGHT, table.RIGHT_IF_TAKEN):
            return f"refused, must be right: {text}"
        if getattr(error, "code", None) == DEVICE_ERROR:
            return f"failed on the device: {text}"
        if not isinstance(error, mk.Error) and not (isinstance(error, TypeError) and "keyword argument" in text):
            return f"raised an error of another kind: {text}"
        if wanted == table.ANY:
            return None
        missing = [t for t in wanted.texts if t not in str(error)]
        if missing or not isinstance(error, wanted.kind):
            return f"must be a {wanted.kind.__name__} that names {', '.join(wanted.texts)}: {text}"
        return None


def main(framework, only):
    reason = frameworks.missing(framework)
    if reason is None and framework == "torch-cuda":
        reason = mk.backend_available("cuda")
    if reason is not None:
        print(f"skipped: {framework} cannot run here ({reason})")
        return SKIPPED
    mk.load()
    judge = Judge(framework)
    rows = judge.rows()
    numbers = [i for i, row in enumerate(rows) if not only or any(o in f"{row.function}: {row.label}" for o in only)]
    print(f"{framework}: {len(numbers)} rows, seed {calls.SEED}", flush=True)
    failed = []

    def report(at, wrong):
        if wrong is not None:
            row = rows[numbers[at]]
            failed.append(at)
            print(f"FAILED {row.function}: {row.label}\n    {wrong}", flush=True)

    on_gpu = framework == "torch-cuda"
    seconds = workers.run_all(
        len(numbers), _Chosen(judge, numbers), "spawn" if on_gpu else "fork", 10**9 if on_gpu else 20, report
    )
    print(f"{framework}: {len(numbers)} rows, {len(failed)} failed, {seconds:.0f} s")
    return 1 if failed or not numbers else 0


class _Chosen:
    """Numbers the rows that were asked for."""

    def __init__(self, judge, numbers):
        self.judge, self.numbers = judge, numbers

    def __call__(self, at):
        return self.judge(self.numbers[at])


if __name__ == "__main__":
    sys.exit(main(sys.argv[2] if len(sys.argv) > 2 else "numpy", sys.argv[3:]))
