"""python3 smaller.py IN.h5 OUT.h5: a results file with the columns that figures read, real numbers to 4 decimals, compressed.

Folders in the names of files are left out of the attributes. What it writes has no seal: `mobalab export` and xarray read
it, `--resume` does not.
"""

import re
import sys

import h5py
import numpy as np

UNDRAWN = ("distant_", "fact_", "output_error", "rounding_changed", "key_cosine_", "noise_variance_db", "effective_dimension",
           "shared_mean", "margin", "mass_recall_no0")
"""Beginnings of the names of columns that no figure reads."""

ALSO_UNDRAWN = ("mass_a", "mass_r", "needle_a", "needle_r", "text", "rope", "device")


def smaller(source, target):
    for name, value in source.attrs.items():
        target.attrs[name] = without_folders(value)
    for group in source:
        table = target.create_group(group)
        for name, value in source[group].attrs.items():
            table.attrs[name] = without_folders(value)
        kept = [name for name in source[group] if not is_undrawn(name)]
        for name in kept:
            copy(source[group][name], table, name)
        dimension = next(name for name in kept if h5py.h5ds.is_scale(source[group][name].id))
        table[dimension].make_scale(dimension)
        for name in kept:
            if name != dimension:
                table[name].dims[0].attach_scale(table[dimension])


def without_folders(value):
    """`measure /a/b.safetensors` as `measure b.safetensors`."""
    return re.sub(r"(?<![^\s=,])(?:/[^\s/,]+)+/(?=[^\s/])", "", value) if isinstance(value, str) else value


def is_undrawn(name):
    return name.startswith(UNDRAWN) or name in ALSO_UNDRAWN


def copy(column, table, name):
    values = column[()]
    if values.dtype.kind == "f":
        values = np.round(values, 4).astype(np.float32)
    elif values.dtype.kind == "O":
        values = values.astype("S")  # of one length: those of any length are not compressed
    made = table.create_dataset(name, data=values, compression=9, shuffle=values.dtype.kind != "S", chunks=values.shape)
    for key in ("units", "long_name", "definition", "_FillValue"):
        if key in column.attrs:
            made.attrs[key] = column.attrs[key]


if __name__ == "__main__":
    with h5py.File(sys.argv[1], "r") as source, h5py.File(sys.argv[2], "w") as target:
        smaller(source, target)
