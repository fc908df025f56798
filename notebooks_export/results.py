"""Opens a mobalab results file: HDF5 with one group a table, checked before anything is drawn."""

import hashlib
import os
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from notebooks_export import column_rules

SCHEMA = "mobalab results"
SCHEMA_VERSIONS = (1, 2)
"""Schema versions this reader understands."""

SEAL_MARK = b"\nmobalab seal "

ESTIMATE_COLUMNS = {
    "simulate": {"method": "sim_method", "method_reason": "sim_method_reason", "trials": "sim_trials",
                 "misses": "sim_misses", "miss": "sim_miss", "low": "sim_miss_low", "high": "sim_miss_high",
                 "stop_reason": "sim_stop_reason"},
    "route": {"trials": "kernel_trials", "misses": "kernel_misses", "miss": "kernel_miss", "low": "kernel_miss_low",
              "high": "kernel_miss_high", "expected_miss": "kernel_expected_miss", "key_sets": "kernel_key_sets",
              "design_effect": "kernel_design_effect"},
}
"""Columns of tables with one estimate, and their names beside other estimates: in the table validate, in schema version 1
and here, so that a figure finds an estimate by one name in whatever table it is."""

POINT_TABLES = ("validate", "simulate", "route", "theory")
"""Tables with one row a routing point, the richest first."""

MODEL_TABLES = ("measure", "measure_distance", "advise", "advise_heads")
"""Tables about the queries and keys of a real model."""

TRAINING_TABLES = ("training", "training_arms", "training_errors", "training_heads", "training_profiles",
                   "training_validation", "training_positions", "training_needles", "training_curves", "training_runs")
"""Tables about models trained from scratch."""

OTHER_TABLES = ("validate_by_candidates", "validate_comparisons", "bench", *MODEL_TABLES, *TRAINING_TABLES)

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
SETTING = "setting"
"""The row of the table measure that a row of measure_distance is about."""

OF_A_SETTING = ("model", "text", "rope", "head_dim", "seq_len", "dtype", "centroids", "device")
"""Columns of measure that measure_distance does not repeat."""

SETTING_COLUMNS = ("block_size", "topk", "scorer")

OF_A_RUN = ("run", "arm", "attention", "block_size", "topk", "scorer", "key_conv", "head_dim")

REQUIRED_COLUMNS = {
    **{table: POINT_COLUMNS for table in POINT_TABLES},
    "validate_by_candidates": BY_CANDIDATES_COLUMNS,
    "validate_comparisons": COMPARISON_COLUMNS,
    "bench": BENCH_COLUMNS,
    "measure": ("layer", "head", *SETTING_COLUMNS),
    "measure_distance": ("layer", "head", *SETTING_COLUMNS, "distance_low", "distance_high", "routed_share"),
    "advise": (*SETTING_COLUMNS, "mean_mass_recall"),
    "advise_heads": ("layer", "head"),
    "training": (*OF_A_RUN, "variant", "seq_len", "accuracy"),
    "training_arms": ("arm", "variant", "seq_len", "accuracy"),
    "training_errors": ("arm", "quantity", "lengths", "values", "mean_absolute_error"),
    "training_heads": (*OF_A_RUN, "variant", "seq_len", "layer", "head", "hit"),
    "training_profiles": (*OF_A_RUN, "variant", "layer", "head", "offset", "cosine"),
    "training_validation": (*OF_A_RUN, "seq_len", "step", "loss"),
    "training_positions": (*OF_A_RUN, "seq_len", "position_low", "position_high", "loss"),
    "training_needles": (*OF_A_RUN, "seq_len", "depth", "accuracy"),
    "training_curves": (*OF_A_RUN, "step", "loss"),
    "training_runs": OF_A_RUN,
}

MOST_BYTES = 2 << 30
"""Larger files are none of mobalab's: its largest grid makes half a GiB."""

MOST_ROWS = {**{table: 1_000_000 for table in POINT_TABLES}, "bench": 1_000_000,
             "measure": 4_000_000, "advise": 1_000_000, "advise_heads": 1_000_000}
MOST_ROWS_OF_OTHER_TABLES = 20_000_000
"""A compressed file of a few bytes can claim more rows than memory holds."""

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
    def shown_name(self):
        """The file's name as text that every encoding can write; bytes that are no UTF-8 become U+FFFD."""
        return os.fsencode(self.path.name).decode("utf-8", "replace")

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
    return results_of(path, attributes, ((group, load_table(path, group)) for group in groups))


def results_of(path, attributes, datasets):
    """The same of tables that are read already: (name, xarray dataset as a file holds it) one after the other. `path` is
    what errors and figures call them by. Raises ExportError.
    """
    tables, definitions, group_attributes = {}, {}, {}
    for group, dataset in datasets:
        dataset = _with_long_names(dataset, group)
        missing = [column for column in REQUIRED_COLUMNS[group] if column not in dataset.variables]
        if missing:
            raise ExportError(f"{path}: table '{group}' lacks the column{'s' if len(missing) > 1 else ''} "
                              f"{', '.join(missing)}; write the file again with this version of mobalab")
        tables[group] = _frame(dataset, path, group)
        group_attributes[group] = {key: _text(value) for key, value in dataset.attrs.items()}
        _check_shares(path, group, group_attributes[group])
        _check_columns(path, group, dataset, tables)
        definitions.update(_definitions(dataset))
    if "measure" in tables and SETTING in tables.get("measure_distance", ()):
        tables["measure_distance"] = _of_settings(path, tables["measure_distance"], tables["measure"])
    return Results(path, attributes, tables, definitions, group_attributes)


def _inspect(path):
    found, groups, attributes = read_root(path, POINT_TABLES + OTHER_TABLES)
    if not groups:
        raise ExportError(f"{path}: holds no table (found: {', '.join(found) or 'nothing'}); expected one of "
                          f"{', '.join(POINT_TABLES + ('bench', 'measure', 'advise', 'training'))}")
    return groups, attributes


def read_root(path, looked_at=None):
    """(names of all that lies in the root, those that are tables, the root's attributes as text) of a results file that is
    whole. Only what `looked_at` names is taken for a table; without it everything. Raises ExportError.
    """
    path = Path(path)
    _check_file(path)
    _check_seal(path)
    if not h5py.is_hdf5(path):
        raise ExportError(f"{path}: is not an HDF5 file; mobalab results files are written with --out FILE.h5")
    try:
        with h5py.File(path, "r") as file:
            attributes = {key: _text(value) for key, value in file.attrs.items()}
            found = sorted(file)
            groups = [name for name in (found if looked_at is None else looked_at)
                      if isinstance(file.get(name), h5py.Group)]
            for name in groups:
                _check_shapes(path, file[name])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: is damaged or cut short ({_first_line(error)}); run the command that wrote it "
                          "again, with --resume if it has that flag") from error
    _check_schema(path, attributes)
    return found, groups, attributes


def _check_file(path):
    """A regular file of a size mobalab writes: a pipe would wait for its other end, a device never ends."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ExportError(f"{path}: is a folder; name the results file in it")
        if not stat.S_ISREG(found.st_mode):
            raise ExportError(f"{path}: is a pipe, socket or device; give the path of a regular file")
        if found.st_size > MOST_BYTES:
            raise ExportError(f"{path}: is larger than the {MOST_BYTES >> 30} GiB a results file may have")
        with path.open("rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ExportError(f"{path}: no such file; write one with 'mobalab validate --out {path}'") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ExportError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error


def _check_shapes(path, group):
    """Before anything is read: a small file can claim more than memory holds."""
    table = group.name.strip("/")
    most = MOST_ROWS.get(table, MOST_ROWS_OF_OTHER_TABLES)
    for name in group:
        column = group.get(name)
        if not isinstance(column, h5py.Dataset):
            raise ExportError(f"{path}: '{name}' in table '{table}' is not a column; write the file again with mobalab")
        if column.shape is None or len(column.shape) != 1:
            raise ExportError(f"{path}: column '{name}' of table '{table}' is not one-dimensional; write the file again "
                              "with mobalab")
        if column.shape[0] > most:
            raise ExportError(f"{path}: column '{name}' of table '{table}' has {column.shape[0]} rows; at most {most} "
                              "are read")


def _check_columns(path, group, dataset, tables):
    frame = tables[group]
    if frame.empty and group in MOST_ROWS:
        raise ExportError(f"{path}: table '{group}' has no rows; run the command that wrote it again")
    fill_values = {name for name, variable in dataset.variables.items() if "_FillValue" in variable.encoding}
    points = next((len(tables[name]) for name in POINT_TABLES if name in tables), None)
    try:
        column_rules.check_table({name: frame[name].to_numpy() for name in frame}, fill_values,
                                 points if group not in POINT_TABLES else None, _own_rules(group))
    except column_rules.ColumnError as error:
        raise ExportError(f"{path}: table '{group}': {error}; another program has changed the file, write it again "
                          "with mobalab") from error


def _own_rules(group):
    """Rules that take the place of the common ones in a table."""
    return (column_rules.OF_A_MODEL if group in MODEL_TABLES else
            column_rules.OF_A_TRAINING if group in TRAINING_TABLES else {})


def _check_shares(path, group, attributes):
    """Attributes that the figures compute with."""
    for name in ("confidence", "family_alpha"):
        if name in attributes:
            try:
                good = 0.0 < float(attributes[name]) < 1.0
            except ValueError:
                good = False
            if not good:
                raise ExportError(f"{path}: the attribute '{name}' of table '{group}' is {attributes[name]} and must "
                                  "be between 0 and 1")


def _check_seal(path):
    """Refuses a file that is not what mobalab wrote (experiments/results/seal.h); one without a seal was changed on purpose."""
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


def load_table(path, group):
    """One table of a file as an xarray dataset in memory. Raises ExportError."""
    try:
        # phony_dims: columns that another program left without a dimension are read, and _frame refuses what is wrong.
        with xr.open_dataset(path, engine="h5netcdf", group=group, phony_dims="sort") as dataset:
            return dataset.load()
    except Exception as error:  # h5py, h5netcdf and xarray each raise types of their own for broken data
        raise ExportError(f"{path}: table '{group}' cannot be read ({_first_line(error)}); run the command that "
                          "wrote it again") from error


def _with_long_names(dataset, group):
    names = {short: name for short, name in ESTIMATE_COLUMNS.get(group, {}).items() if short in dataset.variables}
    return dataset.rename(names).drop_vars("seed" if names and "seed" in dataset.variables else [])


def _frame(dataset, path, group):
    # `point` is a column of some tables and the dimension of others; a plain row index serves both.
    columns = {name: _decoded(variable) for name, variable in dataset.variables.items()}
    if len({len(values) for values in columns.values()}) > 1:
        raise ExportError(f"{path}: columns of different lengths in table '{group}'; write the file again with mobalab")
    return pd.DataFrame(columns)


def _decoded(variable):
    values = variable.values
    if values.dtype.kind == "S":
        values = values.astype(object)
    if values.dtype.kind == "O":  # what is neither bytes nor text is left for column_rules to refuse
        decoded = np.empty(len(values), dtype=object)
        for row, value in enumerate(values):
            decoded[row] = _text(value) if isinstance(value, (bytes, str)) else value
        return decoded
    return values


def _of_settings(path, table, measure):
    """`table` with the columns of `measure` that it does not repeat."""
    rows = table[SETTING].to_numpy()
    if rows.dtype.kind not in "iu" or np.any((rows < 0) | (rows >= len(measure))):
        raise ExportError(f"{path}: table 'measure_distance': column '{SETTING}' does not count the rows of table 'measure'; "
                          "another program has changed the file, write it again with mobalab")
    lacking = [name for name in OF_A_SETTING if name in measure and name not in table]
    return table.assign(**{name: measure[name].to_numpy()[rows] for name in lacking})


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
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")  # h5py's way with bytes that are no UTF-8
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]
