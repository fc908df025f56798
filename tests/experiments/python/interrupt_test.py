"""Ctrl-C in the middle of a run: interrupt_test.py PATH_OF_MOBALAB."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import with_program  # noqa: F401

RUN = """
import mobalab
try:
    mobalab.simulate(trials=2**52, threads=1, {options})
except KeyboardInterrupt:
    print("stopped")
"""


def children_of(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def wait_until(python, condition):
    """Until it holds; a process that has ended before is a failure."""
    while not (found := condition()):
        if python.poll() is not None:
            raise AssertionError(f"ended by itself: {python.communicate()}")
        time.sleep(0.01)
    return found


class Interrupt(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "tmp").mkdir()

    def start(self, options):
        environment = dict(os.environ, TMPDIR=str(self.folder / "tmp"))
        python = subprocess.Popen([sys.executable, "-c", RUN.format(options=options)], env=environment, cwd=self.folder,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(python.kill)
        return python

    def stop(self, python, child):
        python.send_signal(signal.SIGINT)
        out, err = python.communicate(timeout=300)
        self.assertEqual((python.returncode, out, err), (0, "stopped\n", ""))
        self.assertFalse(Path(f"/proc/{child}").exists())
        self.assertEqual(list((self.folder / "tmp").iterdir()), [])

    def test_a_run_with_a_file_can_go_on(self):
        for options in ("out='a.h5'", "out='a.h5', resume=True"):
            python = self.start(options)
            journal = self.folder / "a.h5.journal"
            before = journal.stat().st_size if journal.exists() else 0
            wait_until(python, lambda: journal.exists() and journal.stat().st_size > before + 200)  # trials are counted
            self.stop(python, children_of(python.pid)[0])
            self.assertEqual([path.name for path in self.folder.glob("a.h5*")], ["a.h5.journal"])

    def test_a_run_without_a_file_leaves_nothing(self):
        python = self.start("")
        child = wait_until(python, lambda: children_of(python.pid))[0]
        wait_until(python, lambda: list((self.folder / "tmp").glob("*/results.h5.journal")))
        self.stop(python, child)

    def test_a_program_that_somebody_else_stops_is_an_error(self):
        python = self.start("out='a.h5'")
        wait_until(python, (self.folder / "a.h5.journal").exists)
        os.kill(int(children_of(python.pid)[0]), signal.SIGTERM)
        _, err = python.communicate(timeout=300)
        self.assertEqual(python.returncode, 1)
        self.assertRegex(err, r"MobalabError: interrupted.*--resume")


if __name__ == "__main__":
    unittest.main()
