#!/usr/bin/env bash
# Configures a preset of CMakePresets.json, quietly unless something is wrong. A build folder that another place, generator
# or compiler left is configured and built anew.
# Usage: experiments/configure.sh PRESET [CMAKE_OPTION...]
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
folder=build
[ "$preset" = release ] || [ "$preset" = dev ] || folder=build/$preset
cache=$folder/CMakeCache.txt

cached() { sed -n "s/^$1:[A-Z]*=//p" "$cache"; }
# Why the folder cannot be used, or nothing.
stale() {
    [ -f "$cache" ] || return 0
    [ "$(cached CMAKE_HOME_DIRECTORY)" = "$PWD" ] || { echo "was made for $(cached CMAKE_HOME_DIRECTORY)"; return; }
    [ "$(cached CMAKE_GENERATOR)" = Ninja ] || { echo "was made by $(cached CMAKE_GENERATOR)"; return; }
    local compiler now before
    compiler=$(cached CMAKE_CXX_COMPILER)
    [ -z "$compiler" ] || [ -x "$compiler" ] || command -v "$compiler" >/dev/null ||
        { echo "was made by $compiler, which is gone"; return; }
    # CMake itself would go on with the old one. (A preset may name its own; an active conda's is not taken.)
    if [ -n "${CXX:-}" ] && [ "$preset" != fuzz ] && [ -z "${CONDA_PREFIX:-}" ] &&
        [ "$(command -v "${CXX%% *}")" != "$compiler" ]; then
        echo "was made by $compiler, and CXX is $CXX"
        return
    fi
    now=$("$compiler" -dumpfullversion -dumpversion 2>/dev/null) || return 0
    before=$(sed -n 's/^set(CMAKE_CXX_COMPILER_VERSION "\(.*\)")/\1/p' "$folder"/CMakeFiles/*/CMakeCXXCompiler.cmake 2>/dev/null |
        tail -n 1)
    [ -z "$before" ] || [ "$now" = "$before" ] || echo "was made by $compiler $before, which is $now now"
}

why=$(stale)
if [ -n "$why" ]; then
    echo "$folder $why: made anew" >&2
    rm -rf "$cache" "$folder/CMakeFiles" "$folder/build.ninja" "$folder/.ninja_deps" "$folder/.ninja_log"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake --preset "$preset" "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "configure.sh: cmake --preset $preset failed (see above). After a change of compilers or libraries" \
        "'rm -rf $folder' helps." >&2
    exit 1
fi
grep -E '^-- (CUDA backend|MPI|Conda)' "$log" | sed 's/^-- //' >&2 || true
