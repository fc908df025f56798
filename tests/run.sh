#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: with the address and undefined-behaviour sanitizers, then as
# released. CUDA is compiled where nvcc is found. (tests/thread_sanitizer.sh looks for races.)
# Usage: tests/run.sh [CMAKE_OPTION...]
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
echo "tests/run.sh: two builds and two runs of all tests: 20 to 30 minutes on 2 cores, most of it the builds ($jobs here)" >&2
experiments/install_packages.sh
for preset in release sanitize; do
    experiments/configure.sh "$preset" "$@"
    cmake --build --preset "$preset"
done
# What an address can do wrong does not hang on which 16-bit format tensors have: bf16 stands for both.
ctest --preset sanitize -j "$jobs" -E "/cpu(_reference)?_fp16$"
ctest --preset release -j "$jobs"
