"""--where: which rows to draw.

    CONDITION [and CONDITION]...
    CONDITION:  COLUMN = VALUE[,VALUE]...    (also ==, in)     one of the values
                COLUMN != VALUE[,VALUE]...   (also not in)     none of them
                COLUMN < VALUE               (also <=, >, >=)

COLUMN is any column of the table, as the file, a flag or a printed table spells it (head_dim, head-dim, d). Numbers may
be written 8K and 1e6. Two numbers that differ in the 12th digit are equal.
"""

import dataclasses
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from notebooks_export.axes import column_name, nearest_hint, number
from notebooks_export.results import ExportError

CONDITION = re.compile(r"\s*([\w./*-]+?)\s*(==|!=|<=|>=|=|<|>|\bnot\s+in\b|\bin\b)\s*(.*?)\s*", re.DOTALL)
SUFFIXES = {"K": 2**10, "M": 2**20, "G": 2**30}
GRAMMAR = 'write COLUMN = VALUE, joined by "and", as in "head_dim = 128 and topk in 4,8"'
OPERATORS = {"==": "=", "in": "=", "not in": "!="}
SAME = 1e-12
PREFIXES = ("sim_", "sim_miss_", "kernel_", "kernel_miss_")
MOST_VALUES_NAMED = 12


@dataclass(frozen=True)
class Condition:
    column: str
    operator: str  # = != < <= > >=
    values: tuple  # of words

    def __str__(self):
        return f"{self.column} {self.operator} {','.join(self.values)}"


def parse_where(text):
    """The conditions of --where; none for an empty or missing text. Raises ExportError."""
    if text is None:
        return ()
    if not text.strip():
        raise ExportError(f"where = (nothing): {GRAMMAR}")
    return tuple(_condition(part) for part in re.split(r"(?i)\s+and\s+|\s*&&\s*", text.strip()))


def _condition(text):
    found = CONDITION.fullmatch(text)
    if found is None:
        raise ExportError(f"where: '{text}' is no condition; {GRAMMAR}")
    column, operator, right = found.groups()
    operator = " ".join(operator.split())
    values = [value.strip().strip("\"'") for value in right.strip("[]()").split(",")]
    operator = OPERATORS.get(operator, operator)
    if not all(values):
        raise ExportError(f"where: '{text}' lacks a value; {GRAMMAR}")
    if operator not in ("=", "!=") and len(values) > 1:
        raise ExportError(f"where: '{text}' compares with a list; {operator} takes one value")
    return Condition(column_name(column), operator, tuple(values))


def in_table(condition, table):
    """The condition with the column's full name: the estimate of a table with one is `miss` as well as `sim_miss`."""
    full = [f"{prefix}{condition.column}" for prefix in ("", *PREFIXES) if f"{prefix}{condition.column}" in table]
    several = len(full) > 1 and condition.column not in table
    return condition if several or not full else dataclasses.replace(condition, column=full[0])


def select(table, conditions):
    """Rows of a frame that keep every condition. Raises ExportError when a column is missing or no row is left."""
    for condition in conditions:
        if condition.column not in table:
            raise ExportError(f"where: no column {condition.column} in the file; it has {', '.join(table.columns)}"
                              f"{nearest_hint(condition.column, table.columns)}")
        kept = table[_keeps(table[condition.column], condition)]
        if kept.empty:
            raise ExportError(f"where: {condition} leaves no row; {_values_there(table[condition.column], condition)}")
        table = kept
    return table


def _keeps(column, condition):
    if not pd.api.types.is_numeric_dtype(column):
        if condition.operator not in ("=", "!="):
            raise ExportError(f"where: {condition}: {condition.column} holds words, which are compared by = and != "
                              f"only; it has {', '.join(sorted(set(column.dropna())))}")
        return column.isin(condition.values) == (condition.operator == "=")
    values = [_number(word, condition) for word in condition.values]
    numbers = column.to_numpy(float)
    equal = np.any([np.isclose(numbers, value, rtol=SAME, atol=0.0) for value in values], axis=0)
    known = ~np.isnan(numbers)
    return known & {"=": equal, "!=": ~equal, "<": ~equal & (numbers < values[0]), "<=": equal | (numbers < values[0]),
                    ">": ~equal & (numbers > values[0]), ">=": equal | (numbers > values[0])}[condition.operator]


def _number(word, condition):
    digits, scale = (word[:-1], SUFFIXES[word[-1]]) if word[-1:] in SUFFIXES else (word, 1)
    try:
        value = float(digits) * scale
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ExportError(f"where: {condition}: {condition.column} holds numbers, '{word}' is none (128, 0.5, 8K, 1e6)")
    return value


def _values_there(column, condition):
    there = sorted(set(column.dropna()))
    shown = [number(value) for value in there]
    if len(shown) > MOST_VALUES_NAMED:
        text = f"{condition.column} goes from {shown[0]} to {shown[-1]}"
    else:
        text = f"{condition.column} is {' or '.join(shown)}" if shown else f"{condition.column} has no value"
    if not there:
        return text
    if not pd.api.types.is_numeric_dtype(column):
        return text + nearest_hint(condition.values[0], there)
    wanted = _number(condition.values[0], condition)
    return f"{text}; nearest valid: {condition.column} = {number(min(there, key=lambda value: abs(value - wanted)))}"
