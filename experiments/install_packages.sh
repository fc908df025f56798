#!/usr/bin/env bash
# Installs the Debian 12 packages that building, testing and drawing need, and only those that are missing.
# Usage: experiments/install_packages.sh [PACKAGE...]   (more of them; as root, or with sudo installed)
set -euo pipefail

packages=(
    # build
    g++ cmake ninja-build git
    libeigen3-dev libboost-dev libboost-program-options-dev libhdf5-dev librandom123-dev libfmt-dev
    nlohmann-json3-dev
    # a run on many machines; without them it runs on one
    libopenmpi-dev openmpi-bin
    # tests and benchmarks
    libgtest-dev libgmock-dev libbenchmark-dev
    # figures, notebook, page
    python3 python3-numpy python3-pandas python3-h5py python3-h5netcdf python3-xarray python3-matplotlib
    python3-nbformat python3-nbconvert python3-ipykernel python3-jinja2
    "$@"
)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Packages are missing and neither root nor sudo is here. Run as root:" >&2
        echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 2
    fi
    as_root=(sudo)
fi

echo "Installing ${#missing[@]} missing packages: ${missing[*]}" >&2
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}"
