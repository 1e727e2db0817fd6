"""The source that reads rows from files or from a set of the Hugging Face hub."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from mmbert.contracts import Field, Source
from mmbert.data.arrow import ArrowRows, RowOptions, write_rows
from mmbert.data.readers import FORMATS, read_tables
from mmbert.data.sources.hub import HUB, hub_rows
from mmbert.data.splits import Split
from mmbert.errors import DataError, nearest
from mmbert.io import download
from mmbert.io.cache import make_once

LAYOUT = 1  # increase it when the format of the cached folder changes


class FilesSource(Source):
    """Rows of CSV, TSV, JSON Lines, Parquet or Arrow files, or of a hub set; read once, then memory-mapped.

    A missing value (null, NaN, an empty cell of a CSV file) is an absent key. A value that names a file is a path
    inside the media folder. For the types of CSV cells see ``mmbert.data.readers``.

    Args:
        name: the source's name in the recipe.
        inputs: the recipe's inputs by name.
        targets: the recipe's targets by the name of the task.
        path: a file, several of one format, or ``hub:OWNER/NAME`` (``hub:OWNER/NAME:CONFIGURATION``).
        columns: column of the file -> name in the recipe, where they differ.
        key: the column that identifies a row; by default ``id`` where there is one, else the row's number.
        split: the column with each row's split, or fractions of the groups, which are then split by a stable hash. By
            default the column ``split`` where there is one, else .8 for training, .1 for validation, .1 for test.
            Without a validation split, a tenth of the training groups becomes one.
        split_seed: another seed gives another split by hash, the same in every source.
        group: the column whose rows of one value all go into the same split; by default the key.
        attributes: columns that each sample keeps beside its values, such as a language, for ``train.mixing``.
        media: the folder that paths in the rows are relative to; by default that of the (first) file.

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
    ):
        self._name, self._fields = name, (inputs, targets)
        self._paths = [path] if isinstance(path, str) else path
        self._media = media
        self._options = RowOptions(columns or {}, key, group, split, split_seed, attributes or ())

    @property
    def fields(self) -> frozenset[str]:
        return self._rows.fields

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
            folder = hub_rows(self._paths[0])
        else:
            folder = self._read()
            media = media or Path(self._paths[0]).expanduser().parent
        media = None if media is None else Path(media).expanduser()
        return ArrowRows(self._name, folder, *self._fields, media=media, options=self._options)

    def _read(self) -> Path:
        names = {Path(path).expanduser(): path for path in self._paths}
        for file, path in names.items():
            if not file.is_file():
                neighbours = sorted(
                    neighbour.name
                    for neighbour in file.parent.glob("*")
                    if neighbour.name.lower().endswith((*FORMATS,))
                )
                raise DataError(f"{self._name}: there is no file '{path}'. {nearest(file.name, neighbours)}")
        states = [
            (path, str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file, path in names.items()
        ]
        state = hashlib.blake2b(json.dumps([LAYOUT, states]).encode(), digest_size=16).hexdigest()
        folder = download.cache_folder() / "files" / state
        return make_once(
            folder, lambda folder: write_rows(folder, ((names[file], table) for file, table in read_tables([*names])))
        )
