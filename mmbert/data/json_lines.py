"""JSON Lines files as tables: lists that Arrow has no type for are kept as JSON text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmbert.data.csv_reader import check_byte_order_mark, explain_encoding, open_bytes
from mmbert.data.read_options import ReadOptions
from mmbert.errors import DataError

KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
NESTED = (KINDS[list], KINDS[dict])
AS_JSON = {b"json": b"1"}  # metadata of a column that is stored as JSON text


def read_json_lines(path: Path, options: ReadOptions) -> pa.Table:
    """A file as a table: one object a line, blank lines are passed over.

    A column of lists or objects that hold values of several types (the fields of a graph's nodes) is a column of
    strings with the metadata ``AS_JSON``.

    Args:
        path: of the file; ``.gz`` is unpacked.
        options: of the source.

    Raises:
        DataError: naming the row (objects are counted from 1) and its line.
    """
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}  # in the order of their first use
    kinds: dict[str, str] = {}
    # not Arrow's reader, which turns text that looks like a date into a date, and does not name the row in errors
    for number, text in _lines(path, options.encoding):
        place = f"{path} row {len(rows) + 1}" + (f" (line {number})" if number != len(rows) + 1 else "")
        row = _parse(path, place, text, is_first=not rows)
        for name, value in row.items():
            if value is not None and kinds.setdefault(name, KINDS[type(value)]) != KINDS[type(value)]:
                raise DataError(
                    f"{place}: '{name}' must be {kinds[name]}, as in the rows before, "
                    f"however it is {KINDS[type(value)]}"
                )
        rows.append(row)
        names.update(dict.fromkeys(row))
    fields, columns = [], []
    for name in names:
        values = [row.get(name) for row in rows]
        as_json = kinds.get(name) in NESTED and name in options.exact and mixes_numbers(values)
        column = None if as_json else _make_column(path, name, values, may_fail=kinds.get(name) in NESTED)
        if column is None:
            column = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
            fields.append(pa.field(name, column.type, metadata=AS_JSON))
        else:
            fields.append(pa.field(name, column.type))
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def mixes_numbers(values: list[Any]) -> bool:
    """Whether lists of one length hold integers at one place throughout, and floats at another.

    Args:
        values: lists or objects, at any depth.

    Example:
        >>> mixes_numbers([[[6, 0.5], [7, 1]]]), mixes_numbers([[1, 2.5], [0.5, 2]])
        (True, False)
    """
    places: dict[tuple, list[set[type]]] = {}
    lengths: dict[tuple, int] = {}

    def visit(value: Any, path: tuple) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, (*path, key))
        elif isinstance(value, list) and any(isinstance(inner, list | dict) for inner in value):
            for inner in value:
                visit(inner, (*path, None))
        elif isinstance(value, list):
            types = places.setdefault(path, [set() for _ in value])
            if lengths.setdefault(path, len(value)) != len(value):
                lengths[path] = -1
            for at, inner in zip(types, value, strict=False):
                at.add(type(inner))

    for value in values:
        visit(value, ())
    uniform = [types for path, types in places.items() if lengths[path] > 0]
    return any({int} in types and any(float in at for at in types) for types in uniform)


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    with open_bytes(path) as file:
        content = file.read()
    check_byte_order_mark(path, content[:4], encoding)
    if encoding.lower() not in ("utf-8", "utf8"):
        try:
            content = content.decode(encoding).encode()
        except UnicodeError as error:
            raise DataError(f"{path}: cannot be read as {encoding}: {error}") from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            around = line[max(0, error.start - 20) : error.start + 20].decode(errors="replace")
            raise explain_encoding(f"{path} line {number}", line[error.start], around, encoding) from None
        if text.strip():
            yield number, text


def _parse(path: Path, place: str, text: str, is_first: bool) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        row, reason = None, str(error)
    else:
        reason = ""
    is_array = is_first and text.lstrip().startswith("[")
    if is_array and (reason or (row and isinstance(row[0], dict))):
        raise DataError(
            f"{path}: expected JSON Lines, one object a line, found one JSON array. Write it as JSON Lines: "
            f"jq -c '.[]' {path.name} > lines.jsonl"
        )
    if reason:
        pretty = "; an object must stand on one line (jq -c . does that)" if text.strip() in ("{", "[") else ""
        raise DataError(f"{place}: not valid JSON: {reason}{pretty}")
    if not isinstance(row, dict):
        raise DataError(f"{place}: must be an object, however: {text[:40]!r}")
    return row


def _make_column(path: Path, name: str, values: list[Any], may_fail: bool) -> pa.Array | None:
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError) as error:  # a list of two types, half a surrogate pair
        if may_fail:
            return None
        raise DataError(f"{path}: the column '{name}' cannot be stored: {error}") from error
