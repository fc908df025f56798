"""A command of a training, called as a test needs it, and what its records must repeat."""

import contextlib
import io
import subprocess
import sys

from training import records


class Calls:
    """script: the file a user starts; main: its function of the arguments. Each call is on the CPU and answers (exit code,
    stdout, stderr)."""

    def __init__(self, script, main):
        self.script, self.main = script, main

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, self.script, "--device", "cpu", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def call(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=500)
        return process.returncode, out, err

    def call_here(self, *arguments):
        """The same in this process, for what trains nothing: importing torch takes seconds."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = self.main(["--device", "cpu", *map(str, arguments)])
            except SystemExit as ended:  # argparse
                code = ended.code
        return code, out.getvalue(), err.getvalue()


def numbers(path):
    """The records without their times, and without the commit, which somebody may make meanwhile."""
    aside = ("seconds", "commit")
    return [{name: value for name, value in r.items() if name not in aside} for r in records.read(path)]
