"""From a recipe to its data: splits opened, rows scanned, and the recipe resolved by what the rows are."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmbert.experiment.check_splits import check_rows
from mmbert.experiment.data_report import DataReport, scan_rows
from mmbert.experiment.splits import Splits, count, open_sources, open_splits
from mmbert.recipe.schema import Recipe, resolve_length
from mmbert.tracking.bad_samples import BadSamples


@dataclass(frozen=True)
class PreparedData:
    """The data of a recipe.

    Attributes:
        recipe: resolved: without absent optional inputs, its length in steps. All that follows reads this one.
        splits: without the training rows that have no label.
        bad_samples: the bad rows found so far.
        report: what the rows are.
    """

    recipe: Recipe
    splits: Splits
    bad_samples: BadSamples
    report: DataReport


def prepare_data(recipe: Recipe) -> PreparedData:
    """Open the splits of a recipe and read every row once.

    Args:
        recipe: as it was loaded.

    Raises:
        SampleError: at the first bad row, where ``train.max_bad_fraction`` is 0.
        DataError: where the data cannot be used as a whole, see ``check_rows`` and ``scan_rows``.
    """
    sources = open_sources(recipe)
    splits = open_splits(recipe, sources)
    warnings = check_rows(recipe, splits)
    bad_samples = BadSamples(count(splits), recipe.train.max_bad_fraction)
    splits, report = scan_rows(recipe, splits, bad_samples.add)
    summaries = {name: source.summary for name, source in sources.items()}
    warnings += [warning for summary in summaries.values() for warning in summary.warnings]
    report.warnings[:0] = warnings
    report.reading = {name: dict(summary.reading) for name, summary in summaries.items()}
    return PreparedData(resolve_recipe(recipe, report), splits, bad_samples, report)


def resolve_recipe(recipe: Recipe, report: DataReport) -> Recipe:
    """The recipe that a run trains and stores: without absent optional inputs, its length in steps.

    Args:
        recipe: as it was loaded, or with another seed.
        report: of its data.
    """
    rows = report.rows["train"]
    return resolve_length(_present_inputs(recipe, rows), rows["rows"])


def _present_inputs(recipe: Recipe, rows: Mapping[str, int]) -> Recipe:
    """The recipe without those optional inputs that no training row has; ``rows`` counts the rows that have one."""
    inputs = {name: part for name, part in recipe.inputs.items() if rows.get(name)}
    train = recipe.train
    if isinstance(train.input_dropout, dict):
        rates = {name: rate for name, rate in train.input_dropout.items() if name in inputs}
        train = train.model_copy(update={"input_dropout": rates})
    return recipe.model_copy(update={"inputs": inputs, "train": train})
