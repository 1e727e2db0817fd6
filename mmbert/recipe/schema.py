"""The schema of a recipe: its sections, in the order in which data flows through them.

The fixed keys are fields below. An entry that names a part by its ``type`` also holds the options of that part, which
are parameters of the part's constructor and are checked by ``options.py``. This file imports tables, not parts.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from encoders import ENCODERS
from mmbert.data import SOURCES
from mmbert.datasets import DATASETS
from mmbert.errors import nearest
from mmbert.fusion import FUSIONS
from mmbert.recipe.section import CLOSED, Conflicts, RecipeSection, as_mapping
from mmbert.recipe.training import Balance, Count, Evaluate, Name, Optim, Train
from mmbert.registry import Registry
from tasks import TASKS

TEXT = Registry("encoder", {"text": "mmbert.trunk.text:TextProcessor"})  # the only input type that is not a plug-in

OPEN = ConfigDict(CLOSED, extra="allow")

# of a trunk without a checkpoint
CONFIG_KEYS = ("family", "layers", "hidden_size", "heads", "vocabulary", "max_positions", "initializer_range")


def name_in(*tables: Registry) -> Callable[[str], str]:
    """A validator of names in tables, which are of one kind."""

    def check(name: str) -> str:
        names = {name for table in tables for name in table.names()}
        if name in names:
            return name
        more = "; --plugin MODULE adds others, a recipe never names code" if set(name) & set(".:/") else ""
        raise ValueError(f"no {tables[0].kind} is called '{name}'. {nearest(name, names)}{more}")

    return check


def _tune(value: str) -> str:
    if value in ("full", "frozen") or (value.startswith("top") and value[3:].isdecimal() and int(value[3:]) > 0):
        return value
    raise ValueError(f"expected full, frozen or top<k> (top2: the last two layers), found {value!r}")


EncoderType = Annotated[str, AfterValidator(name_in(ENCODERS, TEXT))]
FusionType = Annotated[str, AfterValidator(name_in(FUSIONS))]
TaskType = Annotated[str, AfterValidator(name_in(TASKS))]
SourceType = Annotated[str, AfterValidator(name_in(SOURCES))]
TrunkTune = Annotated[
    str, AfterValidator(_tune), Field(json_schema_extra={"pattern": "^(full|frozen|top[1-9][0-9]*)$"})
]


class Part(RecipeSection):
    """An entry that names a part by its type; other keys are options of the part."""

    model_config = OPEN

    type: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of the part, by name."""
        return dict(self.model_extra or {})


class SourcePart(Part):
    """Where rows come from."""

    type: SourceType
    """a data source"""
    name: str | None = None
    """the data set, for the type dataset"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """A data set is named where the type is ``dataset``, and only there."""
        kind, name = values.get("type"), values.get("name")
        if kind == "dataset" and name is None:
            yield ("name",), f"missing: the data set. {nearest('', DATASETS.names())}"
        elif kind == "dataset" and isinstance(name, str) and name not in DATASETS:
            yield ("name",), f"no data set is called '{name}'. {nearest(name, DATASETS.names())}"
        elif isinstance(kind, str) and kind != "dataset" and name is not None:
            yield ("name",), f"belongs to the type dataset: remove it, or the type {kind}"


class TrunkSection(RecipeSection):
    """The shared text transformer: from a checkpoint, or from a config with random weights."""

    checkpoint: Annotated[str, Field(min_length=1)] | None = "minilm"
    """minilm, a path or a hub name; null: from a config, the keys down to initializer_range"""
    family: Literal["bert", "modernbert"] = "bert"
    """the architecture"""
    layers: Count = 4
    """number of layers"""
    hidden_size: Count = 256
    """width of the tokens"""
    heads: Count = 4
    """attention heads of a layer"""
    vocabulary: Annotated[int, Field(ge=100)] = 8192
    """word pieces, trained on the training texts"""
    max_positions: Annotated[int, Field(ge=4)] = 512
    """the longest sequence"""
    initializer_range: Annotated[float, Field(gt=0)] = 0.02
    """standard deviation of the first weights; a narrow trunk needs more; BERT's is 0.55 / sqrt(hidden_size)"""
    tune: TrunkTune = "full"
    """what is trained: full, frozen, or top<k>, the last k layers"""
    packing: bool = True
    """whether padding is left out of the computation; changes speed, not results"""
    cache: bool = False
    """whether the frozen layers are computed once for each text and kept on disk; changes speed, not results"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """Either a checkpoint or a config, whose width is cut into heads."""
        chosen = cls.with_defaults(values)
        checkpoint, width, heads = chosen["checkpoint"], chosen["hidden_size"], chosen["heads"]
        if checkpoint is not None:
            message = f"belongs to a trunk from a config, but the checkpoint is {checkpoint}: remove this"
            yield from (((key,), message) for key in CONFIG_KEYS if key in values)
        elif isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads:
            yield ("hidden_size",), f"expected a multiple of heads ({heads}), found {width}"


class InputPart(Part):
    """One named input."""

    type: EncoderType
    """an encoder, or text"""
    column: str | list[str] | None = None
    """its column, or several; null: the column with the name of the input"""
    tune: Literal["full", "frozen"] = "full"
    """whether a pretrained encoder is trained or frozen"""
    optional: bool = False
    """whether a data set may have no value of it at all"""
    missing: Literal["masked", "learned"] = "masked"
    """what the fusion reads for a row without it: nothing (masked), or a learned token"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """The trunk encodes texts, so keys about an encoder do not fit."""
        if values.get("type") != "text":
            return
        chosen = cls.with_defaults(values)
        if chosen["tune"] != "full":
            yield ("tune",), "a text is encoded by the trunk: set trunk.tune"
        if chosen["missing"] != "masked":
            yield ("missing",), "a row without text is read as [CLS] [SEP], which learns: remove this"


class FusionPart(Part):
    """How text and the other inputs are joined."""

    type: FusionType = "concat"
    """a fusion"""
    logit_sum: bool = False
    """whether the outputs of heads on each input alone are added to those on the fused vector"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """The type ``logit_sum`` is what the key of that name adds to other types."""
        if values.get("type") == "logit_sum" and values.get("logit_sum") is True:
            yield ("logit_sum",), "the type logit_sum adds them already: remove this, or name another type"


class TaskPart(Part):
    """One named task."""

    type: TaskType
    """a task"""
    column: str | list[str] | None = None
    """the column of the label, or one of 0 and 1 for each label of multilabel; null: the column named like the task"""


class Recipe(RecipeSection):
    """A recipe with all its sections, in the order in which the data flows."""

    name: Name
    """what runs are called"""
    data: Annotated[dict[Name, SourcePart], Field(min_length=1)]
    """sources by name"""
    trunk: TrunkSection = TrunkSection()
    """the shared text transformer"""
    inputs: Annotated[dict[Name, InputPart], Field(min_length=1)]
    """inputs by name"""
    fusion: FusionPart = FusionPart()
    """how the inputs are joined"""
    tasks: Annotated[dict[Name, TaskPart], Field(min_length=1)]
    """tasks by name"""
    balance: Balance = Balance()
    """what keeps one input from dominating the others"""
    optim: Optim = Optim()
    """the optimiser"""
    train: Train
    """the training loop"""
    evaluate: Evaluate = Evaluate()
    """evaluation during training"""

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """What keys of different sections say together."""
        inputs, tasks, train = (as_mapping(values.get(section)) for section in ("inputs", "tasks", "train"))
        types = {name: as_mapping(entry).get("type") for name, entry in inputs.items()}
        yield from _check_names(types, tasks)
        yield from _check_trunk_cache(TrunkSection.with_defaults(values.get("trunk")), types)
        if as_mapping(values.get("fusion")).get("type") == "logit_sum":
            for name, entry in inputs.items():
                if as_mapping(entry).get("missing") == "learned":
                    message = "a learned token enters the fusion, and the type logit_sum joins nothing: remove this"
                    yield ("inputs", name, "missing"), message
        for name in as_mapping(train.get("input_dropout")):
            if name not in inputs:
                yield ("train", "input_dropout", name), f"no input is called '{name}'. {nearest(name, inputs)}"
        yield from _check_select(Train.with_defaults(train)["select"], tasks)


def _check_names(types: Mapping[str, Any], tasks: Mapping[str, Any]) -> Conflicts:
    for name, kind in types.items():
        if name == "text" and isinstance(kind, str) and kind != "text":
            yield ("inputs", name), f"only an input of the type text may be called text: rename this {kind}"
        if name in tasks:
            yield ("tasks", name), f"an input has this name too: rename the task, and give it column: {name}"
    if "all" in tasks:
        yield ("tasks", "all"), "logs call the mean over tasks 'all': rename the task, and give it column: all"


def _check_trunk_cache(trunk: Mapping[str, Any], types: Mapping[str, Any]) -> Conflicts:
    texts = sorted(name for name, kind in types.items() if kind == "text")
    if trunk["cache"] is not True:
        return
    if trunk["tune"] == "full":
        message = "only what is frozen can be computed once, but trunk.tune is full: set it to frozen or top<k>"
    elif len(texts) > 1:
        message = f"the texts {', '.join(texts)} are told apart by a facet, which learns below all layers: keep one"
    else:
        return
    yield ("trunk", "cache"), f"{message}, or remove this"


def _check_select(select: Any, tasks: Mapping[str, Any]) -> Conflicts:
    """The score that chooses the best checkpoint has to be one that the recipe's tasks have."""
    if not isinstance(select, str) or select == "skill":
        return
    path = ("train", "select")
    task, _, metric = select.partition("/")
    if not metric:
        yield path, f"expected skill or task/metric, found '{select}'"
    elif task not in tasks:
        yield path, f"no task is called '{task}'. {nearest(task, tasks)}"
    elif (kind := as_mapping(tasks[task]).get("type")) in TASKS.names() and metric not in TASKS.get(kind).metrics:
        yield path, f"the task '{task}' has no metric '{metric}'. {nearest(metric, TASKS.get(kind).metrics)}"


def resolve_length(recipe: Recipe, rows: int) -> Recipe:
    """The recipe with its length in steps: the form that a run folder stores, and whose hash the ledger stores.

    Args:
        recipe: gives the length in steps or epochs, by default one epoch.
        rows: training rows.
    """
    epoch = rows / recipe.train.batch_size  # in steps
    steps = recipe.train.steps or max(1, round((recipe.train.epochs or 1) * epoch))
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps, "epochs": None})})


def evaluation_interval(recipe: Recipe, rows: int) -> int:
    """Optimiser steps between two evaluations; at most the length of the run.

    Args:
        recipe: with its length in steps, see ``resolve_length``.
        rows: training rows.
    """
    interval = max(1, round(recipe.evaluate.every * (rows / recipe.train.batch_size)))
    return min(interval, recipe.train.steps or interval)
