"""Rows of a memory-mapped Arrow file, read as samples with the inputs and targets of a recipe."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmbert.contracts import Field
from mmbert.data.cells import drop_missing, make_converter
from mmbert.data.column_summary import summarise
from mmbert.data.columns import ColumnsByField, check_column_exists, match_columns
from mmbert.data.media_paths import resolve_media_value
from mmbert.data.row_folder import ROWS_FILE, read_parts
from mmbert.data.splits import FRACTIONS, Split, explain_empty_hash, rows_of_split, split_by_column, split_by_hash
from mmbert.errors import DataError, SampleError
from mmbert.types import Sample, SourceSummary, sample_id

BLOCK = 128  # rows that are read at once where many are read
ROW = "row"  # as 'key' says: the rows' numbers
RESERVED_ATTRIBUTES = ("group", "key", "row", "where")  # every sample has these

OTHER_KEYS = "The source's option 'key' names another column; 'key: row' numbers the rows"

ReadCell = Callable[[str], Any]  # the cell of a row in the column of that name


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How the columns of a file become samples; for each option see ``FilesSource``."""

    columns: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    group: str | None = None
    split: str | Mapping[str, float] | None = None
    split_seed: int = 0
    attributes: Collection[str] = ()


class ArrowRows:
    """Fields, ids, splits and samples of an Arrow file, for the sources that keep one.

    It pickles as the path of the file, which each data worker maps again.

    Args:
        source: the name of the source, for sample ids and messages.
        folder: a folder that ``write_rows`` filled.
        inputs: the recipe's inputs by name.
        targets: the recipe's targets by the name of the task.
        media: the folder that media paths are relative to; None allows no paths.
        options: how columns become samples.

    Raises:
        DataError: where the file has no rows or a named column does not exist; where a key is missing or not unique.
    """

    def __init__(
        self,
        source: str,
        folder: Path,
        inputs: Mapping[str, Field],
        targets: Mapping[str, Field],
        *,
        media: Path | None,
        options: RowOptions,
    ):
        self.source, self.media, self._options = source, media, options
        self._file = folder / ROWS_FILE
        self._parts, self._notes = read_parts(folder)
        self._table: pa.Table | None = None
        self._converters: dict[str, Callable[[Any], Any] | None] = {}
        names = self.table.column_names
        if not len(self.table):
            raise DataError(f"{source}: there are no rows")
        fields = match_columns(source, {**inputs, **targets}, options.columns, names)
        self._fields = inputs, targets
        self._inputs: ColumnsByField = {name: fields[name] for name in inputs if name in fields}
        self._targets: ColumnsByField = {name: fields[name] for name in targets if name in fields}
        if not self._inputs:
            inputs_text = ", ".join(f"'{name}'" for name in inputs)
            raise DataError(f"{source}: no column fills any of the inputs {inputs_text}. Columns: {', '.join(names)}")
        self._media = {name for name, field in {**inputs, **targets}.items() if field.processor.reads_files}
        numbered = options.key == ROW and ROW not in names
        for option, column in (("key", None if numbered else options.key), ("group", options.group)):
            if column:
                check_column_exists(source, column, names, option)
        self._key = None if numbered else options.key or ("id" if "id" in names else None)
        self._group = options.group or None
        self._attributes = [*options.attributes]
        for column in self._attributes:
            check_column_exists(source, column, names, "attributes")
        if reserved := sorted({*RESERVED_ATTRIBUTES} & {*self._attributes}):
            raise DataError(f"{source}: 'attributes' must not name a column '{reserved[0]}': each row has its own")
        self._check_repeated(options)
        self._splits = self._split_rows(options)

    @property
    def table(self) -> pa.Table:
        """The whole file, memory-mapped: a row is read from disk when it is needed."""
        if self._table is None:
            self._table = pa.ipc.open_file(pa.memory_map(str(self._file))).read_all()
        return self._table

    @property
    def fields(self) -> frozenset[str]:
        """The names of the inputs and targets for which the file has columns."""
        return frozenset({*self._inputs, *self._targets})

    @property
    def summary(self) -> SourceSummary:
        """What there is to say of the columns that the recipe reads."""
        inputs, targets = self._fields
        return summarise(self.source, self.table, (inputs, self._inputs), (targets, self._targets), self._notes)

    def split(self, name: str) -> Split:
        """The samples of a split, in the order of the file."""
        return Split(self.sample, rows_of_split(name, self._splits), self.samples)

    def explain_empty_split(self, name: str) -> str:
        """Why a split has no rows and what to do; empty where it has rows.

        Args:
            name: train, validation or test.
        """
        if len(rows_of_split(name, self._splits)):
            return ""
        chosen = self._options.split or ("split" if "split" in self.table.column_names else FRACTIONS)
        if isinstance(chosen, str):
            return (
                f"{self.source}: the column '{chosen}' puts no row into {name}; write '{name}' into some of its cells."
            )
        groups = [*dict.fromkeys(_Reiterable(self._groups))]
        unit = f"values of the group '{self._group}'" if self._group else "rows"
        return f"{self.source}: {explain_empty_hash(name, groups, chosen, self._options.split_seed, unit)}"

    def sample(self, row: int) -> Sample:
        """The sample of a row, counted from 0.

        Raises:
            SampleError: on a media path that does not exist or lies outside of the media folder.
        """
        return self._sample(row, lambda column: self.table[column][row].as_py(), None)

    def samples(self, rows: np.ndarray, names: Collection[str] | None) -> Iterator[Sample | SampleError]:
        """Read many samples; a sample that cannot be read is replaced by its error.

        Args:
            rows: [rows] ascending, counted from 0.
            names: the inputs and targets to read; None reads all.
        """
        columns = {column for column in (self._key, self._group, *self._attributes) if column}
        for name, column in {**self._inputs, **self._targets}.items():
            if names is None or name in names:
                columns |= {column} if isinstance(column, str) else {*column.values()}
        for block in np.split(rows, np.flatnonzero(np.diff(rows // BLOCK)) + 1) if len(rows) else ():
            first, size = int(block[0]), int(block[-1] - block[0]) + 1
            places = pa.array(block - first)
            cells = {column: self.table[column].slice(first, size).take(places).to_pylist() for column in columns}
            for place, row in enumerate(block.tolist()):
                try:
                    sample = self._sample(row, lambda column, at=place, cells=cells: cells[column][at], names)
                except SampleError as error:
                    yield error
                else:
                    yield sample

    def _sample(self, row: int, read_cell: ReadCell, names: Collection[str] | None) -> Sample:
        key = str(read_cell(self._key) if self._key else row + 1)
        group = read_cell(self._group) if self._group else key
        file, number = self._file_and_number(row)
        where = f"{file} row {number}" if file else f"row {number}, {self._key} {key}"
        place = f"{self.source} ({where})"
        attributes = {name: value for name in self._attributes if (value := drop_missing(read_cell(name))) is not None}
        return Sample(
            id=sample_id(self.source, key),
            source=self.source,
            inputs=self._values(self._inputs, read_cell, names, lambda name: (place, f"input '{name}'")),
            targets=self._values(self._targets, read_cell, names, lambda name: (place, f"task '{name}'")),
            attributes=attributes
            | {"where": where, "row": number, "key": key}
            | ({} if group is None else {"group": group}),
        )

    def _read(self, read_cell: ReadCell, column: str) -> Any:
        """A cell as a raw value."""
        cell = read_cell(column)
        if column not in self._converters:
            self._converters[column] = make_converter(self.table.schema.field(column))
        convert = self._converters[column]
        return cell if convert is None else convert(cell)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None, "_converters": {}}

    def _split_rows(self, options: RowOptions) -> np.ndarray:
        names = self.table.column_names
        if self._key:
            self._check_keys(self._key)
        groups = _Reiterable(self._groups)
        split = options.split or ("split" if "split" in names else FRACTIONS)
        if not isinstance(split, str):
            return split_by_hash(groups, split, options.split_seed)
        check_column_exists(self.source, split, names, "split")
        cells = self._cells(split)
        return split_by_column(
            cells, groups, options.split_seed, lambda row: f"{self.source} ({self._describe_row(row)})"
        )

    def _check_repeated(self, options: RowOptions) -> None:
        """Refuse to read a column whose name another has too."""
        columns: dict[str, str] = {}  # column -> what reads it
        for name, place in {**self._inputs, **self._targets}.items():
            columns |= dict.fromkeys([place] if isinstance(place, str) else place.values(), f"'{name}'")
        used = {"key": self._key, "group": self._group, "split": options.split}
        columns |= {column: f"the option '{name}'" for name, column in used.items() if isinstance(column, str)}
        for column, reader in columns.items():
            if column in self.table.column_names and b"repeated" in (self.table.schema.field(column).metadata or {}):
                raise DataError(f"{self.source}: there are two columns '{column}', which {reader} reads: rename one")

    def _groups(self) -> Iterator[str]:
        keys = map(str, self._cells(self._key) if self._key else range(1, len(self.table) + 1))
        if not self._group:
            return keys
        pairs = zip(keys, self._cells(self._group), strict=True)
        return (f"\0{key}" if cell is None else str(cell) for key, cell in pairs)  # a row without one is its own group

    def _check_keys(self, key: str) -> None:
        ids = np.empty(len(self.table), np.int64)
        for row, cell in enumerate(self._cells(key)):
            if cell is None:
                raise DataError(f"{self.source} ({self._describe_row(row)}): the key '{key}' is missing. {OTHER_KEYS}")
            ids[row] = sample_id(self.source, str(cell))
        order = np.argsort(ids, kind="stable")
        repeated = order[1:][ids[order[1:]] == ids[order[:-1]]]
        if len(repeated):
            row = int(repeated.min())
            earlier = int(np.flatnonzero(ids == ids[row])[0])
            raise DataError(
                f"{self.source}: the key '{key}' must differ from row to row, however "
                f"'{self.table[key][row].as_py()}' is in {self._describe_row(earlier)} and in {self._describe_row(row)}"
                f". {OTHER_KEYS}; 'group: {key}' then keeps the rows of one {key} in one split"
            )

    def _cells(self, column: str) -> Iterator[Any]:
        for first in range(0, len(self.table), BLOCK):
            yield from self.table[column].slice(first, BLOCK).to_pylist()

    def _file_and_number(self, row: int) -> tuple[str, int]:
        """The file that a row comes from, and its number there, counted from 1."""
        for name, size in self._parts:
            if row < size:
                return name, row + 1
            row -= size
        raise IndexError(row)

    def _describe_row(self, row: int) -> str:
        name, number = self._file_and_number(row)
        return f"{name} row {number}".lstrip()

    def _values(
        self,
        fields: ColumnsByField,
        read_cell: ReadCell,
        names: Collection[str] | None,
        describe: Callable[[str], tuple[str, str]],
    ) -> dict[str, Any]:
        """The values of a row by field; ``describe`` gives the row and the field for an error."""
        values = {}
        for name, column in fields.items():
            if names is not None and name not in names:
                continue
            cells = (
                self._read(read_cell, column)
                if isinstance(column, str)
                else {key: self._read(read_cell, origin) for key, origin in column.items()}
            )
            value = drop_missing(cells)
            if value is not None and name in self._media:
                try:
                    value = resolve_media_value(value, self.media)
                except SampleError as error:
                    raise error.at(*describe(name)) from error
            if value is not None:
                values[name] = value
        return values


class _Reiterable:
    """The items that a function yields, read anew on each iteration."""

    def __init__(self, read: Callable[[], Iterator[str]]):
        self._read = read

    def __iter__(self) -> Iterator[str]:
        return self._read()
