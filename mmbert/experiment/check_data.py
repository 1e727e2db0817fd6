"""Finding every bad value of a recipe's data before training."""

from collections.abc import Iterator

from mmbert.contracts import Processor
from mmbert.errors import DataError, SampleError
from mmbert.experiment.data_report import present_inputs, survey
from mmbert.experiment.processors import fit, fitting, make_labels, make_processors, refused
from mmbert.experiment.splits import Kind, Splits, Values, count, open_splits
from mmbert.recipe.schema import Recipe
from mmbert.tracking.bad_samples import BadSamples
from mmbert.trunk.vocabulary import train_vocabulary

SMALLEST = 100  # vocabulary: whether a value is text depends on none


def bad_values(recipe: Recipe) -> tuple[list[SampleError], int]:
    """The errors of all values that training or evaluation would refuse, and the number of rows that were read.

    Raises ``DataError`` where the data cannot be used as a whole: no such file or column, no label, no input.
    """
    found: list[SampleError] = []
    splits, seen = survey(recipe, open_splits(recipe), found.append)
    recipe = present_inputs(recipe, seen.rows["train"])
    for name, processor in make_processors(recipe, train_vocabulary((), SMALLEST)).items():
        found += _field(processor, "input", name, splits)
    for name, label in make_labels(recipe).items():
        found += _field(label, "task", name, splits)
    each = {(error.row, error.field): error for error in reversed(found)}
    return [*reversed(each.values())], seen.total


def _field(processor: Processor, kind: Kind, name: str, splits: Splits) -> Iterator[SampleError]:
    """The bad values of one input or task."""
    reads, whole = fitting(processor), []
    bad = BadSamples(count(splits), 1.0)  # in this field: one that is bad in another is read all the same
    try:
        fit(processor, kind, name, Values(splits, "train", kind, name, bad), bad.add)
        reads = processor
    except DataError as error:  # the good values are too few, or not good together
        whole.append(SampleError(str(error.__cause__ or error), "the training split", f"{kind} '{name}'"))
    for split in splits:
        yield from refused(Values(splits, split, kind, name).of_samples(), kind, name, reads)
    yield from whole
