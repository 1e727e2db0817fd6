"""What one cell of a table is: missing, a number or a category."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mmbert.errors import SampleError, nearest

LARGEST = 1e30  # a number beyond it is a bad value: float32 and most units end before


def cell_of(row: Mapping[str, Any], column: str) -> Any:
    """A cell, None where it is missing."""
    if column not in row:
        raise SampleError(f"the table row has no column '{column}'. {nearest(column, row)}")
    cell = row[column]
    if cell is pd.NA or cell is pd.NaT or (isinstance(cell, Real) and math.isnan(cell)):
        return None
    return cell


def is_number(cell: Any) -> bool:
    return isinstance(cell, Real) and not isinstance(cell, bool)


def number_of(column: str, cell: Any) -> float:
    if not is_number(cell):
        raise SampleError(f"the table column '{column}' holds numbers, found {cell!r}")
    if not abs(cell) <= LARGEST:
        raise SampleError(f"the table column '{column}' holds finite numbers up to {LARGEST:g}, found {float(cell):g}")
    return float(cell)


def category_of(column: str, cell: Any) -> str:
    if isinstance(cell, bool | np.bool):
        return "true" if cell else "false"
    if is_number(cell):
        return str(int(cell)) if math.isfinite(cell) and cell == int(cell) else repr(float(cell))
    if isinstance(cell, str):
        return cell.lower() if cell.lower() in ("true", "false") else cell
    raise SampleError(f"the table column '{column}' holds strings, bools or numbers, found {type(cell).__name__}")
