"""The rows of a memory-mapped Arrow file, seen as samples of a recipe's inputs and targets."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmbert.contracts import Field
from mmbert.data.columns import Filled, filled, known
from mmbert.data.media import media_path
from mmbert.data.splits import FRACTIONS, Split, by_column, by_hash, rows_in
from mmbert.errors import DataError, SampleError
from mmbert.types import Sample, sample_id


def write_rows(folder: Path, tables: Iterable[tuple[str, pa.Table]]) -> None:
    """Keep named tables of one schema in a folder that ``Rows`` can open; pieces of one name come one after another."""
    tables = iter(tables)
    name, table = next(tables)
    sizes = {name: len(table)}
    with pa.ipc.new_file(str(folder / "rows.arrow"), table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None), max_chunksize=1 << 16)
        for name, table in tables:
            writer.write_table(table.replace_schema_metadata(None), max_chunksize=1 << 16)
            sizes[name] = sizes.get(name, 0) + len(table)
    (folder / "parts.json").write_text(json.dumps(list(sizes.items())))


class Rows:
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
    ):
        self.source, self.media = source, media
        self._file = folder / "rows.arrow"
        self._parts: list[tuple[str, int]] = json.loads((folder / "parts.json").read_text())  # file, number of rows
        self._table: pa.Table | None = None
        names = self.table.column_names
        if not len(self.table):
            raise DataError(f"{source}: there are no rows")
        fields = filled(source, {**inputs, **targets}, columns, names)
        self._inputs: Filled = {name: fields[name] for name in inputs if name in fields}
        self._targets: Filled = {name: fields[name] for name in targets if name in fields}
        if not self._inputs:
            inputs_text = ", ".join(f"'{name}'" for name in inputs)
            raise DataError(f"{source}: no column fills any of the inputs {inputs_text}. Columns: {', '.join(names)}")
        self._media = {name for name, field in {**inputs, **targets}.items() if field.processor.reads_files}
        self._key = known(source, key, names, "key") if key else "id" if "id" in names else None
        self._group = known(source, group, names, "group") if group else None
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
        """The samples of a split, or of ``all`` rows, in the order of the file."""
        return Split(self.sample, rows_in(name, self._splits))

    def sample(self, row: int) -> Sample:
        """The sample of a row, counted from 0. Raises ``SampleError`` on a media path that leads nowhere or outside."""
        key = str(self._cell(self._key, row) if self._key else row + 1)
        group = self._cell(self._group, row) if self._group else key
        file, number = self._place(row)
        where = f"{file} row {number}" if file else f"row {number}, {self._key} {key}"
        return Sample(
            id=sample_id(self.source, key),
            source=self.source,
            inputs=self._values(self._inputs, row, f"{self.source} ({where})", "input"),
            targets=self._values(self._targets, row, f"{self.source} ({where})", "task"),
            attributes={"where": where, "row": number, "key": key, **({} if group is None else {"group": group})},
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def _split(self, split: str | Mapping[str, float], seed: int) -> np.ndarray:
        groups = keys = self._keys()
        if self._group:  # a row without a group is a group of its own
            cells = self.table[self._group].to_pylist()
            groups = [f"\0{key}" if cell is None else str(cell) for key, cell in zip(keys, cells, strict=True)]
        if not isinstance(split, str):
            return by_hash(groups, split, seed)
        cells = self.table[known(self.source, split, self.table.column_names, "split")].to_pylist()
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
        for name, size in self._parts:
            if row < size:
                return name, row + 1
            row -= size
        raise IndexError(row)

    def _where(self, row: int) -> str:
        name, number = self._place(row)
        return f"{name} row {number}".lstrip()

    def _values(self, fields: Filled, row: int, place: str, kind: str) -> dict[str, Any]:
        values = {}
        for name, column in fields.items():
            one = isinstance(column, str)
            value = self._cell(column, row) if one else {key: self._cell(cell, row) for key, cell in column.items()}
            value = cleaned(value)
            if value is not None and name in self._media and isinstance(value, str):
                try:
                    value = media_path(value, self.media)
                except SampleError as error:
                    raise error.at(place, f"{kind} '{name}'") from error
            if value is not None:
                values[name] = value
        return values

    def _cell(self, column: str, row: int) -> Any:
        return self.table[column][row].as_py()


def cleaned(value: Any) -> Any:
    """The value, or None where nothing is there; entries of a dict that hold nothing are left out."""
    if isinstance(value, dict):
        return {name: kept for name, entry in value.items() if (kept := cleaned(entry)) is not None} or None
    return None if isinstance(value, float) and value != value else value
