#!/usr/bin/env bash
# Builds the tests of what starts threads with the thread sanitizer, and runs them.
# Usage: tests/thread_sanitizer.sh [CMAKE_OPTION...]
set -euo pipefail
cd "$(dirname "$0")/.."

threaded=(sim_engine_test kernels_cpu_test kernels_cpu_conformance_test rank_dealer_test)
experiments/install_packages.sh
experiments/configure.sh sanitize-thread "$@"
cmake --build --preset sanitize-thread --target "${threaded[@]}"
# What threads share does not hang on which 16-bit format tensors have: bf16 stands for both.
ctest --preset sanitize-thread -j "$(nproc)" -R "^($(IFS="|"; echo "${threaded[*]}"))\." -E "/cpu(_reference)?_fp16$"
