"""Files of rows (CSV, TSV, JSON Lines, Parquet, Arrow) as Arrow tables with one type for each column.

CSV has no types, see ``column_types``. CSV and JSON Lines hold text, so that codes such as ``007`` need no care there;
lists and objects need JSON Lines, Parquet or Arrow, bytes (of images and sounds) Parquet or Arrow.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmbert.data.column_types import remove_missing_words, type_columns, with_done
from mmbert.data.csv_reader import read_csv
from mmbert.data.json_lines import AS_JSON, read_json_lines
from mmbert.data.read_options import ReadOptions
from mmbert.errors import DataError, nearest

FORMATS = {
    **dict.fromkeys((".csv", ".csv.gz"), "csv"),
    **dict.fromkeys((".tsv", ".tsv.gz"), "tsv"),
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".ndjson"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather"), "arrow"),
}
NO_OPTIONS = ReadOptions()
SEPARATORS = {"csv": ",", "tsv": "\t"}


def file_format(path: Path) -> str:
    """The format of a file by its name. Raises ``DataError`` on an unknown ending."""
    suffixes = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffixes not in FORMATS:
        raise DataError(f"{path}: the format '{suffixes}' is not known. {nearest(suffixes, FORMATS)}")
    return FORMATS[suffixes]


def read_tables(paths: Sequence[Path], options: ReadOptions = NO_OPTIONS) -> Iterator[tuple[Path, pa.Table]]:
    """Read files of one format into tables of one schema, in order; a file may come as several tables.

    A column that only some files have is missing in the rows of the others. CSV and JSON Lines are read into memory,
    Parquet and Arrow in pieces. What was done to the cells stands in the metadata of the columns, see ``read_done``.

    Args:
        paths: files of one format.
        options: of the source; by default none is given.

    Raises:
        DataError: where a file cannot be read or the types of a column do not agree.
    """
    formats = {file_format(path) for path in paths}
    if len(formats) > 1:
        raise DataError(f"the files of a source must be of one format, however: {', '.join(sorted(formats))}")
    kind = formats.pop()
    options.check_format(", ".join(map(str, paths)), kind)
    match kind:
        case "csv" | "tsv":
            separator = options.separator or SEPARATORS[kind]
            tables = [_read_file(path, lambda path: read_csv(path, separator, options)) for path in paths]
            yield from zip(paths, type_columns([*map(str, paths)], tables, options), strict=True)
        case "jsonl":
            tables = [_read_file(path, lambda path: read_json_lines(path, options)) for path in paths]
            yield from _align(paths, _as_json_alike(tables), options)
        case "parquet":
            schema = _join_schemas(paths, [_read_file(path, pq.read_schema) for path in paths])
            for path in paths:
                for batch in _read_file(path, pq.ParquetFile).iter_batches():
                    yield path, _without_words(_cast(pa.Table.from_batches([batch]), schema), options)
        case "arrow":
            yield from _align(paths, [_read_file(path, _read_arrow) for path in paths], options)


def _read_arrow(path: Path) -> pa.Table:
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(source).read_all()


def _align(paths: Sequence[Path], tables: Sequence[pa.Table], options: ReadOptions) -> Iterator[tuple[Path, pa.Table]]:
    schema = _join_schemas(paths, [table.schema for table in tables])
    for path, table in zip(paths, tables, strict=True):
        yield path, _without_words(_cast(table, schema), options)


def _as_json_alike(tables: Sequence[pa.Table]) -> Sequence[pa.Table]:
    """The tables, in which a column that one of them keeps as JSON text is so in all."""
    names = {field.name for table in tables for field in table.schema if field.metadata == AS_JSON}
    alike = []
    for table in tables:
        for place, field in enumerate(table.schema):
            if field.name in names and field.metadata != AS_JSON:
                texts = [None if cell is None else json.dumps(cell) for cell in table[field.name].to_pylist()]
                text_field = pa.field(field.name, pa.string(), metadata=AS_JSON)
                table = table.set_column(place, text_field, pa.array(texts, pa.string()))
        alike.append(table)
    return alike


def _join_schemas(paths: Sequence[Path], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for all files; of columns with one name the first stays, and its metadata say so."""
    try:
        joined = pa.unify_schemas([_without_repeated(schema) for schema in schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the columns of {', '.join(map(str, paths))} do not agree: {error}") from error
    return pa.schema([field.with_type(_with_numbers(field.type)) for field in joined])


def _with_numbers(kind: pa.DataType) -> pa.DataType:
    """The type with numbers in place of lists that hold nothing but null, which Arrow cannot cast."""
    if not pa.types.is_list(kind):
        return kind
    inner = pa.float64() if pa.types.is_null(kind.value_type) else _with_numbers(kind.value_type)
    return kind if inner == kind.value_type else pa.list_(inner)


def _without_repeated(schema: pa.Schema) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    for field in schema:
        metadata = {b"json": b"1"} if field.metadata == AS_JSON else {}
        if repeated := schema.names.count(field.name) - 1:
            metadata[b"repeated"] = str(repeated + 1).encode()
        fields.setdefault(field.name, field.with_metadata(metadata or None))
    return pa.schema([*fields.values()])


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = pa.nulls(len(table))
    places = {name: table.column_names.index(name) for name in table.column_names}
    columns = [table.column(places[name]) if name in places else missing for name in schema.names]
    try:
        columns = [_cast_column(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    except pa.ArrowException as error:
        raise DataError(f"a column cannot be read as one type in all files: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def _cast_column(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return column.cast(kind) if _with_numbers(column.type) == column.type else pa.array(column.to_pylist(), kind)


def _without_words(table: pa.Table, options: ReadOptions) -> pa.Table:
    """The table without the words that the source's ``na_values`` call missing; JSON text has none."""
    for place, field in enumerate(table.schema) if options.na_values else ():
        if pa.types.is_string(field.type) and field.metadata != AS_JSON:
            column, counts = remove_missing_words(table.column(place), options.na_values)
            table = table.set_column(place, with_done(field, {"missing": counts}), column)
    return table


def _read_file(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
