#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: with the address and undefined-behaviour sanitizers, with the
# thread sanitizer (rooms that start threads), and as released. CUDA is compiled where nvcc is found.
# Usage: tests/run.sh
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
threaded=(sim_engine_test kernels_cpu_test kernels_cpu_conformance_test)  # what the thread sanitizer looks at
experiments/install_packages.sh
for preset in release sanitize sanitize-thread; do
    cmake --preset "$preset" >/dev/null
done

cmake --build --preset release
cmake --build --preset sanitize
cmake --build --preset sanitize-thread --target "${threaded[@]}"
ctest --preset sanitize -j "$jobs"
ctest --preset sanitize-thread -j "$jobs" -R "^($(IFS="|"; echo "${threaded[*]}"))\$"
ctest --preset release -j "$jobs"
