"""New rows, read as the rows of training were: columns renamed, and each of the kind that it had there."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbert.data.cells import drop_missing, make_converter, plain_cell
from mmbert.data.media_paths import resolve_media_value
from mmbert.data.read_options import ReadOptions
from mmbert.data.readers import file_format, read_tables
from mmbert.errors import DataError, SampleError, nearest_word
from mmbert.experiment.experiment import Experiment
from mmbert.types import Sample, sample_id

Record = Mapping[str, Any]  # column -> cell
Warn = Callable[[str], None]


def read_records(path: Path, experiment: Experiment, warn: Warn) -> list[Record]:
    """The rows of a file, each with the recipe's names of its columns.

    It is read with the options of the source that the model was trained on; of several, with those by which it has the
    most columns of inputs.

    Args:
        path: of the file.
        experiment: of the trained model.
        warn: takes a sentence about each column that an input reads and the file lacks.

    Raises:
        DataError: where the file cannot be read, a cell is not of the kind that its column had in training, or no
            column fills an input.
    """
    readings = {json.dumps(reading, sort_keys=True): reading for reading in experiment.data_report.reading.values()}
    attempts = [_read(path, reading, experiment) for reading in readings.values() or [{}]]
    records, names = max(attempts, key=lambda attempt: len({*attempt[1]} & _columns(experiment).keys()))
    _check_columns(str(path), names, experiment, warn)
    return [_as_kinds(record, experiment) for record in records]


def as_trained(source: str, records: Sequence[Record], experiment: Experiment, warn: Warn) -> list[Record]:
    """Rows of Python as ``read_records`` gives those of a file.

    Args:
        source: what messages call the rows.
        records: with the columns of the recipe or of the files.
        experiment: of the trained model.
        warn: see ``read_records``.

    Raises:
        DataError: where no column fills an input.
    """
    names = [*dict.fromkeys(name for record in records for name in record)]
    readings = [*experiment.data_report.reading.values()] or [{}]
    renamed = max((_renamed(names, reading) for reading in readings), key=lambda new: _known(new.values(), experiment))
    if records:
        _check_columns(source, [*renamed.values()], experiment, warn)
    return [
        _as_kinds({renamed[name]: plain_cell(cell) for name, cell in record.items()}, experiment) for record in records
    ]


def make_sample(experiment: Experiment, record: Record, where: str, media: Path | None = None) -> Sample:
    """A record as a sample without targets; missing values are absent inputs.

    Args:
        experiment: of the trained model.
        record: with the recipe's names of columns.
        where: the row, for messages.
        media: the folder in which paths must lie; None leaves paths as they are.

    Raises:
        SampleError: on a path that leads out of ``media``, and where no input has a value.
    """
    import pandas as pd

    present = {name: cell for name, cell in record.items() if not (pd.api.types.is_scalar(cell) and pd.isna(cell))}
    inputs = {}
    for name, part in experiment.recipe.inputs.items():
        if isinstance(part.column, list):
            value: Any = {column: present[column] for column in part.column if column in present}
        else:
            value = present.get(part.column or name)
        value = drop_missing(value)
        if media is not None and experiment.processors.inputs[name].reads_files:
            try:
                value = resolve_media_value(value, media)
            except SampleError as error:
                raise error.at(f"rows ({where})", f"input '{name}'") from error
        if value is not None:
            inputs[name] = value
    if not inputs:
        names = ", ".join(f"'{name}'" for name in experiment.recipe.inputs)
        raise SampleError("expected a value, found none in any input", f"rows ({where})", f"input {names}")
    return Sample(sample_id("rows", where), "rows", inputs, {}, {"where": where})


def _read(path: Path, reading: Mapping[str, Any], experiment: Experiment) -> tuple[list[Record], list[str]]:
    renames, options = reading.get("columns", {}), dict(reading.get("options", {}))
    if file_format(path) not in ("csv", "tsv"):
        options = {"na_values": options.get("na_values", ())}
    options["na_values"] = tuple(options.get("na_values", ()))
    columns, processors = _columns(experiment), experiment.processors.inputs
    uses: dict[str, set[str]] = {"verbatim": set(), "exact": set()}
    kinds = {column: kind for column, kind in reading.get("kinds", {}).items() if column in columns}
    for column, name in columns.items():
        origins = {column, *(origin for origin, new in renames.items() if new == column)}
        uses["verbatim"] |= origins if processors[name].reads_text else set()
        uses["exact"] |= origins if processors[name].reads_fields else set()
        kinds |= {origin: kinds[column] for origin in origins if column in kinds}
    read_options = ReadOptions(
        **options, verbatim=frozenset(uses["verbatim"]), exact=frozenset(uses["exact"]), kinds=kinds
    )
    records: list[Record] = []
    names: list[str] = []
    for _, table in read_tables([path], read_options):
        renamed = _renamed(table.column_names, reading)
        names = [*renamed.values()]
        converters = {field.name: make_converter(field) or _same for field in table.schema}
        records += [{renamed[name]: converters[name](cell) for name, cell in row.items()} for row in table.to_pylist()]
    return records, names


def _renamed(names: Collection[str], reading: Mapping[str, Any]) -> dict[str, str]:
    """Column of the rows -> its name in the recipe, as in training where the rows have the columns of the files."""
    renames = {origin: name for origin, name in reading.get("columns", {}).items() if origin in names}
    return {name: name for name in names if name not in renames.values() or name in renames} | renames


def _columns(experiment: Experiment) -> dict[str, str]:
    """The columns that the inputs read, by their names in the recipe -> the input."""
    columns = {}
    for name, part in experiment.recipe.inputs.items():
        for column in part.column if isinstance(part.column, list) else [part.column or name]:
            columns[column] = name
    return columns


def _known(names: Iterable[str], experiment: Experiment) -> int:
    return len({*names} & _columns(experiment).keys())


def _check_columns(source: str, names: Collection[str], experiment: Experiment, warn: Warn) -> None:
    columns = _columns(experiment)
    missing = [column for column in columns if column not in names]
    if len(missing) == len(columns):
        raise DataError(
            f"{source}: none of the columns {', '.join(sorted(names)) or '(there are none)'} fills an input. "
            f"Inputs read: {', '.join(sorted(columns))}"
        )
    for column in missing:
        unread = [name for name in names if name not in columns]
        close = nearest_word(column, unread)
        guess = f". Did you mean '{close}'?" if close else f". Columns: {', '.join(sorted(names))}"
        warn(f"warning: {source}: there is no column '{column}', so it is absent in input '{columns[column]}'{guess}")


def _as_kinds(record: Record, experiment: Experiment) -> Record:
    """The record with text in place of numbers in columns that were text in training."""
    texts = {
        column
        for reading in experiment.data_report.reading.values()
        for column, kind in reading.get("kinds", {}).items()
        if kind == "text"
    } & _columns(experiment).keys()
    return {name: _as_text(cell) if name in texts else cell for name, cell in record.items()}


def _as_text(cell: Any) -> Any:
    import numpy as np

    cell = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(cell, float) and cell.is_integer():  # a column of integers with gaps
        cell = int(cell)
    return str(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) and cell == cell else cell


def _same(cell: Any) -> Any:
    return cell
