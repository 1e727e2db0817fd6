"""Finding every bad value of a recipe's data before training."""

from collections.abc import Iterable, Sequence
from typing import Any

from mmbert.contracts import Processor
from mmbert.errors import DataError, SampleError
from mmbert.processors import Kind, fitting, make_labels, make_processors, misaligned, refused
from mmbert.recipe.schema import Recipe
from mmbert.samples import Splits, chained, open_splits, present_inputs, training_values
from mmbert.trunk.vocabulary import train_vocabulary
from mmbert.types import Sample

SMALLEST = 100  # vocabulary: whether a value is text depends on none


def bad_values(recipe: Recipe) -> tuple[list[SampleError], int]:
    """The errors of all values that training or evaluation would refuse, and the number of rows that were read.

    Raises ``DataError`` where the data cannot be used as a whole: no such file or column, no label, no input.
    """
    found: list[SampleError] = []
    opened = open_splits(recipe)
    splits: Splits = {split: [_readable(rows, found) for rows in sources] for split, sources in opened.items()}
    values, targets = training_values(recipe, splits)
    recipe = present_inputs(recipe, values)
    samples = [sample for split in splits for sample in chained(splits, split)]
    for name, processor in make_processors(recipe, train_vocabulary((), SMALLEST)).items():
        found += _field(processor, "input", name, values[name], samples)
    for name, label in make_labels(recipe).items():
        found += _field(label, "task", name, targets[name], samples)
    found += misaligned(recipe, samples)
    return found, sum(len(rows) for sources in opened.values() for rows in sources)


def _readable(rows: Sequence[Sample], found: list[SampleError]) -> list[Sample]:
    """The samples that can be read at all; the errors of the others go to ``found``."""
    samples = []
    for row in range(len(rows)):
        try:
            samples.append(rows[row])
        except SampleError as error:
            found.append(error)
    return samples


def _field(
    processor: Processor, kind: Kind, name: str, training: Sequence[Any], samples: Sequence[Sample]
) -> Iterable[SampleError]:
    """The bad values of one input or task."""
    reads = fitting(processor)
    try:
        try:
            processor.fit(training)
        except SampleError:
            processor.fit([value for value in training if _good(value, reads)])
    except DataError as error:  # the good values are too few, or not good together
        whole = SampleError(str(error), "the training split", f"{kind} '{name}'")
        return [*refused(samples, kind, name, reads), whole]
    return refused(samples, kind, name, processor)


def _good(value: Any, reads: Any) -> bool:
    try:
        reads(value)
    except SampleError:
        return False
    return True
