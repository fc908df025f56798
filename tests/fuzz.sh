#!/usr/bin/env bash
# Builds the libFuzzer targets with clang and runs each for a while on seeds that the program itself writes.
# Usage: tests/fuzz.sh [SECONDS]   (60 by default; needs clang and libclang-rt-dev)
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
command -v clang++ >/dev/null || { echo "clang++ is not here; install clang and libclang-rt-dev" >&2; exit 2; }
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target results_fuzz arguments_fuzz mobalab
build=build/fuzz/bin
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT

mkdir "$corpus/results" "$corpus/arguments"
"$build/mobalab" theory --model gaussian --out "$corpus/results/theory.h5" >/dev/null
"$build/mobalab" simulate --model gaussian --head-dim 32,64 --trials 1000 --out "$corpus/results/simulate.h5" >/dev/null
for config in experiments/configs/*.cfg; do
    for command in 1 2 3 4; do
        { printf "\\$command"; cat "$config"; } >"$corpus/arguments/$(basename "$config").$command"
    done
done

for target in results arguments; do
    echo "== $target" >&2
    # HDF5 and Boost keep some of what they allocate until the process ends.
    "$build/${target}_fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -detect_leaks=0 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$corpus/" "$corpus/$target" ||
        { code=$?; cp "$corpus"/{crash,timeout,oom}-* build/fuzz/ 2>/dev/null || true; exit $code; }
done
