"""The base class of all recipe sections: closed sets of keys, and checks across keys reported with all other errors."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

CLOSED = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

Path = tuple[str | int, ...]  # the keys and list positions that lead to a value
Conflicts = Iterator[tuple[Path, str]]

CONFLICT = "conflict"  # the type of an error that ``RecipeSection.conflicts`` reports


class RecipeSection(BaseModel):
    """A section of a recipe.

    A plain pydantic validator of a whole model runs only where each of its fields is valid, which would report the
    problems of a recipe one after another. Here ``conflicts`` sees the values as they were written, valid or not, and
    what it finds is raised together with the errors of the fields.
    """

    model_config = CLOSED

    @classmethod
    def conflicts(cls, values: Mapping[str, Any]) -> Conflicts:
        """Pairs (path within the section, message) for keys that do not fit together.

        Args:
            values: what was written, without defaults; a value may be of any type.
        """
        yield from ()

    @classmethod
    def with_defaults(cls, values: Any) -> dict[str, Any]:
        """The values as they were written and the defaults of all other keys; of what is no mapping, the defaults."""
        return {name: field.get_default() for name, field in cls.model_fields.items()} | as_mapping(values)

    @model_validator(mode="wrap")
    @classmethod
    def _with_conflicts(cls, values: Any, validate: Callable[[Any], Self]) -> Self:
        messages = dict(cls.conflicts(values)) if isinstance(values, Mapping) else {}
        details = [
            InitErrorDetails(type=PydanticCustomError(CONFLICT, "{m}", {"m": message}), loc=path, input=None)
            for path, message in messages.items()
        ]
        section = None
        try:
            section = validate(values)
        except ValidationError as error:
            details += map(_detail, error.errors(include_url=False))
        if section is None or details:
            raise ValidationError.from_exception_data(cls.__name__, details)
        return section


def as_mapping(value: Any) -> dict[str, Any]:
    """A value if it is a mapping, else an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


def _detail(error: Any) -> InitErrorDetails:
    """An error of a field in the form in which it can be raised again."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == CONFLICT:
        kind = PydanticCustomError(CONFLICT, "{m}", context)
    return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"], ctx=context)
