"""The splits of a recipe: its data sources opened, and lazy views of single columns."""

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from encoders import ENCODERS
from mmbert.contracts import Field, Source
from mmbert.data import SOURCES
from mmbert.data.splits import SPLITS, Split
from mmbert.datasets import DATASETS
from mmbert.errors import DataError, SampleError
from mmbert.recipe.schema import InputPart, Recipe, TaskPart
from mmbert.registry import keyword_only_parameters
from mmbert.trunk.text import TextProcessor
from mmbert.types import Sample
from tasks import TASKS

Splits = dict[str, list[Split]]  # split -> the samples of each source
Kind = Literal["input", "task"]


def open_splits(recipe: Recipe) -> Splits:
    """Open the data sources of a recipe: split -> the samples of each source.

    Args:
        recipe: as it was loaded, or the resolved one.

    Raises:
        DataError: where no source has the column of a task, or of an input that is not optional.
    """
    sources = _sources(recipe)
    return {split: [_as_split(source.split(split)) for source in sources] for split in SPLITS}


def explain_empty_split(recipe: Recipe, split: str) -> str:
    """Why a split has no rows, and the way out, by what each source knows.

    Args:
        recipe: as it was loaded.
        split: ``train``, ``validation`` or ``test``.
    """
    reasons = [reason for source in _sources(recipe) if (reason := source.explain_empty_split(split))]
    return " ".join(dict.fromkeys(reasons)) or f"A source's option 'split' puts rows into {split}."


def _as_split(samples: Sequence[Sample]) -> Split:
    return samples if isinstance(samples, Split) else Split(samples.__getitem__, np.arange(len(samples)))


def count(splits: Splits) -> int:
    """The rows of all splits."""
    return sum(len(samples) for sources in splits.values() for samples in sources)


def chained(splits: Splits, split: str, names: Collection[str] | None = None) -> Iterator[Sample]:
    """The samples of a split, of all sources.

    Args:
        splits: as ``open_splits`` gives them.
        split: ``train``, ``validation`` or ``test``.
        names: the inputs and targets to read; all by default.

    Raises:
        SampleError: at a sample that cannot be read.
    """
    for samples in splits[split]:
        for sample in samples.read(names):
            if isinstance(sample, SampleError):
                raise sample
            yield sample


class Values:
    """The raw values of one input or task in a split, read from the source each time they are iterated.

    Args:
        splits: as ``open_splits`` gives them.
        split: ``train``, ``validation`` or ``test``.
        kind: ``input`` or ``task``.
        name: of the input or task.
        bad_samples: that are skipped, as are samples that cannot be read.
    """

    def __init__(self, splits: Splits, split: str, kind: Kind, name: str, bad_samples: Container[Sample] = ()):
        self.kind, self.name = kind, name
        self._sources, self._bad_samples = splits[split], bad_samples

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self.with_samples())

    def with_samples(self) -> Iterator[tuple[Sample, Any]]:
        """Each value with its sample; other fields of the sample may be missing."""
        for samples in self._sources:
            for sample in samples.read({self.name}):
                if not isinstance(sample, SampleError) and sample not in self._bad_samples:
                    values = sample.inputs if self.kind == "input" else sample.targets
                    if self.name in values:
                        yield sample, values[self.name]


def _sources(recipe: Recipe) -> list[Source]:
    inputs = {
        name: Field(_column(name, part), TextProcessor if part.type == "text" else ENCODERS.get(part.type).processor)
        for name, part in recipe.inputs.items()
    }
    targets = {name: Field(_column(name, part), TASKS.get(part.type).processor) for name, part in recipe.tasks.items()}
    sources: list[Source] = []
    for name, part in sorted(recipe.data.items()):  # sorted: sampling numbers the rows across sources
        options, wiring = dict(part.options), []
        if part.name is not None:
            builder = DATASETS.get(part.name)
            wiring = [builder(**{key: options.pop(key) for key in keyword_only_parameters(builder)})]
        sources.append(SOURCES.get(part.type)(name, inputs, targets, *wiring, **options))
    available = frozenset().union(*(source.fields for source in sources))
    fields: Mapping[str, Field] = {**inputs, **targets}
    for name in fields.keys() - available:
        if name in targets or not recipe.inputs[name].optional:
            kind = "tasks" if name in targets else "inputs"
            raise DataError(f"{kind}.{name}: no data source has the column {fields[name].column!r}")
    return sources


def _column(name: str, part: InputPart | TaskPart) -> str | tuple[str, ...]:
    column = name if part.column is None else part.column
    return column if isinstance(column, str) else tuple(column)
