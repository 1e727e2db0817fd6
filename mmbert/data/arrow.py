"""The rows of a memory-mapped Arrow file, seen as samples of a recipe's inputs and targets."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmbert.contracts import Field
from mmbert.data.columns import ColumnsByField, check_column_exists, match_columns, resolve_media_path
from mmbert.data.splits import FRACTIONS, Split, rows_of_split, split_by_column, split_by_hash
from mmbert.errors import DataError, SampleError
from mmbert.types import Sample, sample_id

BLOCK = 128  # rows that are read at once where many are read
OWN = ("group", "key", "row", "where")  # attributes that every sample has


def write_rows(folder: Path, tables: Iterable[tuple[str, pa.Table]]) -> None:
    """Keep named tables of one schema in a folder that ``ArrowRows`` can open; pieces of one name come one after another."""
    tables = iter(tables)
    name, table = next(tables)
    sizes = {name: len(table)}
    with pa.ipc.new_file(str(folder / "rows.arrow"), table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None), max_chunksize=1 << 16)
        for name, table in tables:
            writer.write_table(table.replace_schema_metadata(None), max_chunksize=1 << 16)
            sizes[name] = sizes.get(name, 0) + len(table)
    (folder / "parts.json").write_text(json.dumps(list(sizes.items())))


class ArrowRows:
    """What the sources that keep an Arrow file share: fields, ids, splits and samples.

    ``folder`` is what ``write_rows`` made; for the options see ``FilesSource``. Pickles as the path of the file, which
    a data worker maps again. Raises ``DataError`` where there are no rows, on a column that is not there, and on a key
    that is missing or there twice.
    """

    def __init__(
        self,
        source: str,
        folder: Path,
        inputs: Mapping[str, Field],
        targets: Mapping[str, Field],
        *,
        columns: Mapping[str, str],
        key: str | None,
        group: str | None,
        split: str | Mapping[str, float] | None,
        split_seed: int,
        media: Path | None,
        attributes: Collection[str] = (),
    ):
        self.source, self.media = source, media
        self._file = folder / "rows.arrow"
        self._parts: list[tuple[str, int]] = json.loads((folder / "parts.json").read_text())  # file, number of rows
        self._table: pa.Table | None = None
        names = self.table.column_names
        if not len(self.table):
            raise DataError(f"{source}: there are no rows")
        fields = match_columns(source, {**inputs, **targets}, columns, names)
        self._inputs: ColumnsByField = {name: fields[name] for name in inputs if name in fields}
        self._targets: ColumnsByField = {name: fields[name] for name in targets if name in fields}
        if not self._inputs:
            inputs_text = ", ".join(f"'{name}'" for name in inputs)
            raise DataError(f"{source}: no column fills any of the inputs {inputs_text}. Columns: {', '.join(names)}")
        self._media = {name for name, field in {**inputs, **targets}.items() if field.processor.reads_files}
        self._key = check_column_exists(source, key, names, "key") if key else "id" if "id" in names else None
        self._group = check_column_exists(source, group, names, "group") if group else None
        self._attributes = [check_column_exists(source, column, names, "attributes") for column in attributes]
        if reserved := sorted({*OWN} & {*attributes}):
            raise DataError(f"{source}: 'attributes' must not name a column '{reserved[0]}': each row has its own")
        self._splits = self._split(split or ("split" if "split" in names else FRACTIONS), split_seed)

    @property
    def table(self) -> pa.Table:
        """The whole file, mapped: rows are read when they are asked for."""
        if self._table is None:
            self._table = pa.ipc.open_file(pa.memory_map(str(self._file))).read_all()
        return self._table

    @property
    def fields(self) -> frozenset[str]:
        """The names of those inputs and targets that the file has columns for."""
        return frozenset({*self._inputs, *self._targets})

    def split(self, name: str) -> Split:
        """The samples of a split, in the order of the file."""
        return Split(self.sample, rows_of_split(name, self._splits), self.samples)

    def sample(self, row: int) -> Sample:
        """The sample of a row, counted from 0. Raises ``SampleError`` on a media path that leads nowhere or outside."""
        return self._sample(row, lambda column: self.table[column][row].as_py(), None)

    def samples(self, rows: np.ndarray, names: Collection[str] | None) -> Iterator[Sample | SampleError]:
        """The samples of ascending rows, or errors in their places, with the inputs and targets in ``names`` alone."""
        used = {column for column in (self._key, self._group, *self._attributes) if column}
        for name, read in {**self._inputs, **self._targets}.items():
            if names is None or name in names:
                used |= {read} if isinstance(read, str) else {*read.values()}
        for block in np.split(rows, np.flatnonzero(np.diff(rows // BLOCK)) + 1) if len(rows) else ():
            first, size = int(block[0]), int(block[-1] - block[0]) + 1
            places = pa.array(block - first)
            cells = {column: self.table[column].slice(first, size).take(places).to_pylist() for column in used}
            for at, row in enumerate(block.tolist()):
                try:
                    found = self._sample(row, lambda column, at=at, cells=cells: cells[column][at], names)
                except SampleError as error:
                    found = error
                yield found

    def _sample(self, row: int, cell: Callable[[str], Any], names: Collection[str] | None) -> Sample:
        key = str(cell(self._key) if self._key else row + 1)
        group = cell(self._group) if self._group else key
        file, number = self._place(row)
        where = f"{file} row {number}" if file else f"row {number}, {self._key} {key}"
        kept = {name: value for name in self._attributes if (value := drop_missing(cell(name))) is not None}
        return Sample(
            id=sample_id(self.source, key),
            source=self.source,
            inputs=self._values(self._inputs, cell, f"{self.source} ({where})", "input", names),
            targets=self._values(self._targets, cell, f"{self.source} ({where})", "task", names),
            attributes=kept | {"where": where, "row": number, "key": key} | ({} if group is None else {"group": group}),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def _split(self, split: str | Mapping[str, float], seed: int) -> np.ndarray:
        if self._key:
            self._check_keys(self._key)
        groups = _Again(self._groups)
        if not isinstance(split, str):
            return split_by_hash(groups, split, seed)
        cells = self._cells(check_column_exists(self.source, split, self.table.column_names, "split"))
        return split_by_column(cells, groups, seed, lambda row: f"{self.source} ({self._where(row)})")

    def _groups(self) -> Iterator[str]:
        keys = map(str, self._cells(self._key) if self._key else range(1, len(self.table) + 1))
        if not self._group:
            return keys
        pairs = zip(keys, self._cells(self._group), strict=True)
        return (f"\0{key}" if cell is None else str(cell) for key, cell in pairs)  # without a group: one of its own

    def _check_keys(self, key: str) -> None:
        ids = np.empty(len(self.table), np.int64)
        for row, cell in enumerate(self._cells(key)):
            if cell is None:
                raise DataError(f"{self.source} ({self._where(row)}): the key '{key}' is missing")
            ids[row] = sample_id(self.source, str(cell))
        order = np.argsort(ids, kind="stable")
        again = order[1:][ids[order[1:]] == ids[order[:-1]]]
        if len(again):
            row = int(again.min())
            earlier = int(np.flatnonzero(ids == ids[row])[0])
            raise DataError(
                f"{self.source}: the key '{key}' must differ from row to row, however "
                f"'{self.table[key][row].as_py()}' is in {self._where(earlier)} and in {self._where(row)}"
            )

    def _cells(self, column: str) -> Iterator[Any]:
        for first in range(0, len(self.table), BLOCK):
            yield from self.table[column].slice(first, BLOCK).to_pylist()

    def _place(self, row: int) -> tuple[str, int]:
        for name, size in self._parts:
            if row < size:
                return name, row + 1
            row -= size
        raise IndexError(row)

    def _where(self, row: int) -> str:
        name, number = self._place(row)
        return f"{name} row {number}".lstrip()

    def _values(
        self, fields: ColumnsByField, cell: Callable[[str], Any], place: str, kind: str, names: Collection[str] | None
    ) -> dict[str, Any]:
        values = {}
        for name, column in fields.items():
            if names is not None and name not in names:
                continue
            one = isinstance(column, str)
            value = drop_missing(cell(column) if one else {key: cell(origin) for key, origin in column.items()})
            if value is not None and name in self._media and isinstance(value, str):
                try:
                    value = resolve_media_path(value, self.media)
                except SampleError as error:
                    raise error.at(place, f"{kind} '{name}'") from error
            if value is not None:
                values[name] = value
        return values


class _Again:
    """What a function yields, as often as it is iterated."""

    def __init__(self, read: Callable[[], Iterator[str]]):
        self._read = read

    def __iter__(self) -> Iterator[str]:
        return self._read()


def drop_missing(value: Any) -> Any:
    """The value, or None where nothing is there; entries of a dict that hold nothing are left out."""
    if isinstance(value, dict):
        return {name: kept for name, entry in value.items() if (kept := drop_missing(entry)) is not None} or None
    return None if isinstance(value, float) and value != value else value
