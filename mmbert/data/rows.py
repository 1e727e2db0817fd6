"""The rows of a memory-mapped Arrow file, seen as samples of a recipe's inputs and targets."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from mmbert.contracts import Field
from mmbert.data.media import media_path
from mmbert.data.splits import FRACTIONS, SPLITS, by_column, by_hash
from mmbert.errors import DataError, SampleError, nearest
from mmbert.types import Sample, sample_id

Files = Sequence[tuple[str, int]]  # the name of each file and its number of rows, where several were joined


def write_rows(file: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema into an Arrow file that ``Rows`` can map."""
    with pa.ipc.new_file(str(file), schema.remove_metadata()) as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(None), max_chunksize=1 << 16)


class Rows:
    """What ``FilesSource`` and ``DatasetSource`` share: fields, ids, splits and samples of an Arrow file.

    Pickles as the path of the file, which a data worker maps again. Raises ``DataError`` on a column that is not there,
    on a key that is missing or there twice, and on an empty file.
    """

    def __init__(
        self,
        source: str,
        file: Path,
        inputs: Mapping[str, Field],
        targets: Mapping[str, Field],
        *,
        columns: Mapping[str, str],
        key: str | None,
        group: str | None,
        split: str | Mapping[str, float] | None,
        split_seed: int,
        media: Path | None,
        files: Files = (),
    ):
        self.source, self.file, self.media, self.files = source, file, media, tuple(files)
        self._table: pa.Table | None = None
        names = self.table.column_names
        if not len(self.table):
            raise DataError(f"{source}: there are no rows")
        wanted = {column for field in (*inputs.values(), *targets.values()) for column in _columns(field)}
        self._column = {**{name: name for name in names if name not in columns}}  # the recipe's name -> the file's
        for column, name in columns.items():
            self._known(column, "columns")
            if name not in wanted:
                raise DataError(f"{source}: no input or task reads '{name}', as 'columns' says. {nearest(name, wanted)}")
            if name in columns.values() and self._column.get(name, column) != column and self._column[name] in columns:
                raise DataError(f"{source}: 'columns' gives '{self._column[name]}' and '{column}' the name '{name}'")
            self._column[name] = column
        self._key = self._known(key, "key") if key else "id" if "id" in names else None
        self._group = self._known(group, "group") if group else None
        self._inputs, self._targets = self._present(inputs), self._present(targets)
        if not self._inputs:
            raise DataError(f"{source}: none of the inputs' columns ({', '.join(sorted(wanted))}) is there: {names}")
        self._parts = self._split(split or ("split" if "split" in names else FRACTIONS), split_seed)

    @property
    def table(self) -> pa.Table:
        if self._table is None:
            self._table = pa.ipc.open_file(pa.memory_map(str(self.file))).read_all()
        return self._table

    @property
    def fields(self) -> frozenset[str]:
        """The names of those inputs and targets that the file has columns for."""
        return frozenset({**self._inputs, **self._targets})

    def split(self, name: str) -> "Part":
        """The samples of a split, or those of ``all`` rows, in the order of the file."""
        if name not in (*SPLITS, "all"):
            raise DataError(f"{self.source}: no split is called '{name}'. {nearest(name, (*SPLITS, 'all'))}")
        keep = np.ones(len(self._parts), dtype=bool) if name == "all" else self._parts == SPLITS.index(name)
        return Part(self, np.flatnonzero(keep))

    def sample(self, row: int) -> Sample:
        """The sample of a row, counted from 0. Raises ``SampleError`` on a media path that leads outside."""
        file, number = self._place(row)
        key = self._cell(self._key, row) if self._key else row + 1
        where = f"{file} row {number}" if file else f"row {number}, id {key}" if self._key else f"row {number}"
        group = self._cell(self._group, row) if self._group else None
        return Sample(
            id=sample_id(self.source, str(key)),
            source=self.source,
            inputs=self._values(self._inputs, row, f"{self.source} ({where}), input"),
            targets=self._values(self._targets, row, f"{self.source} ({where}), task"),
            attributes={"where": where, "row": number, "key": str(key), "group": str(key if group is None else group)},
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def _known(self, column: str, option: str) -> str:
        if column not in self.table.column_names:
            raise DataError(
                f"{self.source}: there is no column '{column}', as '{option}' says. "
                f"{nearest(column, self.table.column_names)}"
            )
        return column

    def _present(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        present = {}
        for name, field in fields.items():
            missing = [column for column in _columns(field) if column not in self._column]
            if not missing:
                present[name] = field
            elif len(missing) < len(_columns(field)):
                raise DataError(
                    f"{self.source}: '{name}' reads several columns, of which '{missing[0]}' is not there. "
                    f"{nearest(missing[0], self._column)}"
                )
        return present

    def _split(self, split: str | Mapping[str, float], seed: int) -> np.ndarray:
        keys = self._keys()
        groups = keys
        if self._group:  # a row without a group is a group of its own
            cells = self.table[self._group].to_pylist()
            groups = [f"\0{key}" if cell is None else str(cell) for key, cell in zip(keys, cells, strict=True)]
        if not isinstance(split, str):
            return by_hash(groups, split, seed)
        cells = self.table[self._known(split, "split")].to_pylist()
        return by_column(cells, groups, seed, lambda row: f"{self.source} ({self._where(row)})")

    def _keys(self) -> list[str]:
        if not self._key:
            return [str(row + 1) for row in range(len(self.table))]
        first: dict[str, int] = {}
        for row, cell in enumerate(self.table[self._key].to_pylist()):
            if cell is None:
                raise DataError(f"{self.source} ({self._where(row)}): the key '{self._key}' is missing")
            if (earlier := first.setdefault(str(cell), row)) != row:
                raise DataError(
                    f"{self.source}: the key '{self._key}' must differ from row to row, "
                    f"however '{cell}' is in {self._where(earlier)} and in {self._where(row)}"
                )
        return list(first)

    def _place(self, row: int) -> tuple[str, int]:
        for name, rows in self.files:
            if row < rows:
                return name, row + 1
            row -= rows
        return "", row + 1

    def _where(self, row: int) -> str:
        return " row ".join(map(str, self._place(row))).strip()

    def _values(self, fields: Mapping[str, Field], row: int, place: str) -> dict[str, Any]:
        values = {}
        for name, field in fields.items():
            if isinstance(field.column, str):
                value = _cleaned(self._cell(self._column[field.column], row))
            else:
                value = _cleaned({column: self._cell(self._column[column], row) for column in field.column})
            if value is None:
                continue
            if field.processor.reads_files and isinstance(value, str):
                try:
                    value = media_path(value, self.media)
                except SampleError as error:
                    raise SampleError(f"{place} '{name}': {error}") from error
            values[name] = value
        return values

    def _cell(self, column: str, row: int) -> Any:
        return self.table[column][row].as_py()


class Part(Sequence[Sample]):
    """Some rows of a source, read when asked for."""

    def __init__(self, rows: Rows, indices: np.ndarray):
        self.rows, self.indices = rows, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Part": ...
    def __getitem__(self, index: int | slice) -> "Sample | Part":
        if isinstance(index, slice):
            return Part(self.rows, self.indices[index])
        return self.rows.sample(int(self.indices[index]))


def _columns(field: Field) -> tuple[str, ...]:
    return (field.column,) if isinstance(field.column, str) else field.column


def _cleaned(value: Any) -> Any:
    """The value, or None where nothing is there; entries of a dict that hold nothing are left out."""
    if isinstance(value, dict):
        return {name: kept for name, entry in value.items() if (kept := _cleaned(entry)) is not None} or None
    return None if isinstance(value, float) and value != value else value
