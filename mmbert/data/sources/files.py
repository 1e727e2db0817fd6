"""The source that reads rows from files or from a set of the Hugging Face hub."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from mmbert.contracts import Field, Source
from mmbert.data.arrow import ArrowRows, RowOptions
from mmbert.data.find_files import find_files
from mmbert.data.read_options import ReadOptions
from mmbert.data.readers import read_tables
from mmbert.data.row_folder import write_rows
from mmbert.data.sources.hub import HUB, hub_rows
from mmbert.data.splits import Split
from mmbert.errors import DataError
from mmbert.io import download
from mmbert.io.cache import make_once
from mmbert.types import SourceSummary

LAYOUT = 2  # increase it when the format of the cached folder changes


class FilesSource(Source):
    """Rows of CSV, TSV, JSON Lines, Parquet or Arrow files, or of a hub set; read once, then memory-mapped.

    A missing value (null, NaN, an empty cell of a CSV file) is an absent key. A value that names a file is a path
    inside the media folder. For the types of CSV cells see ``mmbert.data.column_types``.

    Args:
        name: the source's name in the recipe.
        inputs: the recipe's inputs by name.
        targets: the recipe's targets by the name of the task.
        path: a file, a folder, a pattern (``parts/*.csv``), several of these, or
            ``hub:OWNER/NAME`` (``hub:OWNER/NAME:CONFIGURATION``).
        columns: column of the file -> name in the recipe, where they differ.
        key: the column that identifies a row; by default ``id`` where there is one, else the row's number; ``row`` is
            that number where no column has this name.
        split: the column with each row's split, or fractions of the groups, which are then split by a stable hash. By
            default the column ``split`` where there is one, else .8 for training, .1 for validation, .1 for test.
            Without a validation split, a tenth of the training groups becomes one.
        split_seed: another seed gives another split by hash, the same in every source.
        group: the column whose rows of one value all go into the same split; by default the key.
        attributes: columns that each sample keeps beside its values, such as a language, for ``train.mixing``.
        media: the folder that paths in the rows are relative to; by default that of the (first) file.
        na_values: words that are missing values in every column; empty cells always are, and so are NA, N/A, NaN, null
            and ? in columns of a CSV file that are otherwise numbers.
        decimal: the decimal sign of numbers in CSV and TSV files.
        thousands: the sign between thousands in CSV and TSV files; empty for none.
        encoding: of CSV, TSV and JSON Lines files, such as cp1252 or utf-16.
        separator: the character between the cells of CSV and TSV files; by default a comma or a tab.

    Raises:
        DataError: where a file or column does not exist, a key is not unique, or a group is in two published splits.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, Field],
        targets: Mapping[str, Field],
        *,
        path: str | list[str] = "",
        columns: dict[str, str] | None = None,
        key: str | None = None,
        split: str | dict[str, float] | None = None,
        split_seed: int = 0,
        group: str | None = None,
        attributes: list[str] | None = None,
        media: str | None = None,
        na_values: list[str] | None = None,
        decimal: Literal[".", ","] = ".",
        thousands: Literal["", ",", ".", " ", "'", "_"] = "",
        encoding: str = "utf-8",
        separator: str = "",
    ):
        self._name, self._fields = name, (inputs, targets)
        self._paths = [path] if isinstance(path, str) else path
        self._media = media
        self._options = RowOptions(columns or {}, key, group, split, split_seed, attributes or ())
        self._read_options = ReadOptions(tuple(na_values or ()), decimal, thousands, encoding, separator)
        self._read_options.check(name)

    @property
    def fields(self) -> frozenset[str]:
        return self._rows.fields

    @property
    def summary(self) -> SourceSummary:
        summary, options = self._rows.summary, self._read_options
        signs = {name: getattr(options, name) for name in ("decimal", "thousands", "encoding", "separator")}
        mapping = {"columns": dict(self._options.columns), "options": {"na_values": [*options.na_values], **signs}}
        return replace(summary, reading={**summary.reading, **mapping})

    def split(self, name: str) -> Split:
        return self._rows.split(name)

    def explain_empty_split(self, name: str) -> str:
        return self._rows.explain_empty_split(name)

    @cached_property
    def _rows(self) -> ArrowRows:
        if not all(self._paths) or not self._paths:
            raise DataError(f"{self._name}: 'path' must name a file or {HUB}OWNER/NAME, however it is empty")
        media = self._media
        if self._paths[0].startswith(HUB):
            if self._read_options != ReadOptions():
                raise DataError(f"{self._name}: a set of the hub has its types; remove the options of text files")
            folder = hub_rows(self._paths[0])
        else:
            folder, beside = self._read()
            media = media or beside
        media = None if media is None else Path(media).expanduser()
        return ArrowRows(self._name, folder, *self._fields, media=media, options=self._options)

    def _read(self) -> tuple[Path, Path]:
        """The folder of the rows in the cache, and the folder of the (first) file."""
        names = find_files(self._name, self._paths)
        options = replace(self._read_options, **self._columns_by_use())
        state = [LAYOUT, [(name, file_digest(file)) for file, name in names.items()], options.identity()]
        digest = hashlib.blake2b(json.dumps(state).encode(), digest_size=16).hexdigest()

        def make(folder: Path) -> None:
            write_rows(folder, ((names[file], table) for file, table in read_tables([*names], options)))

        return make_once(download.cache_folder() / "files" / digest, make), next(iter(names)).parent

    def _columns_by_use(self) -> dict[str, frozenset[str]]:
        """The columns of the files that are text as it is written, and those in which integers stay integers."""
        renamed = {name: column for column, name in self._options.columns.items()}
        columns: dict[str, set[str]] = {"verbatim": set(), "exact": set()}
        for fields in self._fields:
            for field in fields.values():
                names = {field.column} if isinstance(field.column, str) else {*field.column}
                for use, applies in (("verbatim", field.processor.reads_text), ("exact", field.processor.reads_fields)):
                    columns[use] |= {renamed.get(name, name) for name in names} if applies else set()
        return {use: frozenset(names) for use, names in columns.items()}


def file_digest(file: Path) -> str:
    """The hash of a file's content; its size and time do not tell that it was replaced.

    Args:
        file: its path.
    """
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
