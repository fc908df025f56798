#!/usr/bin/env python3
"""Processor time of every test that CTest knows, which unlike ctest's own times does not depend on what else the machine
does. Runs them one after another and prints those above a threshold, slowest first, and the sum.

Usage: tests/cpu_times.py BUILD_DIR [--at-least SECONDS] [--matching REGEX]
"""

import argparse
import json
import os
import re
import subprocess
import sys


def tests_of(build):
    shown = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True)
    for test in json.loads(shown.stdout)["tests"]:
        if "command" in test:
            yield test["name"], test["command"], {p["name"]: p["value"] for p in test["properties"]}


def run(command, properties):
    """Seconds of processor time of the test and the programs it waited for, and whether it passed."""
    environment = dict(os.environ)
    environment.update(setting.split("=", 1) for setting in properties.get("ENVIRONMENT", []))
    process = subprocess.Popen(command, cwd=properties.get("WORKING_DIRECTORY"), env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, process.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("build")
    parser.add_argument("--at-least", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--matching", default="", metavar="REGEX")
    arguments = parser.parse_args()
    rows = []
    for name, command, properties in tests_of(arguments.build):
        if re.search(arguments.matching, name):
            seconds, passed = run(command, properties)
            rows.append((seconds, name, passed))
            if sys.stderr.isatty():
                print(f"{seconds:8.1f}  {name}", file=sys.stderr)
    for seconds, name, passed in sorted(rows, reverse=True):
        if seconds >= arguments.at_least or not passed:
            print(f"{seconds:8.1f}  {name}{'' if passed else '  FAILED'}")
    print(f"{sum(row[0] for row in rows):8.1f}  all {len(rows)}")
    return 0 if all(row[2] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
