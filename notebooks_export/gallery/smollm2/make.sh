#!/usr/bin/env bash
# Makes this folder anew from a trace of SmolLM2 (README.md says how to record one): measures, advises, draws.
# Usage: notebooks_export/gallery/smollm2/make.sh TRACE.safetensors [flags of measure, such as --device cuda]
set -euo pipefail
trace=$(realpath "$1")
shift
cd "$(dirname "$0")"
mobalab=${MOBALAB:-../../../build/bin/mobalab}
python=${MOBALAB_PYTHON:-/usr/bin/python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$mobalab" measure "$trace" --block-size 16:256:x2 --topk 8 --budget 1024 --scorer mean,quest,window,oracle,random \
    --keep-first both --rows 1024 --predict one-pass --out "$work/measure.h5" "$@" >/dev/null
"$mobalab" advise "$work/measure.h5" --budget-keys 1024 --out "$work/advise.h5" | tee advise.txt
for table in measure advise; do
    "$python" smaller.py "$work/$table.h5" "$table.h5"
done
rm -f ./*.png
"$mobalab" export measure.h5 advise.h5 --out "$work/figures"
cp "$work"/figures/*.png .
du -ch -- *.h5 *.png | tail -1
