"""What theory says that rounding of centroids changes, asked of the program `mobalab` (analysis/centroid_rounding.h)."""

import json
import os
import shutil
import subprocess
from pathlib import Path

COLUMNS = {"bfloat16": "changed_bf16", "float16": "changed_fp16"}


def program():
    """Path of mobalab: $MOBALAB_PROGRAM, the one of the wheel (beside this package), the one built in this checkout, or
    that of the PATH; None where there is none."""
    named = os.environ.get("MOBALAB_PROGRAM")
    if named:
        return named
    folders = Path(__file__).resolve().parents
    places = (folders[2] / "mobalab" / "program" / "mobalab", folders[4] / "build" / "bin" / "mobalab")
    return next((str(place) for place in places if place.exists()), shutil.which("mobalab"))


def changed_rows(settings, shared_mean, centroid_format):
    """(expected share of rows, ""), or (None, why it is not known)."""
    if centroid_format not in COLUMNS:
        return None, "theory is about 16-bit centroids"
    found = program()
    if found is None:
        return None, "theory needs the program mobalab: build it, or name it in MOBALAB_PROGRAM"
    numbers = {
        "head-dim": settings.head_dim,
        "block-size": settings.block_size,
        "seq-len": settings.seq_len,
        "topk": settings.topk,
        "shared-mean": shared_mean,
    }
    call = [found, "theory", "--json", *(f"--{name}={number}" for name, number in numbers.items())]
    try:
        ran = subprocess.run(call, text=True, capture_output=True, check=False)
        if ran.returncode == 0:
            return float(json.loads(ran.stdout)[0][COLUMNS[centroid_format]]), ""
        return None, (ran.stderr.strip().splitlines() or [f"{found} ended with code {ran.returncode}"])[0]
    except (OSError, ValueError, KeyError, IndexError) as failed:
        return None, f"{found}: {failed}"
