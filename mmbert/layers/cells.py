"""What one cell of a table is: missing, a number or a category."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mmbert.errors import SampleError

LARGEST = 1e30  # a number beyond it is a bad value: float32 and most units end before
STEEPEST = 1e4  # standardised numbers are clipped to so many standard deviations, so that what follows stays finite


def cell_of(row: Mapping[str, Any], column: str) -> Any:
    """A cell, None where it is missing: None, NaN or, as sources give it, an absent key."""
    cell = row.get(column)
    if cell is pd.NA or cell is pd.NaT or (isinstance(cell, Real) and cell != cell):
        return None
    return cell


def is_number(cell: Any) -> bool:
    return isinstance(cell, Real) and not isinstance(cell, bool)


def number_of(column: str, cell: Any) -> float:
    if not is_number(cell):
        raise SampleError(f"the table column '{column}' holds numbers, found {cell!r}")
    if not abs(cell) <= LARGEST:
        raise SampleError(f"the table column '{column}' holds finite numbers up to {LARGEST:g}, found {str(cell)[:40]}")
    return float(cell)


def category_of(column: str, cell: Any) -> str:
    if isinstance(cell, bool | np.bool):
        return "true" if cell else "false"
    if is_number(cell):
        number = number_of(column, cell)
        return str(int(cell)) if number == int(number) else repr(number)
    if isinstance(cell, str):
        return cell.lower() if cell.lower() in ("true", "false") else cell
    raise SampleError(f"the table column '{column}' holds strings, bools or numbers, found {type(cell).__name__}")
