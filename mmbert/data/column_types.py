"""The types of CSV columns: one for each column, by all its cells or as training had it, and what was done to get it.

A column whose cells are all whole numbers, all numbers or all true/false gets that type, any other column is text.
Blanks around cells are removed, but for columns of text inputs. An empty cell is missing, and so are ``NA``, ``N/A``,
``NaN``, ``null`` and ``?`` in columns that are otherwise numbers. Numbers with leading zeros (``007``) are text.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute

from mmbert.data.read_options import ReadOptions
from mmbert.errors import DataError

pc: Any = compute  # its functions are made at run time

INTEGER = r"^-?(0|[1-9]\d{0,17})$"  # what fits into 64 bits
NUMBER = r"^(?i:-?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|-?inf)$"
BOOLEAN = r"^(?i:true|false)$"
KNOWN_NUMBER = r"^(?i:[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|[+-]?inf)$"  # of a column that holds numbers for sure
MISSING_NUMBER = r"^(?i:na|n/a|null|\?)$"  # beside nan, which is a number


def kind_of(column_type: pa.DataType) -> str:
    """The kind of a column, as checkpoints keep it: text, integer, number, boolean or other.

    Args:
        column_type: its type.
    """
    if pa.types.is_dictionary(column_type):
        return kind_of(column_type.value_type)
    if pa.types.is_string(column_type) or pa.types.is_large_string(column_type):
        return "text"
    if pa.types.is_integer(column_type):
        return "integer"
    if pa.types.is_floating(column_type) or pa.types.is_decimal(column_type):
        return "number"
    return "boolean" if pa.types.is_boolean(column_type) else "other"


def read_done(field: pa.Field) -> dict[str, Any]:
    """What was done to the cells of a column: counts of ``blanks``, ``empty`` and, by word, ``missing``.

    Args:
        field: of a table that ``type_columns`` gave, or of any other.
    """
    return json.loads((field.metadata or {}).get(b"done", b"{}"))


def with_done(field: pa.Field, done: dict[str, Any]) -> pa.Field:
    """A field whose metadata also say what was done to its cells.

    Args:
        field: of a table.
        done: see ``read_done``.
    """
    return field.with_metadata({**(field.metadata or {}), "done": json.dumps(done)})


def type_columns(places: Sequence[str], tables: Sequence[pa.Table], options: ReadOptions) -> list[pa.Table]:
    """Give the columns of tables of text one type throughout.

    Args:
        places: the file of each table, for messages.
        tables: of strings. A column that only some have is missing in the others.
        options: of the source.

    Raises:
        DataError: naming file, row and column, on a cell that is not of the kind that the column had in training.
    """
    sizes = [len(table) for table in tables]
    columns, fields = [], []
    metadata = {name: table.schema.field(name).metadata for table in tables for name in table.column_names}
    for name in metadata:
        cells = [table[name] if name in table.column_names else pa.nulls(len(table), pa.string()) for table in tables]
        try:
            column, done = _type_column(name, pa.chunked_array(_chunks(cells), pa.string()), options)
        except _WrongCellError as error:
            raise DataError(f"{_describe(error.row, places, sizes)}: {error}") from None
        fields.append(with_done(pa.field(name, column.type, metadata=metadata[name]), done))
        columns.append(column)
    first, typed = 0, []
    for table in tables:
        schema = pa.schema(fields, metadata=table.schema.metadata)
        pieces = [column.slice(first, len(table)) for column in columns]
        typed.append(pa.Table.from_arrays(pieces, schema=schema))
        first += len(table)
    return typed


def remove_missing_words(column: pa.ChunkedArray, words: Sequence[str]) -> tuple[pa.ChunkedArray, dict[str, int]]:
    """The column with null in place of some words, and how often each was there.

    Args:
        column: of strings.
        words: that are missing values.
    """
    if not words:
        return column, {}
    wrong = pc.is_in(column, value_set=pa.array(words, column.type))
    counts = _counts(column.filter(wrong))
    return (_without(column, wrong) if counts else column), counts


class _WrongCellError(Exception):
    def __init__(self, row: int, reason: str):
        super().__init__(reason)
        self.row = row


def _type_column(name: str, raw: pa.ChunkedArray, options: ReadOptions) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    kind = options.kinds.get(name)
    column, done = raw, {"empty": raw.null_count}
    if name not in options.verbatim:
        column = pc.utf8_trim_whitespace(raw)
        done["blanks"] = pc.sum(pc.not_equal(column, raw)).as_py() or 0
        blank = pc.equal(column, "")
        done["empty"] += pc.sum(blank).as_py() or 0
        column = _without(column, blank) if done["blanks"] else column
    column, done["missing"] = remove_missing_words(column, options.na_values)
    if name in options.verbatim or kind == "text":
        return column, done
    plain = _plain_numbers(column, options)
    if kind in ("integer", "number"):
        return _known_numbers(name, column, plain, done)
    if kind == "boolean":
        _check_all(column, BOOLEAN, f"the column '{name}' holds true or false, as in training")
        return column.cast(pa.bool_()), done
    words = pc.match_substring_regex(plain, MISSING_NUMBER)
    for pattern, column_type in ((INTEGER, pa.int64()), (NUMBER, pa.float64())):
        numbers = pc.match_substring_regex(plain, pattern)
        if _any(numbers) and pc.all(pc.or_(numbers, words)).as_py():
            return _numbers(plain, pc.and_(words, pc.invert(numbers)), column_type, done), done
    if _any(truths := pc.match_substring_regex(column, BOOLEAN)) and pc.all(truths).as_py():
        return column.cast(pa.bool_()), done
    return column, done


def _known_numbers(
    name: str, column: pa.ChunkedArray, plain: pa.ChunkedArray, done: dict[str, Any]
) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    words = pc.match_substring_regex(plain, MISSING_NUMBER)
    numbers = pc.match_substring_regex(plain, KNOWN_NUMBER)
    _check_all(column, pc.or_(numbers, words), f"the column '{name}' holds numbers, as in training")
    whole = pc.all(pc.or_(pc.match_substring_regex(plain, INTEGER), words)).as_py() is not False
    return _numbers(plain, words, pa.int64() if whole else pa.float64(), done), done


def _numbers(
    plain: pa.ChunkedArray, words: pa.ChunkedArray, column_type: pa.DataType, done: dict[str, Any]
) -> pa.ChunkedArray:
    for word, count in _counts(plain.filter(words)).items():
        done["missing"][word] = done["missing"].get(word, 0) + count
    plain = pc.replace_substring_regex(_without(plain, words), r"^\+", "")
    column = plain.cast(column_type)
    if pa.types.is_floating(column_type) and (nan := pc.sum(pc.is_nan(column)).as_py()):
        done["missing"]["nan"] = done["missing"].get("nan", 0) + nan
    return column


def _plain_numbers(column: pa.ChunkedArray, options: ReadOptions) -> pa.ChunkedArray:
    """The column with numbers as Python writes them; other cells as they are."""
    decimal, thousands = re.escape(options.decimal), re.escape(options.thousands)
    if options.thousands:
        grouped = rf"^[+-]?\d{{1,3}}({thousands}\d{{3}})+({decimal}\d*)?$"
        without = pc.replace_substring(column, options.thousands, "")
        column = pc.if_else(pc.match_substring_regex(column, grouped), without, column)
    if options.decimal != ".":
        numeric = rf"^[+-]?(\d+({decimal}\d*)?|{decimal}\d+)([eE][+-]?\d+)?$"
        with_point = pc.replace_substring(column, options.decimal, ".")
        column = pc.if_else(pc.match_substring_regex(column, numeric), with_point, column)
    return column


def _check_all(column: pa.ChunkedArray, pattern: str | pa.ChunkedArray, expected: str) -> None:
    matches = pc.match_substring_regex(column, pattern) if isinstance(pattern, str) else pattern
    row = pc.index(matches, False).as_py()
    if row >= 0:
        raise _WrongCellError(row, f"{expected}, found {column[row].as_py()!r:.60}")


def _any(matches: pa.ChunkedArray) -> bool:
    return bool(pc.any(matches).as_py())


def _without(column: pa.ChunkedArray, wrong: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.fill_null(wrong, False), pa.scalar(None, column.type), column)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()} if len(column) else {}


def _chunks(cells: Sequence[pa.ChunkedArray | pa.Array]) -> list[pa.Array]:
    return [chunk for column in cells for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])]


def _describe(row: int, places: Sequence[str], sizes: Sequence[int]) -> str:
    for place, size in zip(places, sizes, strict=True):
        if row < size:
            return f"{place} row {row + 1}"
        row -= size
    raise IndexError(row)
