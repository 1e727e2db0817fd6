"""Using a trained model: predictions for new rows, or for a split of its own data."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmbert.checkpoint.checkpoint import best
from mmbert.data.arrow import drop_missing
from mmbert.data.columns import resolve_media_path
from mmbert.data.loader import evaluation_batches
from mmbert.data.readers import read_tables
from mmbert.data.sample_dataset import SampleDataset
from mmbert.errors import DataError, IntegrityError, RecipeError, SampleError
from mmbert.experiment.build import load_experiment
from mmbert.experiment.experiment import Experiment
from mmbert.recipe.load import load_recipe
from mmbert.types import Sample, sample_id


class Model:
    """A trained model: ``mmbert.load(run).predict(frame)``."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.model = experiment.model

    def predict(self, rows: Any) -> list[dict[str, Any]]:
        """Predictions for the rows of a DataFrame, or for dicts, with the recipe's columns: one dict a row, in order.

        A row's value under a task's name is what ``Task.decode`` makes of the prediction. A missing column or value is
        an absent input. Raises ``SampleError`` naming the row and the input of a bad value.
        """
        records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        samples = [_sample(self.experiment, record, f"row {number}") for number, record in enumerate(records, 1)]
        return list(self._predict([samples]))

    def predict_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """The same for the rows of a file, read as training reads one; media lie in its folder."""
        path = Path(path).expanduser()
        records = [row for _, table in read_tables([path]) for row in table.to_pylist()]
        _known(str(path), records, self.experiment)
        yield from self._predict(
            [
                [
                    _sample(self.experiment, row, f"{path} row {number}", path.parent)
                    for number, row in enumerate(records, 1)
                ]
            ]
        )

    def predict_split(self, split: str) -> Iterator[dict[str, Any]]:
        """The same for a split of the recipe's own data, with the key of each row."""
        yield from self._predict(self.experiment.splits[split])

    @torch.no_grad()
    def _predict(self, splits: Sequence[Sequence[Sample]]) -> Iterator[dict[str, Any]]:
        items = SampleDataset(splits, self.experiment.processors.inputs, {})
        keys = (items.sample(position).attributes.get("key") for position in range(len(items)))
        dtype = next(self.model.parameters()).dtype
        for batch in evaluation_batches(items, self.experiment.recipe.evaluate.batch_size):
            found = self.model.predict(batch.to("cpu", dtype))
            for row in range(len(batch)):
                key = next(keys)
                decoded = {name: self.model.tasks[name].decode(values[row]) for name, values in found.items()}
                yield {"key": key, **decoded} if key is not None else decoded


def load(run: str | Path) -> Model:
    """The best model of a finished or running run. Raises ``IntegrityError`` where the folder holds none."""
    return Model(open_run(run))


def predict(run: str | Path, *, output: str | Path, input: str | Path | None = None, split: str | None = None) -> int:
    """Write predictions as JSON lines, one for each row in order: of a CSV, JSON Lines or Parquet file, or of a split.

    Media paths in the file are relative to its folder. Returns the number of rows. The output is written as a whole or,
    where a value is bad, not at all.
    """
    if (input is None) == (split is None):
        raise RecipeError("predict needs either --input FILE or --split train|validation|test")
    if input is None:
        found = Model(open_run(run, data=True)).predict_split(str(split))
    else:
        found = load(run).predict_file(input)
    temporary = Path(f"{output}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            for count, row in enumerate(found, 1):  # noqa: B007
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def open_run(run: str | Path, data: bool = False) -> Experiment:
    path = Path(run)
    if not (path / "recipe.yaml").exists():
        raise IntegrityError(f"'{path}' is not a run folder: it has no recipe.yaml")
    return load_experiment(best(path, tell=_tell), load_recipe(path / "recipe.yaml").recipe, data=data)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _known(source: str, records: Sequence[Mapping[str, Any]], experiment: Experiment) -> None:
    """Raise ``DataError`` where no record has a column that an input reads: the predictions would be of nothing."""
    read = {name: part.column or name for name, part in experiment.recipe.inputs.items()}
    wanted = {column for columns in read.values() for column in ([columns] if isinstance(columns, str) else columns)}
    columns = {column for record in records for column in record}
    if records and not wanted & columns:
        raise DataError(f"{source}: none of the columns {', '.join(sorted(columns))} fills an input. Inputs read: "
                        f"{', '.join(sorted(wanted))}")  # fmt: skip


def _sample(experiment: Experiment, record: Mapping[str, Any], where: str, media: Path | None = None) -> Sample:
    """A record as a sample without targets; what is missing is absent. Paths lead from ``media``, if it is given."""
    import pandas as pd

    there = {name: value for name, value in record.items() if not (pd.api.types.is_scalar(value) and pd.isna(value))}
    inputs = {}
    for name, part in experiment.recipe.inputs.items():
        if isinstance(part.column, list):
            value: Any = {column: there[column] for column in part.column if column in there}
        else:
            value = there.get(part.column or name)
        value = drop_missing(value)
        if media is not None and isinstance(value, str) and experiment.processors.inputs[name].reads_files:
            try:
                value = resolve_media_path(value, media)
            except SampleError as error:
                raise error.at(f"rows ({where})", f"input '{name}'") from error
        if value is not None:
            inputs[name] = value
    return Sample(sample_id("rows", where), "rows", inputs, {}, {"where": where})
