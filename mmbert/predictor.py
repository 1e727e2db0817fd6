"""Using a trained model: predictions for new rows, or for a split of its own data."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mmbert.build import Built
from mmbert.build import load as load_built
from mmbert.data.items import Items
from mmbert.data.loader import evaluation_batches
from mmbert.errors import IntegrityError, RecipeError
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.train.checkpoint import find_checkpoint
from mmbert.types import Sample


class Model:
    """A trained model: ``mmbert.load(run).predict(frame)``."""

    def __init__(self, built: Built):
        self.built = built
        self.model = built.model

    def predict(self, rows: Any) -> list[dict[str, Any]]:
        """Predictions for the rows of a DataFrame, or for dicts, with the recipe's columns: one dict a row, in order.

        A row's value under a task's name is what ``Task.decode`` makes of the prediction. A missing column or value is
        an absent input. Raises ``SampleError`` naming the row and the input of a bad value.
        """
        records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        samples = [_sample(index, record, self.built.recipe) for index, record in enumerate(records)]
        return list(self._predict(Items([samples], self.built.processors, {})))

    def predict_split(self, split: str) -> Iterator[dict[str, Any]]:
        """The same for a split of the recipe's own data, with the key of each row."""
        yield from self._predict(self.built.items(split))

    @torch.no_grad()
    def _predict(self, items: Items) -> Iterator[dict[str, Any]]:
        bare = Items(items.splits, items.processors, {})
        keys = (bare.sample(position).attributes.get("key") for position in range(len(bare)))
        dtype = next(self.model.parameters()).dtype
        for batch in evaluation_batches(bare, self.built.recipe.evaluate.batch_size):
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

    Media paths in the file are relative to its folder. Returns the number of rows. The file is written as a whole.
    """
    if (input is None) == (split is None):
        raise RecipeError("predict needs either --input FILE or --split train|validation|test")
    if input is None:
        found: Iterable[dict[str, Any]] = Model(open_run(run, data=True)).predict_split(str(split))
    else:
        found = load(run).predict(_read_rows(Path(input)))
    temporary = Path(f"{output}.tmp")
    count = 0
    with open(temporary, "w", encoding="utf-8") as file:
        for count, row in enumerate(found, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, output)
    return count


def open_run(run: str | Path, data: bool = False) -> Built:
    path = Path(run)
    if not (path / "recipe.yaml").exists():
        raise IntegrityError(f"'{path}' is not a run folder: it has no recipe.yaml")
    checkpoint = find_checkpoint(path / "checkpoints" / "best")
    return load_built(checkpoint, load_recipe(path / "recipe.yaml").recipe, data=data)


def _sample(index: int, record: Mapping[str, Any], recipe: Recipe) -> Sample:
    """A record as a sample without targets; what is missing is absent."""
    inputs = {}
    for name, part in recipe.inputs.items():
        if isinstance(part.column, list):
            value: Any = {column: record[column] for column in part.column if _is_there(record.get(column))} or None
        else:
            value = record.get(part.column or name)
        if _is_there(value):
            inputs[name] = value
    return Sample(index, "rows", inputs, {}, {"where": f"row {index + 1}"})


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and value != value)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    readers = {
        ".csv": pd.read_csv,
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".jsonl": lambda file: [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()],
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise RecipeError(f"--input '{path}' must end in one of {', '.join(readers)}")
    rows = readers[path.suffix](path)
    return rows if isinstance(rows, list) else rows.to_dict("records")
