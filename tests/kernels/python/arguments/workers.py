"""Runs rows in processes of their own, so that a crash is a failure of its row and not the end of the test."""

import multiprocessing
import time
import traceback

SECONDS = 240  # for one row; a hang is a failure


def _serve(connection, judge):
    """Answers row numbers with None or what is wrong, until it gets None."""
    for number in iter(connection.recv, None):
        try:
            answer = judge(number)
        except Exception:
            answer = traceback.format_exc()
        connection.send(answer)


class Worker:
    """One process, replaced by a fresh one when it died, failed, or has done its share."""

    def __init__(self, context, judge, rows_each):
        self.context, self.judge, self.rows_each = context, judge, rows_each
        self.process = None

    def start(self):
        self.connection, theirs = self.context.Pipe()
        self.process = self.context.Process(target=_serve, args=(theirs, self.judge))
        self.process.start()
        theirs.close()
        self.left = self.rows_each

    def stop(self):
        """The exit code of the process."""
        if self.process is None:
            return 0
        try:
            self.connection.send(None)
        except ConnectionError:
            pass  # it has died
        self.process.join(SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        code, self.process = self.process.exitcode, None
        return code

    def __call__(self, number):
        """None, or what is wrong with this row."""
        if self.process is None:
            self.start()
        answer = self._ask(number)
        self.left -= 1
        if answer is not None or self.left == 0:
            code = self.stop()
            if answer is None and code != 0:
                answer = f"its process ended with exit code {code}"
        return answer

    def _ask(self, number):
        try:
            self.connection.send(number)
            if self.connection.poll(SECONDS):
                return self.connection.recv()
            self.process.kill()
            return f"no answer in {SECONDS} s"
        except (EOFError, ConnectionError):
            self.process.join()
            return f"its process died, exit code {self.process.exitcode}"


def run_all(count, judge, method, rows_each, report):
    """report(number, what is wrong or None) for every row; returns the seconds it took."""
    start = time.monotonic()
    worker = Worker(multiprocessing.get_context(method), judge, rows_each)
    for number in range(count):
        report(number, worker(number))
    code = worker.stop()
    if code != 0:
        report(count - 1, f"the last process ended with exit code {code}")
    return time.monotonic() - start
