#!/usr/bin/env bash
# Builds the libFuzzer targets with clang and runs them side by side for a while on seeds that the released program
# (built where it is missing) and a script write. Exit code 77 where clang's libFuzzer is not and cannot be installed.
# Usage: tests/fuzz.sh [SECONDS [SEED [TARGET...]]]   (60 seconds, a seed of libFuzzer's own, and all: results arguments
# trace. The target arguments needs every file of the program compiled again, the others a tenth of them.)
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
seed=${2:-0}
targets=("${@:3}")
[ ${#targets[@]} -gt 0 ] || targets=(results arguments trace)
for target in "${targets[@]}"; do
    [[ $target =~ ^(results|arguments|trace)$ ]] ||
        { echo "fuzz.sh: $target: no target; there are results, arguments and trace" >&2; exit 2; }
done
have_libfuzzer() {
    echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
        clang++ -fsanitize=fuzzer -x c++ - -o /dev/null 2>/dev/null
}
have_libfuzzer || experiments/install_packages.sh clang || true
if ! have_libfuzzer && command -v clang++ >/dev/null; then  # its runtime has the version in its package's name
    experiments/install_packages.sh "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev" || true
fi
have_libfuzzer || { echo "fuzz tests skipped: clang's libFuzzer is not here (clang, libclang-rt-VERSION-dev)" >&2; exit 77; }
experiments/configure.sh fuzz
cmake --build --preset fuzz --target "${targets[@]/%/_fuzz}"
build=build/fuzz/bin
mobalab=build/bin/mobalab
if [ ! -x "$mobalab" ]; then
    [ -f build/CMakeCache.txt ] || experiments/configure.sh release
    cmake --build --preset release --target mobalab
fi
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT

mkdir "$corpus/results" "$corpus/arguments" "$corpus/trace"
"$mobalab" theory --model gaussian --out "$corpus/results/theory.h5" >/dev/null
"$mobalab" simulate --model gaussian --head-dim 32,64 --trials 1000 --out "$corpus/results/simulate.h5" >/dev/null
for config in experiments/configs/*.cfg; do
    for command in 1 2 3 4; do
        { printf "\\$command"; cat "$config"; } >"$corpus/arguments/$(basename "$config").$command"
    done
done

python3 tests/fuzz/trace_seeds.py "$corpus/trace"

fuzz() {
    # HDF5 and Boost keep some of what they allocate until the process ends.
    "$build/$1_fuzz" -max_total_time="$seconds" -seed="$seed" -timeout=20 -rss_limit_mb=4096 -detect_leaks=0 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$corpus/" "$corpus/$1" >"$corpus/$1.log" 2>&1
}

declare -A running
for target in "${targets[@]}"; do
    fuzz "$target" &
    running[$target]=$!
done
found=0
for target in "${!running[@]}"; do
    wait "${running[$target]}" || found=1
    echo "== $target" >&2
    cat "$corpus/$target.log" >&2
done
if [ $found -ne 0 ]; then
    cp "$corpus"/{crash,timeout,oom}-* build/fuzz/ 2>/dev/null || true
    echo "what was found is in build/fuzz" >&2
fi
exit $found  # libFuzzer's own code for a crash is 77
