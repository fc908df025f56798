#!/usr/bin/env bash
# Makes the text and the figures of this folder anew from their records (README.md says how these were made).
# Usage: notebooks_export/gallery/training/make.sh
set -euo pipefail
cd "$(dirname "$0")"
mobalab=${MOBALAB:-../../../build/bin/mobalab}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$mobalab" training recall.jsonl language.jsonl --out "$work/recall.h5" | tee training.txt
rm -f ./*.png
"$mobalab" export "$work/recall.h5" --out "$work/figures"
cp "$work"/figures/*.png .
