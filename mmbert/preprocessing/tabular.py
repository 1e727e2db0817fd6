"""Fields of nodes and edges, and cells of tables: categories as indices, numbers standardised."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mmbert.errors import DataError, SampleError

MAX_NUMBER = 1e30  # larger numbers are refused: beyond any physical unit and close to the limit of float32
MAX_DEVIATIONS = 1e4  # standardised numbers are clipped to this, so that activations stay finite
FieldStatistics = dict[str, Any]  # {"size", "known"} of a categorical field, {"mean", "deviation"} of a numeric one
UNKNOWN = 0


def fit_fields(kind: str, rows: Sequence[Sequence]) -> list[FieldStatistics]:
    """Statistics of each field: numeric if it holds a float, categorical if it holds only strings, ints or bools.

    Args:
        kind: name of a row in errors ("node").
        rows: the rows of the training split, each a sequence of cells.

    Raises:
        DataError: if rows differ in length.
        SampleError: if a field mixes strings and floats, or holds a bad number.
    """
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"expected as many fields for every {kind}, found {sorted({len(row) for row in rows})}")
    fields: list[FieldStatistics] = []
    for column in zip(*rows, strict=True):
        if any(isinstance(cell, float | np.floating) for cell in column):
            numbers = _numbers(kind, column)
            mean, deviation = float(numbers.mean()), float(numbers.std())
            constant = deviation <= 1e-12 * abs(mean)  # up to rounding
            fields.append({"mean": mean, "deviation": 1.0 if constant else deviation})
        else:
            known = sorted({_label(kind, cell) for cell in column})
            fields.append({"size": len(known) + 1, "known": {label: index for index, label in enumerate(known, 1)}})
    return fields


def apply_fields(
    kind: str, fields: Sequence[FieldStatistics], rows: Sequence[Sequence]
) -> tuple[np.ndarray, np.ndarray]:
    """Category indices [rows, categorical fields] int64, 0 if unknown, and standardised numbers [rows, numeric fields].

    Args:
        kind: name of a row in errors ("node").
        fields: statistics of each field, from ``fit_fields``.
        rows: rows of cells, one cell per field.

    Raises:
        SampleError: if a row has another length, or a numeric field holds NaN, a number beyond 1e30 or no number.
    """
    for row in rows:
        if len(row) != len(fields):
            raise SampleError(f"expected {len(fields)} fields for every {kind}, as in training, found {len(row)}")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    indices, numbers = np.zeros((0, len(rows)), np.int64), np.zeros((0, len(rows)))
    for field, column in zip(fields, columns, strict=True):
        if "known" in field:
            column_indices = [field["known"].get(_label(kind, cell), UNKNOWN) for cell in column]
            indices = np.concatenate([indices, np.array([column_indices], dtype=np.int64)])
        else:
            standard = (_numbers(kind, column) - field["mean"]) / field["deviation"]
            numbers = np.concatenate([numbers, standard[None].clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)])
    return indices.T, numbers.T


def _label(kind: str, cell: Any) -> str:
    if not isinstance(cell, str | int | np.integer | np.bool):
        raise SampleError(f"expected a label (a string, an int or a bool) as a field of every {kind}, found {cell!r}")
    return str(cell)


def _numbers(kind: str, column: Sequence) -> np.ndarray:
    for cell in column:
        if not isinstance(cell, float | int | np.floating | np.integer) or not abs(cell) <= MAX_NUMBER:
            raise SampleError(
                f"expected a number up to {MAX_NUMBER:g} in this field of every {kind}, found {cell!r:.40}"
            )
    return np.array(column, dtype=float)


def get_cell(row: Mapping[str, Any], column: str) -> Any:
    """The cell of a column; None if it is missing (None, NaN or an absent key).

    Args:
        row: cells by column name.
        column: the column name.
    """
    cell = row.get(column)
    if cell is pd.NA or cell is pd.NaT or (isinstance(cell, Real) and cell != cell):
        return None
    return cell


def is_number(cell: Any) -> bool:
    """Whether a cell is a real number and not a bool."""
    return isinstance(cell, Real) and not isinstance(cell, bool)


def parse_number(column: str, cell: Any) -> float:
    """A cell of a numeric column as a float.

    Args:
        column: the column name, for errors.
        cell: the raw value, not missing.

    Raises:
        SampleError: if the cell is not a number, is NaN or is beyond 1e30.
    """
    if not is_number(cell):
        raise SampleError(f"the table column '{column}' holds numbers, found {cell!r}")
    if not abs(cell) <= MAX_NUMBER:
        raise SampleError(
            f"the table column '{column}' holds finite numbers up to {MAX_NUMBER:g}, found {str(cell)[:40]}"
        )
    return float(cell)


def parse_category(column: str, cell: Any) -> str:
    """A cell of a categorical column as a string; equal for 1 and 1.0, and for True and "true".

    Args:
        column: the column name, for errors.
        cell: the raw value, not missing.

    Raises:
        SampleError: if the cell is not a string, bool or number, or is a number that ``parse_number`` refuses.
    """
    if isinstance(cell, bool | np.bool):
        return "true" if cell else "false"
    if is_number(cell):
        number = parse_number(column, cell)
        return str(int(cell)) if number == int(number) else repr(number)
    if isinstance(cell, str):
        return cell.lower() if cell.lower() in ("true", "false") else cell
    raise SampleError(f"the table column '{column}' holds strings, bools or numbers, found {type(cell).__name__}")
