#!/usr/bin/env bash
# From a fresh clone to a validated figure: installs what is missing, builds, runs theory, simulation and the real kernel
# at the points of the standard grid, and draws the figures.
# Usage: experiments/quickstart.sh
set -euo pipefail
cd "$(dirname "$0")/.."

echo "quickstart: about 10 minutes on 2 cores, most of them for the build" >&2
experiments/install_packages.sh
experiments/configure.sh release
cmake --build --preset release --target mobalab

mkdir -p results
agrees=0
build/bin/mobalab validate --config experiments/configs/paper.cfg --out results/validate.h5 --force || agrees=$?
[ "$agrees" -le 1 ] || exit "$agrees"
build/bin/mobalab export results/validate.h5 --out results/figures

echo
[ "$agrees" -eq 0 ] && echo "Theory, simulation and kernel agree." || echo "Theory, simulation and kernel DISAGREE (see above)."
echo "  numbers   $PWD/results/validate.h5"
echo "  page      $PWD/results/figures/index.html"
echo "  notebook  $PWD/results/figures/mobalab.ipynb"
exit "$agrees"
