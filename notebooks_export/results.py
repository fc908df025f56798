"""Opens a mobalab results file: HDF5 with one group a table, checked before anything is drawn."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import xarray as xr

SCHEMA = "mobalab results"
SCHEMA_VERSIONS = (1,)
"""Schema versions this reader understands."""

SEAL_MARK = b"\nmobalab seal "

POINT_TABLES = ("validate", "simulate", "route", "theory")
"""Tables with one row a routing point, the richest first."""

OTHER_TABLES = ("validate_by_candidates", "validate_comparisons", "bench")

POINT_COLUMNS = (
    "model", "head_dim", "block_size", "seq_len", "candidates", "topk", "cluster_size", "mu_signal", "mu_noise",
    "mu_cluster", "snr", "reliable_snr", "pairwise_miss", "miss_probability", "log_miss_probability",
)
BY_CANDIDATES_COLUMNS = (
    "point", "candidates_low", "candidates_high", "kernel_trials", "kernel_misses", "kernel_miss", "kernel_miss_low",
    "kernel_miss_high", "kernel_expected_miss",
)
COMPARISON_COLUMNS = ("point", "kind", "expected_miss", "observed_miss", "z", "p_value", "adjusted_p")
BENCH_COLUMNS = ("name", "seconds_median", "seconds_low", "seconds_high")

REQUIRED_COLUMNS = {
    **{table: POINT_COLUMNS for table in POINT_TABLES},
    "validate_by_candidates": BY_CANDIDATES_COLUMNS,
    "validate_comparisons": COMPARISON_COLUMNS,
    "bench": BENCH_COLUMNS,
}

PROVENANCE = ("command", "settings", "seed", "version", "git_commit", "build", "device", "utc_time", "task",
              "schema", "schema_version")


class ExportError(Exception):
    """Something the user can mend: a bad file, a missing table, a folder that cannot be written."""


@dataclass(frozen=True)
class Results:
    """A results file in memory.

    `tables` maps a group name to a frame with one row an entry; `attributes` are the root attributes as text;
    `definitions` maps a column name to what the file says about it (its `definition`, or else its `long_name`).
    """

    path: Path
    attributes: dict
    tables: dict
    definitions: dict
    group_attributes: dict

    @property
    def points(self):
        """The richest table with one row a routing point, or None (a file of benchmarks)."""
        return next((self.tables[name] for name in POINT_TABLES if name in self.tables), None)

    @property
    def confidence(self):
        """Confidence of the intervals of `points`, in words ("95 %"), or None when the file does not say."""
        name = next((name for name in POINT_TABLES if name in self.tables), None)
        value = self.group_attributes.get(name, {}).get("confidence")
        return None if value is None else f"{100.0 * float(value):g} %"

    def provenance(self):
        """Root attributes, the known ones first."""
        ordered = [name for name in PROVENANCE if name in self.attributes]
        return {name: self.attributes[name] for name in ordered + sorted(set(self.attributes) - set(ordered))}


def open_results(path):
    """Reads a results file. Raises ExportError: one line on what is wrong and what would be right."""
    path = Path(path)
    groups, attributes = _inspect(path)
    tables, definitions, group_attributes = {}, {}, {}
    for group in groups:
        dataset = _load(path, group)
        missing = [column for column in REQUIRED_COLUMNS[group] if column not in dataset.variables]
        if missing:
            raise ExportError(f"{path}: table '{group}' lacks the column{'s' if len(missing) > 1 else ''} "
                              f"{', '.join(missing)}; write the file again with this version of mobalab")
        tables[group] = _frame(dataset)
        group_attributes[group] = {key: _text(value) for key, value in dataset.attrs.items()}
        definitions.update(_definitions(dataset))
    return Results(path, attributes, tables, definitions, group_attributes)


def _inspect(path):
    if not path.exists():
        raise ExportError(f"{path}: no such file; write one with 'mobalab validate --out {path}'")
    if path.is_dir():
        raise ExportError(f"{path}: is a folder; name the results file in it")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}") from error
    _check_seal(path)
    if not h5py.is_hdf5(path):
        raise ExportError(f"{path}: is not an HDF5 file; mobalab results files are written with --out FILE.h5")
    try:
        with h5py.File(path, "r") as file:
            attributes = {key: _text(value) for key, value in file.attrs.items()}
            groups = [name for name in POINT_TABLES + OTHER_TABLES if isinstance(file.get(name), h5py.Group)]
            found = sorted(file)
    except (OSError, RuntimeError, KeyError) as error:
        raise ExportError(f"{path}: is damaged or cut short ({_first_line(error)}); run the command that wrote it "
                          "again, with --resume if it has that flag") from error
    _check_schema(path, attributes)
    if not groups:
        raise ExportError(f"{path}: holds no table (found: {', '.join(found) or 'nothing'}); expected one of "
                          f"{', '.join(POINT_TABLES + ('bench',))}")
    return groups, attributes


def _check_seal(path):
    """Refuses a file that is not what mobalab wrote (experiments/seal.h); one without a seal was changed on purpose."""
    data = path.read_bytes()
    end = data.rfind(SEAL_MARK)
    if end < 0 or len(data) - end != len(SEAL_MARK) + 37:
        return
    digest = hashlib.sha1(uuid.NAMESPACE_OID.bytes + data[:end]).digest()
    if data[end + len(SEAL_MARK):-1] != str(uuid.UUID(bytes=digest[:16], version=5)).encode():
        raise ExportError(f"{path}: is damaged (its bytes are not those its seal was made of); run the command that "
                          "wrote it again")


def _check_schema(path, attributes):
    version = attributes.get("schema_version")
    accepted = ", ".join(str(known) for known in SCHEMA_VERSIONS)
    if attributes.get("schema") != SCHEMA or version is None:
        raise ExportError(f"{path}: is an HDF5 file of something else (its root attribute 'schema' is not '{SCHEMA}')")
    if version not in [str(known) for known in SCHEMA_VERSIONS]:
        raise ExportError(f"{path}: schema version {version} is not known here; this version reads {accepted}")


def _load(path, group):
    try:
        with xr.open_dataset(path, engine="h5netcdf", group=group) as dataset:
            return dataset.load()
    except Exception as error:  # h5py, h5netcdf and xarray each raise types of their own for broken data
        raise ExportError(f"{path}: table '{group}' cannot be read ({_first_line(error)}); run the command that "
                          "wrote it again") from error


def _frame(dataset):
    # `point` is a column of some tables and the dimension of others; a plain row index serves both.
    columns = {name: _decoded(variable) for name, variable in dataset.variables.items() if variable.ndim == 1}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ExportError(f"{dataset.encoding.get('source', 'results file')}: columns of different lengths in "
                          "one table")
    return pd.DataFrame(columns)


def _decoded(variable):
    values = variable.values
    if values.dtype.kind in "SO":
        return np.array([_text(value) for value in values], dtype=object)
    return values


def _definitions(dataset):
    described = {}
    for name, variable in dataset.variables.items():
        text = variable.attrs.get("definition", variable.attrs.get("long_name"))
        if text is not None:
            described[name] = _text(text)
    return described


def _text(value):
    if isinstance(value, np.ndarray):
        return ", ".join(_text(item) for item in value.ravel())
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]
