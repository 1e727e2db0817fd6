"""The processors of a recipe: made with its options, and fitted on the training split with errors that name the row."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeGuard

import numpy as np

from encoders import ENCODERS
from mmbert.contracts import Processor
from mmbert.data.collate import encode_sample, row_of
from mmbert.errors import DataError, SampleError
from mmbert.recipe.schema import InputPart, Part, Recipe, TaskPart
from mmbert.registry import Registry, keyword_only
from mmbert.samples import Splits, chained
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.types import Sample
from tasks import TASKS

Kind = Literal["input", "task"]
Reads = Callable[[Any], Any]  # raises SampleError on a bad raw value


def make_processors(recipe: Recipe, vocabulary: Vocabulary) -> dict[str, Processor]:
    """The processor of each input, not fitted."""
    return {
        name: TextProcessor(vocabulary, **part.options) if part.type == "text" else _made(ENCODERS, part)
        for name, part in recipe.inputs.items()
    }


def make_labels(recipe: Recipe) -> dict[str, Processor]:
    """The processor of each task's labels, not fitted."""
    return {name: _made(TASKS, part) for name, part in recipe.tasks.items()}


def own_options(cls: type, part: Part) -> dict[str, Any]:
    """Those of a part's options that a class takes itself."""
    return {name: part.options[name] for name in keyword_only(cls)}


def fit(processor: Processor, kind: Kind, name: str, values: Iterable[Any], splits: Splits) -> None:
    """Fit a processor on the training values of an input or a task, which are those in ``splits``.

    Raises ``SampleError``, naming the row, on a bad value; ``DataError``, naming the field, on values that are no good
    together.
    """
    with naming_the_row(kind, name, fitting(processor), splits):
        processor.fit(values)


@contextmanager
def naming_the_row(kind: Kind, name: str, reads: Reads, splits: Splits) -> Iterator[None]:
    """Errors raised inside tell the training row of the bad value: the first that ``reads`` refuses as well."""
    try:
        yield
    except SampleError as error:
        raise next(refused(chained(splits, "train"), kind, name, reads), error) from error
    except DataError as error:
        raise DataError(f"{kind}s.{name}: {error}") from error


def fitting(processor: Processor) -> Reads:
    """Refuses a value as ``processor.fit`` does."""
    fresh = copy.deepcopy(processor)

    def read(value: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fresh.fit([value])
        except SampleError:
            raise
        except DataError:  # one value alone is too few
            pass

    return read


def refused(samples: Iterable[Sample], kind: Kind, name: str, reads: Reads) -> Iterator[SampleError]:
    """The errors, with their rows, of the values of an input or a task that ``reads`` refuses."""
    for sample in samples:
        values = sample.inputs if kind == "input" else sample.targets
        if name in values:
            try:
                reads(values[name])
            except SampleError as error:
                yield error.at(row_of(sample), f"{kind} '{name}'")


def misaligned(recipe: Recipe, samples: Iterable[Sample]) -> Iterator[SampleError]:
    """The errors, with their rows, of lists of tags that are not as long as the list of words that they label."""
    texts = [name for name, part in recipe.inputs.items() if part.type == "text"]
    tagged = {
        task: texts[0] if of == "text" and len(texts) == 1 else of
        for task, part in recipe.tasks.items()
        if (of := part.options.get("of")) and TASKS.get(part.type).processor.one_a_unit
    }
    for sample in samples if {*tagged.values()} & {*texts} else ():  # other units are known to their encoder alone
        for task, stream in tagged.items():
            words, tags = sample.inputs.get(stream), sample.targets.get(task)
            if stream in texts and _is_list(words) and _is_list(tags) and len(words) != len(tags):
                message = f"expected a tag for each of the {len(words)} words of '{stream}', found {len(tags)} tags"
                yield SampleError(message).at(row_of(sample), f"task '{task}'")


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple | np.ndarray)


def check_labels(recipe: Recipe, labels: Mapping[str, Processor], splits: Splits) -> None:
    """Read the labels of validation and test now, rather than after hours of training, and compare lengths.

    Raises ``SampleError``, naming the row, on a bad one (a class that the training split does not have) and on tags
    that are not as many as the words; ``DataError`` where no row of the validation split has any label: the best
    checkpoint is chosen by them.
    """
    labelled = {
        split: sum(bool(encode_sample(sample, {}, labels).targets) for sample in chained(splits, split))
        for split in ("validation", "test")
    }
    if not labelled["validation"]:
        raise DataError("no row of the validation split has a label, by which the best checkpoint is chosen")
    samples = (sample for split in splits for sample in chained(splits, split))
    if error := next(misaligned(recipe, samples), None):
        raise error


def _made(table: Registry, part: InputPart | TaskPart) -> Processor:
    cls = table.get(part.type).processor
    return cls(**own_options(cls, part))
