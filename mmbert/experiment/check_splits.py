"""Checks of the splits before training: rows, labels, and labels that training never saw, with the way out."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from mmbert.contracts import Processor
from mmbert.data.collate import describe_row
from mmbert.errors import DataError, SampleError
from mmbert.experiment.processors import OnBad
from mmbert.experiment.splits import Splits, Values, explain_empty_split
from mmbert.preprocessing.labels import nearest_class, to_plain_label
from mmbert.recipe.schema import Recipe
from mmbert.types import Sample

MOST_SHOWN = 10  # unseen labels that a warning names
NO_TEST = "the result of this run is that of the validation split, which also chooses the best checkpoint"


def check_rows(recipe: Recipe, splits: Splits) -> list[str]:
    """Check that training and validation have rows; warn where test has none.

    Args:
        recipe: as it was loaded.
        splits: as ``open_splits`` gives them.

    Returns:
        Warnings.

    Raises:
        DataError: where the training or the validation split has no rows, with the way out.
    """
    for split in ("train", "validation"):
        if not any(map(len, splits[split])):
            name = "training" if split == "train" else split
            raise DataError(f"the {name} split has no rows. {explain_empty_split(recipe, split)}")
    if any(map(len, splits["test"])):
        return []
    return [f"the test split has no rows: {NO_TEST}. {explain_empty_split(recipe, 'test')}"]


@dataclass
class LabelCheck:
    """The labels of validation and test.

    Attributes:
        rows: split -> task -> rows with a label.
        warnings: sentences for the console.
    """

    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check_labels(
    processors: Mapping[str, Processor], splits: Splits, bad_samples: Container[Sample], on_bad: OnBad
) -> LabelCheck:
    """Read the labels of validation and test before training, rather than after hours of it.

    Args:
        processors: fitted, by task.
        splits: of the recipe's data.
        bad_samples: passed over.
        on_bad: takes each bad label with its row; may raise.

    Raises:
        DataError: where no row of the validation split has a label: the best checkpoint is chosen by them.
    """
    check = LabelCheck()
    for split in ("validation", "test"):
        check.rows[split] = {}
        for name, processor in processors.items():
            rows = total = 0
            unseen: dict[object, int] = {}
            for sample, value in Values(splits, split, "task", name, bad_samples).with_samples():
                total += 1
                try:
                    rows += bool(processor(value))
                    for label in processor.unseen(value):
                        unseen[label] = unseen.get(label, 0) + 1
                except SampleError as error:
                    on_bad(error.at(describe_row(sample), f"task '{name}'"))
            check.rows[split][name] = rows
            check.warnings += _unseen_warning(name, processor, split, unseen, total)
    if not any(check.rows["validation"].values()):
        raise DataError(
            "no row of the validation split has a label, by which the best checkpoint is chosen. Label some of its "
            "rows, or let a split column put labelled rows into it"
        )
    if any(map(len, splits["test"])) and not any(check.rows["test"].values()):
        check.warnings.append(f"no row of the test split has a label: {NO_TEST}. predict --split test predicts them")
    return check


def _unseen_warning(
    name: str, processor: Processor, split: str, unseen: Mapping[object, int], total: int
) -> Iterator[str]:
    """One sentence about the labels of a split that training never saw; none where there are none."""
    if not unseen:
        return
    classes = [to_plain_label(label) for label in getattr(processor, "classes", ())]
    shown = []
    for label in sorted(unseen, key=str)[:MOST_SHOWN]:
        close = nearest_class(to_plain_label(label), classes) if classes else None
        shown.append(f"{label!r}" + (f" (did you mean {close!r}?)" if close and isinstance(label, str) else ""))
    more = f" and {len(unseen) - MOST_SHOWN} more" if len(unseen) > MOST_SHOWN else ""
    what = "a label that no training row has" if len(unseen) == 1 else f"{len(unseen)} labels that no training row has"
    yield (
        f"tasks.{name}: {split} has {what}: {', '.join(shown)}{more}. They count as wrong predictions "
        f"({sum(unseen.values())} in {total} labelled rows). Joining rare classes or a split column avoids that"
    )
