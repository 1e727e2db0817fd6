"""What may stand in a recipe: its sections, in the order in which the data flows.

The fixed keys are fields below. An entry that names a part by its ``type`` also holds the options of that part, which
stand in the part's own signature; ``options.py`` checks those. This file imports the tables, not the parts.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from encoders import ENCODERS
from mmbert.data import SOURCES
from mmbert.errors import nearest
from mmbert.fusion import FUSIONS
from mmbert.recipe.conflicts import conflicts
from mmbert.recipe.training import CLOSED, Balance, Count, Evaluate, Name, Optim, Train
from mmbert.registry import Registry
from tasks import TASKS

TEXT = Registry("encoder", {"text": "mmbert.trunk.text:TextProcessor"})  # the one input type that the core knows

OPEN = ConfigDict(CLOSED, extra="allow")


def known(*tables: Registry) -> Callable[[str], str]:
    """A validator that accepts the names in the tables, which are of one kind."""

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


EncoderType = Annotated[str, AfterValidator(known(ENCODERS, TEXT))]
FusionType = Annotated[str, AfterValidator(known(FUSIONS))]
TaskType = Annotated[str, AfterValidator(known(TASKS))]
SourceType = Annotated[str, AfterValidator(known(SOURCES))]
TrunkTune = Annotated[
    str, AfterValidator(_tune), Field(json_schema_extra={"pattern": "^(full|frozen|top[1-9][0-9]*)$"})
]


class Part(BaseModel):
    """An entry that names a part by its type; keys besides its own are options of the part."""

    model_config = OPEN

    type: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of the part by name."""
        return dict(self.model_extra or {})


class SourcePart(Part):
    """Where rows come from."""

    type: SourceType
    """a data source"""
    name: str | None = None
    """the data set, for the type dataset"""


class TrunkSection(BaseModel):
    """The shared text transformer: from a checkpoint, or from a config with random weights."""

    model_config = CLOSED

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
    """standard deviation of the first weights; a narrow trunk wants more, 0.55 / sqrt(hidden_size) is BERT's"""
    tune: TrunkTune = "full"
    """what is trained: full, frozen, or top<k>, the last k layers"""
    packing: bool = True
    """compute real tokens only, gathered into rows; changes speed, not results"""
    cache: bool = False
    """compute what is frozen of the trunk once for each text and keep it on disk; changes speed, not results"""


class InputPart(Part):
    """One named input."""

    type: EncoderType
    """an encoder, or text"""
    column: str | list[str] | None = None
    """the column that holds it, or several; null: the column of its own name"""
    tune: Literal["full", "frozen"] = "full"
    """what of a pretrained encoder is trained"""
    optional: bool = False
    """whether a data set without any such value is fine"""
    missing: Literal["masked", "learned"] = "masked"
    """what enters the fusion for a row without it: nothing, or a token that is learned"""


class FusionPart(Part):
    """How the text and the other inputs are joined."""

    type: FusionType = "concat"
    """a fusion"""
    logit_sum: bool = False
    """whether heads that read one input alone add to what the tasks make of the fused vector"""


class TaskPart(Part):
    """One named task."""

    type: TaskType
    """a task"""
    column: str | None = None
    """the column that holds the label; null: the column of its own name"""


class Recipe(BaseModel):
    """A recipe with all its sections, in the order in which the data flows."""

    model_config = CLOSED

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
    """what keeps one input from outrunning the others"""
    optim: Optim = Optim()
    """the optimiser"""
    train: Train
    """the training loop"""
    evaluate: Evaluate = Evaluate()
    """evaluation during training"""

    @model_validator(mode="after")
    def _no_conflicts(self) -> Self:
        if found := conflicts(self.model_dump(exclude_unset=True)):
            details = [
                InitErrorDetails(type=PydanticCustomError("recipe", "{m}", {"m": text}), loc=path, input=None)
                for path, text in found.items()
            ]
            raise ValidationError.from_exception_data("Recipe", details)
        return self
