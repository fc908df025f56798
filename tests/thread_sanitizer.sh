#!/usr/bin/env bash
# Builds the tests of what starts threads with the thread sanitizer, and runs them.
# Usage: tests/thread_sanitizer.sh [CMAKE_OPTION...]
set -euo pipefail
cd "$(dirname "$0")/.."

# kernels_cpu_test has every operation with many threads; the conformance tests have the same loops in other shapes.
threaded=(sim_engine_test kernels_cpu_test rank_dealer_test)
experiments/install_packages.sh
experiments/configure.sh sanitize-thread "$@"
cmake --build --preset sanitize-thread --target "${threaded[@]}"
ctest --preset sanitize-thread -j "$(nproc)" -R "^($(IFS="|"; echo "${threaded[*]}"))\."
