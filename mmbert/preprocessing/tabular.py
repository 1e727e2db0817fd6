"""Fields of nodes, edges or other rows without names: labels as indices, floats standardised, and their embedding."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mmbert.errors import DataError, SampleError

MAX_NUMBER = 1e30  # a number beyond it is a bad value: float32 and most units end before
MAX_DEVIATIONS = 1e4  # standard deviations to which standardised numbers are clipped, so that activations stay finite
FieldStatistics = dict[str, Any]  # {"size", "known"} of a categorical field, {"mean", "deviation"} of a numeric one
UNKNOWN = 0


def fit_fields(kind: str, rows: Sequence[Sequence]) -> list[FieldStatistics]:
    """What there is to know of each field: categorical where it holds strings, ints or bools, numeric with a float.

    Args:
        kind: what errors call a row ("node").
        rows: those of the training split, each a sequence of cells.

    Raises:
        DataError: where rows differ in length.
        SampleError: where a field mixes strings and floats, or holds a bad number.
    """
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"expected as many fields for every {kind}, found {sorted({len(row) for row in rows})}")
    fields: list[FieldStatistics] = []
    for column in zip(*rows, strict=True):
        if any(isinstance(cell, float | np.floating) for cell in column):
            numbers = _numbers(kind, column)
            mean, deviation = float(numbers.mean()), float(numbers.std())
            constant = deviation <= 1e-12 * abs(mean)  # but for rounding
            fields.append({"mean": mean, "deviation": 1.0 if constant else deviation})
        else:
            known = sorted({_label(kind, cell) for cell in column})
            fields.append({"size": len(known) + 1, "known": {label: index for index, label in enumerate(known, 1)}})
    return fields


def apply_fields(
    kind: str, fields: Sequence[FieldStatistics], rows: Sequence[Sequence]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices [rows, categorical fields] int64, 0 for a new label, and standardised numbers [rows, numeric fields].

    Args:
        kind: what errors call a row ("node").
        fields: what ``fit_fields`` learned of each field.
        rows: each a sequence of cells, one a field.

    Raises:
        SampleError: on a row of another length, on what is no number in a numeric field, on NaN, and on numbers beyond
            1e30.
    """
    for row in rows:
        if len(row) != len(fields):
            raise SampleError(f"expected {len(fields)} fields for every {kind}, as in training, found {len(row)}")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    indices, numbers = np.zeros((0, len(rows)), np.int64), np.zeros((0, len(rows)))
    for field, column in zip(fields, columns, strict=True):
        if "known" in field:
            found = [field["known"].get(_label(kind, cell), UNKNOWN) for cell in column]
            indices = np.concatenate([indices, np.array([found], dtype=np.int64)])
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
    """A cell, None where it is missing: None, NaN or, as sources give it, an absent key.

    Args:
        row: cells by the name of their column.
        column: the name of the one that is asked for.
    """
    cell = row.get(column)
    if cell is pd.NA or cell is pd.NaT or (isinstance(cell, Real) and cell != cell):
        return None
    return cell


def is_number(cell: Any) -> bool:
    """Whether a cell is a real number; a truth value is none."""
    return isinstance(cell, Real) and not isinstance(cell, bool)


def parse_number(column: str, cell: Any) -> float:
    """A cell of a numeric column as a float.

    Args:
        column: its name, for errors.
        cell: the raw value, not a missing one.

    Raises:
        SampleError: on what is no number, on NaN, and on numbers beyond 1e30.
    """
    if not is_number(cell):
        raise SampleError(f"the table column '{column}' holds numbers, found {cell!r}")
    if not abs(cell) <= MAX_NUMBER:
        raise SampleError(
            f"the table column '{column}' holds finite numbers up to {MAX_NUMBER:g}, found {str(cell)[:40]}"
        )
    return float(cell)


def parse_category(column: str, cell: Any) -> str:
    """A cell of a categorical column as a string, the same for 1 and 1.0, and for True and "true".

    Args:
        column: its name, for errors.
        cell: the raw value, not a missing one.

    Raises:
        SampleError: on what is neither string, truth value nor number, and on numbers that ``parse_number`` refuses.
    """
    if isinstance(cell, bool | np.bool):
        return "true" if cell else "false"
    if is_number(cell):
        number = parse_number(column, cell)
        return str(int(cell)) if number == int(number) else repr(number)
    if isinstance(cell, str):
        return cell.lower() if cell.lower() in ("true", "false") else cell
    raise SampleError(f"the table column '{column}' holds strings, bools or numbers, found {type(cell).__name__}")
