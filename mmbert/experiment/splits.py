"""The splits of a recipe: its data sources opened, and lazy views of single columns."""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from encoders import ENCODERS
from mmbert.contracts import Field, Source
from mmbert.data import SOURCES
from mmbert.data.splits import SPLITS, Split
from mmbert.datasets import DATASETS
from mmbert.errors import DataError, SampleError, nearest, nearest_word
from mmbert.recipe.schema import InputPart, Recipe, TaskPart
from mmbert.registry import keyword_only_parameters
from mmbert.trunk.text import TextProcessor
from mmbert.types import Sample
from tasks import TASKS

Splits = dict[str, list[Split]]  # split -> the samples of each source
Kind = Literal["input", "task"]


def open_splits(recipe: Recipe, sources: Mapping[str, Source] | None = None) -> Splits:
    """Open the data sources of a recipe: split -> the samples of each source.

    Args:
        recipe: as it was loaded, or the resolved one.
        sources: where they are open already.

    Raises:
        DataError: where no source has the column of a task, or of an input that is not optional.
    """
    sources_in_order = (open_sources(recipe) if sources is None else sources).values()
    return {split: [_as_split(source.split(split)) for source in sources_in_order] for split in SPLITS}


def explain_empty_split(recipe: Recipe, split: str) -> str:
    """Why a split has no rows, and the way out, by what each source knows.

    Args:
        recipe: as it was loaded.
        split: ``train``, ``validation`` or ``test``.
    """
    reasons = [reason for source in open_sources(recipe).values() if (reason := source.explain_empty_split(split))]
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


def open_sources(recipe: Recipe) -> dict[str, Source]:
    """The data sources of a recipe by name, in the order of their rows.

    Args:
        recipe: as it was loaded, or the resolved one.

    Raises:
        DataError: where no source has the column of a task, or of an input that is not optional.
    """
    inputs = {
        name: Field(_column(name, part), TextProcessor if part.type == "text" else ENCODERS.get(part.type).processor)
        for name, part in recipe.inputs.items()
    }
    targets = {name: Field(_column(name, part), TASKS.get(part.type).processor) for name, part in recipe.tasks.items()}
    sources: dict[str, Source] = {}
    for name, part in sorted(recipe.data.items()):  # sorted: sampling numbers the rows across sources
        options, wiring = dict(part.options), []
        if part.name is not None:
            builder = DATASETS.get(part.name)
            wiring = [builder(**{key: options.pop(key) for key in keyword_only_parameters(builder)})]
        sources[name] = SOURCES.get(part.type)(name, inputs, targets, *wiring, **options)
    available = frozenset().union(*(source.fields for source in sources.values()))
    fields: Mapping[str, Field] = {**inputs, **targets}
    for name in fields.keys() - available:
        if name in targets or not recipe.inputs[name].optional:
            kind = "tasks" if name in targets else "inputs"
            raise DataError(f"{kind}.{name}: {_explain_missing(fields[name].column, sources.values())}")
    return sources


def _explain_missing(column: str | tuple[str, ...], sources: Iterable[Source]) -> str:
    names = {name for source in sources for name in source.summary.names}
    missing = [name for name in ([column] if isinstance(column, str) else column) if name not in names]
    several = missing if len(missing) > 1 else ""
    hints = [nearest_word(name, names) for name in missing]
    if several and (guesses := [f"'{hint}'" for hint in hints if hint]):
        return f"no data source has the columns {several}. Did you mean {', '.join(guesses)}?"
    return (
        f"no data source has the column {(missing or [column])[0]!r}. {nearest(str((missing or [column])[0]), names)}"
    )


def _column(name: str, part: InputPart | TaskPart) -> str | tuple[str, ...]:
    column = name if part.column is None else part.column
    return column if isinstance(column, str) else tuple(column)
