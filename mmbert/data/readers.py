"""Files of rows (CSV, TSV, JSON Lines, Parquet, Arrow) as Arrow tables with one type for each column.

CSV has no types: a column whose cells are all whole numbers, all numbers or all true/false gets that type, any other
column is text. Numbers with leading zeros (``007``) are text. An empty cell is missing.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mmbert.errors import DataError, nearest

FORMATS = {
    **dict.fromkeys((".csv", ".csv.gz"), "csv"),
    **dict.fromkeys((".tsv", ".tsv.gz"), "tsv"),
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".ndjson"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather"), "arrow"),
}
BLOCK = 1 << 24  # bytes of a CSV file; a longer row cannot be read
INTEGER = r"^-?(0|[1-9]\d{0,17})$"  # what fits into 64 bits
NUMBER = r"^(?i:-?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|-?inf)$"
BOOLEAN = r"^(?i:true|false)$"
KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def file_format(path: Path) -> str:
    """The format of a file by its name. Raises ``DataError`` on an unknown ending."""
    suffixes = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffixes not in FORMATS:
        raise DataError(f"{path}: the format '{suffixes}' is not known. {nearest(suffixes, FORMATS)}")
    return FORMATS[suffixes]


def read_tables(paths: Sequence[Path]) -> Iterator[tuple[Path, pa.Table]]:
    """Read files of one format into tables of one schema, in order; a file may come as several tables.

    A column that only some files have is missing in the rows of the others. CSV and JSON Lines are read into memory,
    Parquet and Arrow in pieces.

    Args:
        paths: files of one format.

    Raises:
        DataError: where a file cannot be read or the types of a column do not agree.
    """
    formats = {file_format(path) for path in paths}
    if len(formats) > 1:
        raise DataError(f"the files of a source must be of one format, however: {', '.join(sorted(formats))}")
    match formats.pop():
        case "csv":
            yield from _read_csv(paths, ",")
        case "tsv":
            yield from _read_csv(paths, "\t")
        case "jsonl":
            yield from _align(paths, [_read_file(path, _read_jsonl) for path in paths])
        case "parquet":
            schema = _join_schemas(paths, [_read_file(path, pq.read_schema) for path in paths])
            for path in paths:
                for batch in _read_file(path, pq.ParquetFile).iter_batches():
                    yield path, _cast(pa.Table.from_batches([batch]), schema)
        case "arrow":
            yield from _align(paths, [_read_file(path, _read_arrow) for path in paths])


def _read_csv(paths: Sequence[Path], delimiter: str) -> Iterator[tuple[Path, pa.Table]]:
    tables = [_read_file(path, lambda path: _read_csv_as_text(path, delimiter)) for path in paths]
    joined = pa.concat_tables(tables, promote_options="default")
    schema = pa.schema([(name, _infer_type(joined[name])) for name in joined.column_names])
    for path, table in zip(paths, tables, strict=True):
        yield path, _cast(table, schema)


def _read_csv_as_text(path: Path, delimiter: str) -> pa.Table:
    read = pa_csv.ReadOptions(use_threads=False, block_size=BLOCK)  # with one thread, errors name the row
    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa_csv.open_csv(path, read_options=read, parse_options=parse) as reader:
        names = reader.schema.names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: there are two columns '{repeated[0]}'")
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return pa_csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)


def _infer_type(cells: pa.ChunkedArray) -> pa.DataType:
    cells = cells.drop_null()
    for pattern, kind in ((INTEGER, pa.int64()), (NUMBER, pa.float64()), (BOOLEAN, pa.bool_())):
        matches = pc.match_substring_regex(cells, pattern)  # pyright: ignore[reportAttributeAccessIssue]
        if len(cells) and matches.to_numpy().all():
            return kind
    return pa.string()


def _read_jsonl(path: Path) -> pa.Table:
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}  # in the order of their first use
    kinds: dict[str, str] = {}
    # not Arrow's reader, which turns text that looks like a date into a date, and does not name the row in errors
    with pa.input_stream(path) as stream:
        for number, line in enumerate(stream.read().splitlines(), start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path} row {number}: not valid JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path} row {number}: must be an object, however: {line[:40]!r}")
            for name, value in row.items():
                if value is not None and kinds.setdefault(name, KINDS[type(value)]) != KINDS[type(value)]:
                    raise DataError(
                        f"{path} row {number}: '{name}' must be {kinds[name]}, as in the rows before, "
                        f"however it is {KINDS[type(value)]}"
                    )
            rows.append(row)
            names.update(dict.fromkeys(row))
    return pa.table({name: _make_column(path, name, [row.get(name) for row in rows]) for name in names})


def _make_column(path: Path, name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError) as error:  # a list of two types, half a surrogate pair
        raise DataError(f"{path}: the column '{name}' cannot be stored: {error}") from error


def _read_arrow(path: Path) -> pa.Table:
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(source).read_all()


def _align(paths: Sequence[Path], tables: Sequence[pa.Table]) -> Iterator[tuple[Path, pa.Table]]:
    schema = _join_schemas(paths, [table.schema for table in tables])
    for path, table in zip(paths, tables, strict=True):
        yield path, _cast(table, schema)


def _join_schemas(paths: Sequence[Path], schemas: Sequence[pa.Schema]) -> pa.Schema:
    try:
        schemas = [schema.remove_metadata() for schema in schemas]
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the columns of {', '.join(map(str, paths))} do not agree: {error}") from error


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = pa.nulls(len(table))
    columns = [table[name] if name in table.column_names else missing for name in schema.names]
    try:
        columns = [column.cast(kind) for column, kind in zip(columns, schema.types, strict=True)]
    except pa.ArrowException as error:
        raise DataError(f"a column cannot be read as one type in all files: {error}") from error
    return pa.Table.from_arrays(columns, schema.names)


def _read_file(path: Path, read: Any) -> Any:
    try:
        return read(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
