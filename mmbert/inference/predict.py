"""Predictions of a trained model, for new rows or for a split of its own data."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from mmbert.checkpoint.checkpoint import best
from mmbert.contracts import Processors
from mmbert.data.loader import evaluation_batches
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import ALL, Shard
from mmbert.distributed import all_reduce_or_raise, connect, on_main_then_broadcast
from mmbert.errors import IntegrityError, RecipeError
from mmbert.experiment.build import load_experiment
from mmbert.experiment.experiment import Experiment
from mmbert.inference.new_rows import as_trained, make_sample, read_records
from mmbert.io.output import check_output, output_path
from mmbert.recipe.load import load_recipe
from mmbert.types import Sample


class Model:
    """A trained model: ``mmbert.load(run).predict(frame)``.

    Args:
        experiment: with the weights loaded.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.model = experiment.model

    def predict(self, rows: Any) -> list[dict[str, Any]]:
        """Predictions for new rows: one dict a row, in order, task -> the decoded prediction (``Task.decode``).

        Args:
            rows: a DataFrame or dicts, with the recipe's columns or those of the files it was trained on. A missing
                column or value is an absent input; a missing column is named on standard error.

        Raises:
            DataError: where no column fills an input.
            SampleError: naming the row and the input of a bad value, or a row without any input.
        """
        records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        records = as_trained("rows", records, self.experiment, warn=_warn)
        samples = [make_sample(self.experiment, record, f"row {number}") for number, record in enumerate(records, 1)]
        return list(self._predict([samples]))

    def predict_file(self, path: str | Path, *, shard: Shard = ALL) -> Iterator[dict[str, Any]]:
        """Predictions for the rows of a file, one by one.

        Args:
            path: CSV, JSON Lines or Parquet; paths of media in it are relative to its folder.
            shard: the share of the rows; by default all of them.

        Raises:
            DataError: where the file cannot be read as the files of training were, or no column fills an input.
            SampleError: naming the row and the input of a bad value, or a row without any input.
        """
        path = Path(path).expanduser()
        records = read_records(path, self.experiment, warn=_warn if shard.rank == 0 else lambda sentence: None)
        samples = [
            make_sample(self.experiment, row, f"{path} row {number}", path.parent)
            for number, row in enumerate(records, 1)
        ]
        yield from self._predict([samples], shard)

    def predict_split(self, split: str, *, shard: Shard = ALL) -> Iterator[dict[str, Any]]:
        """Predictions for a split of the recipe's own data, with the key of each row.

        Args:
            split: ``train``, ``validation`` or ``test``.
            shard: the share of the rows; by default all of them.
        """
        yield from self._predict(self.experiment.splits[split], shard)

    @torch.no_grad()
    def _predict(self, splits: Sequence[Sequence[Sample]], shard: Shard = ALL) -> Iterator[dict[str, Any]]:
        items = SampleDataset(splits, Processors(self.experiment.processors.inputs, {}))
        positions = range(shard.rank, len(items), shard.world)
        keys = (items.sample(position).attributes.get("key") for position in positions)
        dtype = next(self.model.parameters()).dtype
        for batch in evaluation_batches(items, self.experiment.recipe.evaluate.batch_size, shard=shard):
            predictions = self.model.predict(batch.to("cpu", dtype))
            for row in range(len(batch)):
                key = next(keys)
                decoded = {name: self.model.tasks[name].decode(values[row]) for name, values in predictions.items()}
                yield {"key": key, **decoded} if key is not None else decoded


def load(run: str | Path) -> Model:
    """The best model of a run, finished or not.

    Args:
        run: a run folder.

    Raises:
        IntegrityError: where the folder holds no usable checkpoint.
    """
    return Model(open_run(run))


def predict(
    run: str | Path,
    *,
    output: str | Path,
    input: str | Path | None = None,
    split: str | None = None,
    overwrite: bool = False,
) -> int:
    """Write predictions as JSON Lines, one for each row in order; atomically: after an error no output is written.

    Several processes share the rows; the main one writes the file.

    Args:
        run: a run folder.
        output: the file to write.
        input: a CSV, JSON Lines or Parquet file; paths of media in it are relative to its folder.
        split: ``train``, ``validation`` or ``test``, instead of a file.
        overwrite: whether an existing output is replaced.

    Returns:
        The number of rows.

    Raises:
        RecipeError: where not exactly one of ``input`` and ``split`` is given; where the output exists, is the input,
            or is no file.
        DataError: where the input cannot be read.
        IntegrityError: where the folder holds no usable checkpoint.
    """
    if (input is None) == (split is None):
        raise RecipeError("predict needs either --input FILE or --split train|validation|test")
    inputs = [] if input is None else [input]
    accelerator = connect()
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    on_main_then_broadcast(lambda: str(check_output(output, overwrite=overwrite, inputs=inputs)))

    def predictions() -> Iterator[dict[str, Any]]:
        if input is None:
            return Model(open_run(run, data=True)).predict_split(str(split), shard=shard)
        return load(run).predict_file(input, shard=shard)

    rows = _gather_in_order(predictions, shard)

    def write() -> None:
        with output_path(output, overwrite=overwrite, inputs=inputs) as temporary:
            temporary.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")

    on_main_then_broadcast(write)
    return len(rows)


def _gather_in_order(predictions: Callable[[], Iterator[dict[str, Any]]], shard: Shard) -> list[str]:
    """The predictions of all processes as JSON texts, in the order of the rows; an error of one is raised on all."""
    lines, error = [], None
    try:
        lines = [json.dumps(row, ensure_ascii=False) for row in predictions()]
    except Exception as caught:
        error = caught
    all_reduce_or_raise(error=error)
    if shard.world == 1:
        return lines
    # each process read the rows rank, rank + world, ...
    by_rank: list[list[str]] = gather_object([lines])
    rows = [""] * sum(map(len, by_rank))
    for rank, part in enumerate(by_rank):
        rows[rank :: shard.world] = part
    return rows


def open_run(run: str | Path, data: bool = False) -> Experiment:
    """The experiment of a run, with the weights of its best checkpoint.

    Args:
        run: a run folder.
        data: open the recipe's data as well.

    Raises:
        IntegrityError: where the folder is not a run, or holds no usable checkpoint.
    """
    path = Path(run)
    if not (path / "recipe.yaml").exists():
        raise IntegrityError(f"'{path}' is not a run folder: it has no recipe.yaml")
    return load_experiment(best(path, warn=_warn), load_recipe(path / "recipe.yaml").recipe, data=data)


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr)
