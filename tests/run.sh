#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: with the address and undefined-behaviour sanitizers, then as
# released. CUDA is compiled where nvcc is found. (tests/thread_sanitizer.sh looks for races.)
# Usage: tests/run.sh [CMAKE_OPTION...]
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
experiments/install_packages.sh
for preset in release sanitize; do
    cmake --preset "$preset" "$@" >/dev/null
    cmake --build --preset "$preset"
done
ctest --preset sanitize -j "$jobs"
ctest --preset release -j "$jobs"
