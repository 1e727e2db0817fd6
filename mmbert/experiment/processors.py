"""The processors of a recipe: made with its options, and fitted on the training split with errors that name the row."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from encoders import ENCODERS
from mmbert.contracts import Processor, Processors
from mmbert.data.collate import describe_row
from mmbert.errors import DataError, RecipeError, SampleError, nearest
from mmbert.experiment.splits import Kind, Values
from mmbert.recipe.schema import InputPart, Part, Recipe, TaskPart
from mmbert.registry import Registry, keyword_only_parameters
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.types import Sample
from tasks import TASKS

OnBad = Callable[[SampleError], None]
Reader = Callable[[Any], Any]  # raises SampleError on a bad raw value


def make_processors(recipe: Recipe, vocabulary: Vocabulary) -> Processors:
    """The processors of all inputs and tasks, not fitted.

    Args:
        recipe: the resolved one.
        vocabulary: of the trunk, for the text inputs.
    """
    return Processors(
        {
            name: TextProcessor(vocabulary, **part.options) if part.type == "text" else _make(ENCODERS, part)
            for name, part in recipe.inputs.items()
        },
        {name: _make(TASKS, part) for name, part in recipe.tasks.items()},
    )


def part_options(cls: type, part: Part) -> dict[str, Any]:
    """Those options of a recipe's part that a class takes.

    Args:
        cls: the part's encoder, task or processor.
        part: its entry in the recipe.
    """
    return {name: part.options[name] for name in keyword_only_parameters(cls)}


def fit_processor(processor: Processor, kind: Kind, name: str, values: Values, on_bad: OnBad) -> None:
    """Fit a processor on the training values of an input or a task.

    Args:
        processor: of the input or task.
        kind: ``input`` or ``task``.
        name: of the input or task.
        values: of the training split; passes over what was handed to ``on_bad``.
        on_bad: takes each bad value with its row; may raise.

    Raises:
        DataError: naming the field, where the values together cannot be used.
    """
    try:
        try:
            processor.fit(values)
        except SampleError:
            refused = 0
            for error in refused_values(values.with_samples(), kind, name, fit_reader(processor)):
                refused += 1
                on_bad(error)
            if not refused:  # bad together with others
                raise
            processor.fit(values)
    except SampleError:
        raise
    except DataError as error:
        raise DataError(f"{kind}s.{name}: {error}") from error


def fit_reader(processor: Processor) -> Reader:
    """A function that refuses a single value as ``processor.fit`` does.

    Args:
        processor: left as it is.
    """
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


def refused_values(
    values: Iterable[tuple[Sample, Any]], kind: Kind, name: str, reader: Reader
) -> Iterator[SampleError]:
    """The errors of the values that a reader refuses, with their rows.

    Args:
        values: of an input or a task, each with its sample.
        kind: ``input`` or ``task``.
        name: of the input or task.
        reader: raises ``SampleError`` on a bad value.
    """
    for sample, value in values:
        try:
            reader(value)
        except SampleError as error:
            yield error.at(describe_row(sample), f"{kind} '{name}'")


def inputs_that_read_files(recipe: Recipe) -> set[str]:
    """The names of the inputs whose values may be paths.

    Args:
        recipe: any.
    """
    return {
        name
        for name, part in recipe.inputs.items()
        if part.type != "text" and ENCODERS.get(part.type).processor.reads_files
    }


def check_tagged(recipe: Recipe) -> None:
    """Check that every tagging task names an input that exists.

    Args:
        recipe: the resolved one.

    Raises:
        RecipeError: where a task labels the units of an input that does not exist.
    """
    texts = [name for name, part in recipe.inputs.items() if part.type == "text"]
    single_text = {"text"} if len(texts) == 1 else set()  # the units of several texts are not those of one
    for task, part in recipe.tasks.items():
        of = part.options.get("of")
        if of is not None and of not in {*recipe.inputs, *single_text}:
            raise RecipeError(f"tasks.{task}.of: there is no input '{of}' to tag. {nearest(of, recipe.inputs)}")


def tagged_texts(recipe: Recipe) -> dict[str, str]:
    """Task -> the text input that it labels word by word; the units of other inputs are known to their encoder alone.

    Args:
        recipe: any.
    """
    texts = [name for name, part in recipe.inputs.items() if part.type == "text"]
    tagged = {
        task: texts[0] if of == "text" and len(texts) == 1 else of
        for task, part in recipe.tasks.items()
        if (of := part.options.get("of")) and TASKS.get(part.type).processor.one_per_unit
    }
    return {task: text for task, text in tagged.items() if text in texts}


def _make(table: Registry, part: InputPart | TaskPart) -> Processor:
    cls = table.get(part.type).processor
    return cls(**part_options(cls, part))
