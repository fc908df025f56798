#!/usr/bin/env bash
# Installs the Debian (12, 13) or Ubuntu (24.04) packages that building, testing and drawing need, and only those that are
# missing. As root, or with sudo. Exit code 2, with what to do, when something needed is missing and cannot be installed.
# Usage: experiments/install_packages.sh [PACKAGE...]   (more of them)
set -euo pipefail

needed=(
    # build
    g++ cmake ninja-build git
    libeigen3-dev libboost-dev libboost-program-options-dev libhdf5-dev librandom123-dev libfmt-dev
    nlohmann-json3-dev libcsv-dev zlib1g-dev
    # tests and benchmarks
    libgtest-dev libgmock-dev libbenchmark-dev python3-venv
    # figures, notebook, page
    python3 python3-numpy python3-pandas python3-h5py python3-h5netcdf python3-xarray python3-matplotlib
    python3-nbformat python3-nbconvert python3-ipykernel python3-jinja2
    "$@"
)
# a run on many machines; without them it runs on one
optional=(libopenmpi-dev openmpi-bin)

say() { echo "install_packages.sh: $*" >&2; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "this is no Debian or Ubuntu (no apt-get): nothing is installed. What is needed, by Debian's names:"
    say "  ${needed[*]} ${optional[*]}"
    exit 0
fi

missing_of() {
    local package status
    for package in "$@"; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || echo "$package"
    done
}
mapfile -t missing < <(missing_of "${needed[@]}")
mapfile -t wished < <(missing_of "${optional[@]}")
[ $((${#missing[@]} + ${#wished[@]})) -gt 0 ] || exit 0

give_up() {
    [ ${#missing[@]} -gt 0 ] || { say "$1; going on without ${wished[*]} (mpirun)"; exit 0; }
    say "$1. Install as root, then run this again:"
    say "  apt-get install --no-install-recommends ${missing[*]}"
    exit 2
}

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || give_up "packages are missing, and this is neither root nor is sudo here"
    as_root=(sudo)
    sudo -v || give_up "packages are missing, and sudo refuses"
fi

# Another apt-get (a first boot, unattended upgrades) is waited for, at most five minutes.
apt() {
    local log try
    log=$(mktemp)
    for try in $(seq 30); do
        if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o Dpkg::Use-Pty=0 \
            -o Acquire::Retries=3 "$@" 2>&1 | tee "$log" >&2; then
            rm -f "$log"
            return 0
        fi
        grep -q 'Could not get lock\|Unable to lock\|is another process using it' "$log" || break
        say "another package manager is at work; waiting for it (attempt $try of 30)"
        sleep 10
    done
    rm -f "$log"
    return 1
}

say "installing ${#missing[@]} missing packages: ${missing[*]} ${wished[*]}"
apt update || say "the lists of packages could not be renewed; trying with those that are here"
for package in "${missing[@]}"; do
    if ! apt-cache show "$package" >/dev/null 2>&1; then
        say "apt does not know $package: is there a network? On Ubuntu: is 'universe' enabled (add-apt-repository universe)?"
    fi
done
apt install -y --no-install-recommends "${missing[@]}" "${wished[@]}" ||
    { [ ${#missing[@]} -eq 0 ] || apt install -y --no-install-recommends "${missing[@]}"; } ||
    give_up "apt-get failed (see above)"
