"""The source that reads a data set prepared by a builder."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa

from mmbert.contracts import Builder, Field, Source
from mmbert.data.arrow import ArrowRows, RowOptions
from mmbert.data.columns import check_column_exists
from mmbert.data.row_folder import write_rows
from mmbert.data.splits import Split
from mmbert.errors import DataError
from mmbert.io import download
from mmbert.io.cache import make_once, progress
from mmbert.types import SourceSummary

LAYOUT = 1  # increase it when the format of the cached folder changes


def prepare(builder: Builder) -> Path:
    """Build a data set unless it is in the cache. One process builds, others wait.

    The folder is named after the builder's class, version and options (its public attributes).

    Returns:
        The folder in the cache, with ``rows.arrow`` and the media.

    Raises:
        DataError: where the builder's rows lack a column that it promises.
    """
    kind = type(builder)
    options = {name: value for name, value in vars(builder).items() if not name.startswith("_")}
    identity = json.dumps(
        [LAYOUT, kind.__module__, kind.__qualname__, builder.version, options], sort_keys=True, default=str
    )
    digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    title = kind.__name__.lower()

    def make(folder: Path) -> None:
        with progress(f"preparing {title}") as report:
            frame = builder.build(folder, report)
        for column in {*builder.columns, builder.key, *filter(None, [builder.group])}:
            check_column_exists(title, column, list(frame.columns), "its builder")
        write_rows(folder, [("", _table(title, frame))])

    return make_once(download.cache_folder() / "datasets" / f"{title}-{digest}", make)


class DatasetSource(Source):
    """A data set by name: prepared on first use, then memory-mapped.

    A published column ``split`` is used where the set has one.

    Args:
        name: the source's name in the recipe.
        inputs: the recipe's inputs by name.
        targets: the recipe's targets by the name of the task.
        builder: prepares the set; it names the key and the default group.
        columns: column of the set -> name in the recipe, where they differ.
        split: the column with each row's split, or fractions of the groups; see ``FilesSource``.
        split_seed: another seed gives another split by hash.
        group: the column whose rows of one value all go into the same split; by default the builder's.
        attributes: columns that each sample keeps beside its values.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, Field],
        targets: Mapping[str, Field],
        builder: Builder,
        *,
        columns: dict[str, str] | None = None,
        split: str | dict[str, float] | None = None,
        split_seed: int = 0,
        group: str | None = None,
        attributes: list[str] | None = None,
    ):
        self._name, self._fields, self._builder = name, (inputs, targets), builder
        self._options = RowOptions(
            columns or {}, builder.key, group or builder.group, split, split_seed, attributes or ()
        )

    @property
    def fields(self) -> frozenset[str]:
        return self._rows.fields

    @property
    def summary(self) -> SourceSummary:
        return self._rows.summary

    def split(self, name: str) -> Split:
        return self._rows.split(name)

    def explain_empty_split(self, name: str) -> str:
        return self._rows.explain_empty_split(name)

    @cached_property
    def _rows(self) -> ArrowRows:
        folder = prepare(self._builder)
        return ArrowRows(self._name, folder, *self._fields, media=folder, options=self._options)


def _table(title: str, frame: pd.DataFrame) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise DataError(f"{title}: its builder gives a column of two types: {error}") from error
