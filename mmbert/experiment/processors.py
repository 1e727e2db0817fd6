"""The processors of a recipe: made with its options, and fitted on the training split with errors that name the row."""

import copy
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from encoders import ENCODERS
from mmbert.contracts import Processor
from mmbert.data.collate import describe_row
from mmbert.errors import DataError, RecipeError, SampleError, nearest
from mmbert.experiment.splits import Kind, Splits, Values
from mmbert.recipe.schema import InputPart, Part, Recipe, TaskPart
from mmbert.registry import Registry, keyword_only
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.types import Sample
from tasks import TASKS

OnBad = Callable[[SampleError], None]
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


def fit(processor: Processor, kind: Kind, name: str, values: Values, on_bad: OnBad) -> None:
    """Fit a processor on the training values of an input or a task.

    Bad values are handed, with their rows, to ``on_bad``, which may raise; ``values`` must then pass over them. Raises
    ``DataError``, naming the field, on values that are no good together.
    """
    try:
        try:
            processor.fit(values)
        except SampleError as error:
            if not _tell(refused(values.of_samples(), kind, name, fitting(processor)), on_bad):
                raise error  # bad together with others
            processor.fit(values)
    except SampleError:
        raise
    except DataError as error:
        raise DataError(f"{kind}s.{name}: {error}") from error


def _tell(errors: Iterable[SampleError], on_bad: OnBad) -> bool:
    """Whether there was any."""
    found = False
    for error in errors:
        found = True
        on_bad(error)
    return found


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


def refused(values: Iterable[tuple[Sample, Any]], kind: Kind, name: str, reads: Reads) -> Iterator[SampleError]:
    """The errors, with their rows, of the values of an input or a task that ``reads`` refuses."""
    for sample, value in values:
        try:
            reads(value)
        except SampleError as error:
            yield error.at(describe_row(sample), f"{kind} '{name}'")


def reads_files(recipe: Recipe) -> set[str]:
    """The inputs whose values may be paths."""
    return {
        name
        for name, part in recipe.inputs.items()
        if part.type != "text" and ENCODERS.get(part.type).processor.reads_files
    }


def check_tagged(recipe: Recipe) -> None:
    """Raise ``RecipeError`` where a task labels the units of an input that is not there."""
    texts = [name for name, part in recipe.inputs.items() if part.type == "text"]
    alone = {"text"} if len(texts) == 1 else set()  # the units of several texts are not those of one
    for task, part in recipe.tasks.items():
        of = part.options.get("of")
        if of is not None and of not in {*recipe.inputs, *alone}:
            raise RecipeError(f"tasks.{task}.of: there is no input '{of}' to tag. {nearest(of, recipe.inputs)}")


def tagged_texts(recipe: Recipe) -> dict[str, str]:
    """The text input that each task labels word by word; the units of other inputs are known to their encoder alone."""
    texts = [name for name, part in recipe.inputs.items() if part.type == "text"]
    tagged = {
        task: texts[0] if of == "text" and len(texts) == 1 else of
        for task, part in recipe.tasks.items()
        if (of := part.options.get("of")) and TASKS.get(part.type).processor.one_a_unit
    }
    return {task: text for task, text in tagged.items() if text in texts}


def check_labels(labels: Mapping[str, Processor], splits: Splits, bad: Container[Sample], on_bad: OnBad) -> None:
    """Read the labels of validation and test now, rather than after hours of training.

    Bad ones (a class that the training split does not have) are handed to ``on_bad``, which may raise. Raises
    ``DataError`` where no row of the validation split has any label: the best checkpoint is chosen by them.
    """
    labelled = {"validation": False, "test": False}
    for split in labelled:
        for name, label in labels.items():
            for sample, value in Values(splits, split, "task", name, bad).of_samples():
                try:
                    labelled[split] |= bool(label(value))
                except SampleError as error:
                    on_bad(error.at(describe_row(sample), f"task '{name}'"))
    if not labelled["validation"]:
        raise DataError("no row of the validation split has a label, by which the best checkpoint is chosen")


def _made(table: Registry, part: InputPart | TaskPart) -> Processor:
    cls = table.get(part.type).processor
    return cls(**own_options(cls, part))
