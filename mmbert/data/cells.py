"""Cells as raw values: what is missing, and plain numbers in place of decimals, dates and durations."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa

from mmbert.data.json_lines import AS_JSON

DAY = timedelta(days=1)
FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC)
CALENDAR = "as days since 1970-01-01"
SECONDS = "in seconds"


def drop_missing(value: Any) -> Any:
    """The value, or None where it is missing (None, NaN, an empty dict); missing entries of a dict are left out."""
    if isinstance(value, dict):
        present = {name: entry for name, cell in value.items() if (entry := drop_missing(cell)) is not None}
        return present or None
    return None if isinstance(value, float) and value != value else value


def plain_cell(value: Any) -> Any:
    """A number in place of a decimal, a date or time (days since 1970), or a duration or time of day (seconds).

    Args:
        value: any; what has a type of JSON stays, and so does what is within lists and dicts.

    Example:
        >>> plain_cell(Decimal("2.50")), plain_cell(date(1970, 1, 3)), plain_cell(timedelta(minutes=1))
        (2.5, 2, 60.0)
    """
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, datetime):
        return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - FIRST_DAY) / DAY
    if isinstance(value, date):
        return (value - FIRST_DAY.date()).days
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    return value


def make_converter(field: pa.Field) -> Callable[[Any], Any] | None:
    """A function from the cells of a column, as Arrow gives them, to raw values; None where they are the same.

    Args:
        field: name, type and metadata of the column.
    """
    if (field.metadata or {}).get(b"json") == AS_JSON[b"json"]:
        return lambda cell: None if cell is None else json.loads(cell)
    return _convert_type(field.type)


def describe_conversion(column_type: pa.DataType) -> str:
    """What ``make_converter`` does to a column, in a few words; empty where it does nothing.

    Args:
        column_type: its type.
    """
    types = pa.types
    if types.is_timestamp(column_type) or types.is_date(column_type):
        return f"{column_type} read {CALENDAR}"
    if types.is_duration(column_type) or types.is_time(column_type):
        return f"{column_type} read {SECONDS}"
    return f"{column_type} read as numbers" if types.is_decimal(column_type) else ""


def _convert_type(column_type: pa.DataType) -> Callable[[Any], Any] | None:
    types = pa.types
    if types.is_decimal(column_type) or types.is_temporal(column_type):
        return plain_cell
    if types.is_map(column_type):
        inner = _convert_type(column_type.item_type) or _same
        return lambda cell: None if cell is None else {key: inner(value) for key, value in cell}
    if types.is_struct(column_type):
        converters = {field.name: convert for field in column_type if (convert := make_converter(field))}
        return (lambda cell: _convert_entries(cell, converters)) if converters else None
    is_list = types.is_list(column_type) or types.is_large_list(column_type) or types.is_fixed_size_list(column_type)
    convert = _convert_type(column_type.value_type) if is_list else None
    return partial(_convert_list, convert) if convert else None


def _convert_entries(cell: Any, converters: dict[str, Callable[[Any], Any]]) -> Any:
    if cell is None:
        return None
    return {name: converters[name](entry) if name in converters else entry for name, entry in cell.items()}


def _convert_list(convert: Callable[[Any], Any], cell: Any) -> Any:
    return None if cell is None else [convert(entry) for entry in cell]


def _same(value: Any) -> Any:
    return value
