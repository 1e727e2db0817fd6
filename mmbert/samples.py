"""From a recipe's data section to samples: sources opened, training values collected, rows counted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from encoders import ENCODERS
from mmbert.contracts import Field, Source
from mmbert.data import SOURCES
from mmbert.data.splits import SPLITS
from mmbert.datasets import DATASETS
from mmbert.errors import DataError
from mmbert.recipe.schema import InputPart, Recipe, TaskPart
from mmbert.registry import keyword_only
from mmbert.trunk.text import TextProcessor
from mmbert.types import Sample
from tasks import TASKS

Splits = dict[str, list[Sequence[Sample]]]  # split -> the samples of each source


def open_splits(recipe: Recipe) -> Splits:
    """The samples of each split, source by source.

    Raises ``DataError`` where no source has the column of a task, or of an input that is not optional.
    """
    sources = _sources(recipe)
    return {split: [source.split(split) for source in sources] for split in SPLITS}


def chained(splits: Splits, split: str) -> Iterator[Sample]:
    """The samples of a split, of all sources."""
    for samples in splits[split]:
        yield from samples


class Chosen(Sequence[Sample]):
    """Some samples of a sequence, by their positions."""

    def __init__(self, samples: Sequence[Sample], positions: Sequence[int]):
        self._samples, self._positions = samples, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: Any) -> Any:
        positions = self._positions[index]
        return Chosen(self._samples, positions) if isinstance(index, slice) else self._samples[positions]


def with_labels(splits: Splits) -> Splits:
    """The splits without those training rows that have no label, which would teach nothing."""
    return {**splits, "train": [_with_labels(samples) for samples in splits["train"]]}


def _with_labels(samples: Sequence[Sample]) -> Sequence[Sample]:
    positions = [position for position, sample in enumerate(samples) if sample.targets]
    return samples if len(positions) == len(samples) else Chosen(samples, positions)


def training_values(recipe: Recipe, splits: Splits) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """The raw values of the training split by input and by task, in one pass.

    Raises ``DataError`` where a task has no label, or an input that is not optional no value.
    """
    values: dict[str, list[Any]] = {name: [] for name in recipe.inputs}
    targets: dict[str, list[Any]] = {name: [] for name in recipe.tasks}
    for sample in chained(splits, "train"):
        for name, value in sample.inputs.items():
            values[name].append(value)
        for name, value in sample.targets.items():
            targets[name].append(value)
    for name, found in targets.items():
        if not found:
            raise DataError(f"tasks.{name}: no row of the training split has a label for it")
    for name, found in values.items():
        if not found and not recipe.inputs[name].optional:
            raise DataError(f"inputs.{name}: absent in every row of the training split; 'optional: true' allows that")
    return values, targets


def count_rows(splits: Splits) -> dict[str, dict[str, int]]:
    """Rows of each split, and how many of them have each input and each label."""
    counts: dict[str, dict[str, int]] = {}
    for split in splits:
        found = counts.setdefault(split, {"rows": 0})
        for sample in chained(splits, split):
            for name in ("rows", *sample.inputs, *sample.targets):
                found[name] = found.get(name, 0) + 1
    return counts


def _sources(recipe: Recipe) -> list[Source]:
    inputs = {
        name: Field(_column(name, part), TextProcessor if part.type == "text" else ENCODERS.get(part.type).processor)
        for name, part in recipe.inputs.items()
    }
    targets = {name: Field(_column(name, part), TASKS.get(part.type).processor) for name, part in recipe.tasks.items()}
    sources: list[Source] = []
    for name, part in sorted(recipe.data.items()):  # the plan counts through the sources
        options, wiring = dict(part.options), []
        if part.name is not None:
            builder = DATASETS.get(part.name)
            wiring = [builder(**{key: options.pop(key) for key in keyword_only(builder)})]
        sources.append(SOURCES.get(part.type)(name, inputs, targets, *wiring, **options))
    having = frozenset().union(*(source.fields for source in sources))
    wanted: Mapping[str, Field] = {**inputs, **targets}
    for name in wanted.keys() - having:
        if name in targets or not recipe.inputs[name].optional:
            kind = "tasks" if name in targets else "inputs"
            raise DataError(f"{kind}.{name}: no data source has the column {wanted[name].column!r}")
    return sources


def _column(name: str, part: InputPart | TaskPart) -> str | tuple[str, ...]:
    column = name if part.column is None else part.column
    return column if isinstance(column, str) else tuple(column)


def present_inputs(recipe: Recipe, values: Mapping[str, Iterable[Any]]) -> Recipe:
    """The recipe without those optional inputs that no training row has."""
    kept = {name: part for name, part in recipe.inputs.items() if values[name]}
    train = recipe.train
    if isinstance(train.input_dropout, dict):
        rates = {name: rate for name, rate in train.input_dropout.items() if name in kept}
        train = train.model_copy(update={"input_dropout": rates})
    return recipe.model_copy(update={"inputs": kept, "train": train})
