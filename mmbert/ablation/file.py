"""What may stand in a study file."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from mmbert.recipe.section import CLOSED
from mmbert.recipe.training import Name

MOST_ARMS = 200
REFERENCE = "reference"


def _arm(name: str) -> str:
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > 80:
        raise ValueError(f"expected a name in one line of at most 80 characters, found {name!r}")
    if name == REFERENCE:
        raise ValueError(f"'{REFERENCE}' is the base itself; give this arm another name")
    return name


def _metric(value: str) -> str:
    if value.count("/") != 1 or not all(value.split("/")):
        raise ValueError(f"expected task/metric, such as label/accuracy, found {value!r}")
    return value


def _seeds(value: int | list[int]) -> int | list[int]:
    if isinstance(value, list) and len(set(value)) < len(value):
        raise ValueError(f"expected seeds that differ, found {value}")
    return value


ArmName = Annotated[str, AfterValidator(_arm)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class LeaveOneOut(BaseModel):
    """An arm for each input or task of the base, without it."""

    model_config = CLOSED

    of: Literal["inputs", "tasks"] = "inputs"
    """what is left out, one at a time"""
    how: Literal["remove", "mask", "both"] = "remove"
    """remove: not there at all; mask: there in training, taken away at test; both: an arm for either"""
    keep: list[str] = []
    """those that are never left out, such as the input whose words a task labels"""

    @model_validator(mode="after")
    def _tasks_are_removed(self) -> Self:
        if self.of == "tasks" and self.how != "remove":
            raise ValueError("a task can be removed, but not masked at test")
        return self


class StudyFile(BaseModel):
    """A base recipe, its variants, and the question that is asked of them."""

    model_config = CLOSED

    name: Name
    """what the study is called"""
    base: Annotated[str, Field(min_length=1)]
    """the path of a recipe, relative to this file; as it is, it is the arm 'reference'"""
    set: dict[str, Any] = {}
    """a change of the base that all arms share, such as fewer steps"""
    seeds: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | Annotated[list[Seed], Field(min_length=1)], AfterValidator(_seeds)
    ] = 7
    """how many seeds, from 0 on, or the seeds themselves"""
    metric: Annotated[str, AfterValidator(_metric)]
    """the primary metric, task/metric"""
    arms: dict[ArmName, dict[str, Any]] = {}
    """variants by name: what each changes of the base"""
    factors: dict[Annotated[str, Field(min_length=1)], Annotated[list[Any], Field(min_length=1)]] = {}
    """dotted keys of the base and the values that they take"""
    crossed: bool = False
    """whether factors are combined in all ways; else each varies alone, around the base"""
    leave_one_out: LeaveOneOut | None = None
    """arms without one input, or without one task"""
    match_parameters: dict[str, str] = {}
    """arms that get as many learning parameters as the reference, each by the dotted key of a whole-number option"""
    comparisons: Annotated[list[str | tuple[str, str]], Field(min_length=1, max_length=3)]
    """one to three planned comparisons: an arm against the reference, or [arm, other arm]"""

    @property
    def listed_seeds(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
