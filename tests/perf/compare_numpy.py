#!/usr/bin/env python3
"""The samplers of `mobalab simulate` against NumPy (numpy_monte_carlo.py), in turns on the same two cores.

    tests/perf/compare_numpy.py build/bin/mobalab [--pairs 5] [--processes 2] [--only vector]

Every row is the median over the pairs of (CPU seconds a trial of NumPy) / (CPU seconds a trial of mobalab), each program
with as many threads or processes as cores are given, start included for mobalab, excluded for NumPy. CPU time and not
the clock, because a shared machine disturbs the clock. The hits of both must agree (z below 6), or the row is void.

The last row is about a rare miss: CPU seconds to a relative error of 1e-3, NumPy's from its rate and (1 - p) / (p e^2)
trials, which nobody has the time to run.
"""
import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def mobalab(binary, flags, cores):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([binary, "simulate", "--json", "--threads", str(cores), *flags], check=True,
                         capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return json.loads(out)[0], after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def numpy_peer(flags, cores):
    out = subprocess.run([sys.executable, os.path.join(HERE, "numpy_monte_carlo.py"), "--processes", str(cores), *flags],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def point(d, B, n, k, mu):
    ours = ["--head-dim", d, "--block-size", B, "--candidates", n, "--topk", k, "--mu-signal", mu]
    peers = ["--head-dim", d, "--block-size", B, "--candidates", n, "--topk", k, "--mu", mu]
    return [str(x) for x in ours], [str(x) for x in peers]


# method, NumPy's level, (d, B, n), trials of ours, trials of NumPy, goal
ROWS = [
    ("vector", "vector", (64, 16, 64), 60_000, 2_000, 20),
    ("vector", "vector", (64, 16, 1024), 4_000, 160, 20),
    ("vector", "vector", (128, 64, 64), 8_000, 300, 20),
    ("affinity", "key", (64, 16, 1024), 60_000, 3_000, None),
    ("threshold", "clt", (64, 16, 1024), 8_000_000, 150_000, 35),
    ("threshold", "key", (64, 16, 1024), 8_000_000, 3_000, 1300),
    ("threshold", "clt", (64, 16, 64), 80_000_000, 2_000_000, None),
]


def compare(binary, row, pairs, cores):
    method, level, (d, B, n), trials, peer_trials, goal = row
    ours, peers = point(d, B, n, 9, 0.9)
    ratios, rates, peer_rates = [], [], []
    for i in range(pairs):
        peer = numpy_peer([*peers, "--level", level, "--trials", str(peer_trials), "--seed", str(i)], cores)
        result, cpu = mobalab(binary, [*ours, "--method", method, "--trials", str(trials), "--seed", str(i)], cores)
        p, q = 1 - result["misses"] / trials, peer["hits"] / peer_trials
        z = (p - q) / math.sqrt(p * (1 - p) / trials + p * (1 - p) / peer_trials)
        bias = 0.01 if level == "clt" else 0.0  # an approximation
        if not abs(z) < 6 and abs(p - q) > bias:
            sys.exit(f"{method} and NumPy {level} disagree: {p} and {q}")
        ratios.append(peer["cpu_seconds"] / peer_trials / (cpu / trials))
        rates.append(trials / cpu)
        peer_rates.append(peer_trials / peer["cpu_seconds"])
    numbers = {"vector": B * d, "affinity": B, "threshold": 1}[method] * n
    print(f"| {method} | {level} | {d}, {B}, {n} | {statistics.median(rates):.4g} | "
          f"{statistics.median(rates) * numbers:.3g} | {statistics.median(peer_rates):.4g} | "
          f"**{statistics.median(ratios):.3g}** ({min(ratios):.3g} .. {max(ratios):.3g}) | {goal or ''} |", flush=True)


def compare_rare(binary, pairs, cores):
    ours, peers = point(1024, 16, 1024, 8, 0.75)
    error = 1e-3
    ratios, cpus = [], []
    for i in range(pairs):
        peer = numpy_peer([*peers, "--level", "clt", "--trials", "150000", "--seed", str(i)], cores)
        result, cpu = mobalab(binary, [*ours, "--target-relative-error", str(error), "--trials", "1e8", "--seed", str(i)],
                              cores)
        p = result["miss"]
        if result["stop_reason"] != "relative-error" or not result["low"] < result["miss_probability"] * 1.003:
            sys.exit(f"the rare miss went wrong: {result}")
        ratios.append((1 - p) / (p * error**2) * peer["cpu_seconds"] / 150_000 / cpu)
        cpus.append(cpu)
    print(f"| {result['method']}, p = {p:.3g} to 0.1 % | clt | 1024, 16, 1024 | in {statistics.median(cpus):.3g} s | | | "
          f"**{statistics.median(ratios):.3g}** ({min(ratios):.3g} .. {max(ratios):.3g}) | 1e6 |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="rows of this method only")
    arguments = parser.parse_args()
    print("| method | NumPy | d, B, n | trials a CPU second | numbers a CPU second | NumPy trials a CPU second | "
          "ratio, median (range) | goal |\n|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        if arguments.only in (None, row[0]):
            compare(arguments.binary, row, arguments.pairs, arguments.processes)
    if arguments.only in (None, "conditional"):
        compare_rare(arguments.binary, arguments.pairs, arguments.processes)


if __name__ == "__main__":
    main()
