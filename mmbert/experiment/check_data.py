"""Finding every bad value of a recipe's data without training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mmbert.contracts import Processor, Source
from mmbert.errors import DataError, SampleError
from mmbert.experiment.check_splits import check_labels, check_rows
from mmbert.experiment.data_report import scan_rows
from mmbert.experiment.prepare_data import resolve_recipe
from mmbert.experiment.processors import fit_processor, fit_reader, make_processors, refused_values
from mmbert.experiment.splits import Kind, Splits, Values, count, open_splits
from mmbert.recipe.schema import Recipe
from mmbert.tracking.bad_samples import BadSamples
from mmbert.trunk.vocabulary import train_vocabulary

SMALLEST = 100  # vocabulary: whether a value is text depends on none


@dataclass(frozen=True)
class DataCheck:
    """What is wrong with the data of a recipe.

    Attributes:
        errors: of all values that training or evaluation would refuse.
        warnings: as training gives them before its first step.
        rows: that were read.
    """

    errors: list[SampleError]
    warnings: list[str]
    rows: int


def find_bad_values(recipe: Recipe, sources: Mapping[str, Source]) -> DataCheck:
    """Read all values that training or evaluation would read.

    Args:
        recipe: as it was loaded.
        sources: of the recipe, see ``open_sources``.

    Raises:
        DataError: where the data cannot be used as a whole: no such file or column, no rows, no label, no input.
    """
    errors: list[SampleError] = []
    splits = open_splits(recipe, sources)
    warnings, rows = check_rows(recipe, splits), count(splits)
    try:
        splits, report = scan_rows(recipe, splits, errors.append)
    except DataError:
        if errors:  # with so many bad rows nothing else can be said
            return DataCheck(errors, warnings, rows)
        raise
    warnings += report.warnings
    recipe = resolve_recipe(recipe, report)
    processors = make_processors(recipe, train_vocabulary((), SMALLEST))
    for name, processor in processors.inputs.items():
        errors += _field_errors(processor, "input", name, splits)
    for name, processor in processors.targets.items():
        errors += _field_errors(processor, "task", name, splits)
    if not errors:  # every label processor is fitted
        warnings += check_labels(processors.targets, splits, (), errors.append).warnings
    first_of_each = {(error.row, error.field): error for error in reversed(errors)}
    return DataCheck([*reversed(first_of_each.values())], warnings, report.total)


def _field_errors(processor: Processor, kind: Kind, name: str, splits: Splits) -> Iterator[SampleError]:
    """The bad values of one input or task."""
    reader, split_errors = fit_reader(processor), []
    bad_samples = BadSamples(count(splits), 1.0)  # in this field: a row that is bad in another is read all the same
    try:
        fit_processor(processor, kind, name, Values(splits, "train", kind, name, bad_samples), on_bad=bad_samples.add)
        reader = processor
    except DataError as error:  # the good values are too few, or not good together
        message = str(error.__cause__ or error)
        split_errors.append(SampleError(message, "the training split", f"{kind} '{name}'"))
    for split in splits:
        yield from refused_values(Values(splits, split, kind, name).with_samples(), kind, name, reader)
    yield from split_errors
