"""The schema of study files."""

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
    """One arm for each input or task of the base, without it."""

    model_config = CLOSED

    of: Literal["inputs", "tasks"] = "inputs"
    """what is left out: one input, or one task, at a time"""
    how: Literal["remove", "mask", "both"] = "remove"
    """remove: trained without it; mask: trained with it, hidden at test; both: one arm for each"""
    keep: list[str] = []
    """names that are never left out, such as the input whose words a task labels"""

    @model_validator(mode="after")
    def _tasks_are_removed(self) -> Self:
        if self.of == "tasks" and self.how != "remove":
            raise ValueError("a task can be removed, but not masked at test: use 'how: remove'")
        return self


class StudyFile(BaseModel):
    """A base recipe, its variants, and the planned comparisons."""

    model_config = CLOSED

    name: Name
    """the name of the study"""
    base: Annotated[str, Field(min_length=1)]
    """the path of a recipe, relative to this file; without changes it is the arm 'reference'"""
    set: dict[str, Any] = {}
    """changes of the base in all arms, such as fewer steps"""
    seeds: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | Annotated[list[Seed], Field(min_length=1)], AfterValidator(_seeds)
    ] = 7
    """the number of seeds (0, 1, 2, ...), or a list of seeds"""
    metric: Annotated[str, AfterValidator(_metric)]
    """the primary metric, task/metric"""
    arms: dict[ArmName, dict[str, Any]] = {}
    """variants by name, with the changes of the base"""
    factors: dict[Annotated[str, Field(min_length=1)], Annotated[list[Any], Field(min_length=1)]] = {}
    """dotted keys of the base, each with its values"""
    crossed: bool = False
    """true: all combinations of the factors; false: one factor differs from the base at a time"""
    leave_one_out: LeaveOneOut | None = None
    """arms without one input, or without one task"""
    match_parameters: dict[str, str] = {}
    """arms to get as many trainable parameters as the reference, each with the dotted key of the integer to set"""
    comparisons: Annotated[list[str | tuple[str, str]], Field(min_length=1, max_length=3)]
    """one to three planned comparisons: an arm (against the reference), or [arm, other arm]"""

    @property
    def listed_seeds(self) -> list[int]:
        """The seeds as a list."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
