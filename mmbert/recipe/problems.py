"""What is wrong with a recipe: problems with path, place and message, reported all at once."""

import re
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from mmbert.errors import RecipeError, nearest
from mmbert.recipe.section import CONFLICT, Path


class Problem(NamedTuple):
    """One problem: the dotted path of the value, ``file:line`` or ``--set``, and what is wrong."""

    path: str
    origin: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} ({self.origin}): {self.message}" if self.path else f"{self.origin}: {self.message}"


def recipe_error(problems: Iterable[Problem], what: str = "the recipe is") -> RecipeError:
    """The error that lists all problems, each once, in the order of the files and lines."""
    unique = sorted(set(problems), key=lambda problem: (*_place(problem.origin), problem.path))
    return RecipeError("\n".join([f"{what} not valid:", *(f"  - {problem}" for problem in unique)]))


def _place(origin: str) -> tuple[str, int]:
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (origin, 0)


def dotted_path(path: Path) -> str:
    return ".".join(map(str, path))


def find_origin(path: Path, origins: Mapping[str, str]) -> str:
    """Where the value of a path, or the nearest value around it, was written."""
    for end in range(len(path), 0, -1):
        if origin := origins.get(dotted_path(path[:end])):
            return origin
    return origins.get("", "recipe")


def explain_errors(error: ValidationError, given: Any, keys: Callable[[Path], Iterable[str]]) -> dict[Path, str]:
    """The messages of a pydantic error by path; ``given`` is what was validated, ``keys`` the valid keys at a path."""
    groups: dict[Path, dict[Path, list[Any]]] = {}  # path of a union (or of the value itself) -> path -> errors
    for detail in error.errors(include_url=False):
        union, path = _locate(detail["loc"], given, detail["type"])
        groups.setdefault(union, {}).setdefault(path, []).append(detail)
    messages: dict[Path, str] = {}
    for found in groups.values():
        path = max(found, key=len)  # of a union's branches, those that fit best
        messages[path] = _message(found[path], path, _value(path, given), keys)
    return messages


def _locate(location: Path, given: Any, kind: str) -> tuple[Path, Path]:
    """The path of an error in the recipe, and before it the path of the union around it, or itself.

    An error's location also names the branches of unions, which are no keys.
    """
    path: Path = ()
    union: Path | None = None
    for position, key in enumerate(location):
        last = position == len(location) - 1
        if _has(given, key):
            path, given = (*path, key), given[key]
        elif kind in ("missing", CONFLICT) and last:
            path = (*path, key)
        elif union is None:
            union = path
    return path if union is None else union, path


def _has(given: Any, key: str | int) -> bool:
    return key in given if isinstance(given, Mapping) else isinstance(given, list) and key in range(len(given))


def _value(path: Path, given: Any) -> Any:
    for key in path:
        given = given[key] if _has(given, key) else None
    return given


EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "null",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "literal_error": "{expected}",
    "too_short": "{min_length} or more entries",
    "too_long": "{max_length} or fewer entries",
    "string_too_short": "text of {min_length} or more characters",
}


def _message(details: list[Any], path: Path, value: Any, keys: Callable[[Path], Iterable[str]]) -> str:
    """One message for the errors of one value, of which there are several where a union has several branches."""
    details = [detail for detail in details if detail["type"] != CONFLICT] or details  # a wrong value comes first
    expected: dict[str, None] = {}  # an ordered set
    words: list[str] = []
    for detail in details:
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "extra_forbidden":
            return f"unknown key. {nearest(str(path[-1]), keys(path[:-1]))}"
        if kind == "missing":
            return "missing: this is required"
        if kind in ("value_error", CONFLICT):
            return detail["msg"].removeprefix("Value error, ")
        if kind == "literal_error":
            words += re.findall(r"'([^']*)'", context["expected"])
        default = detail["msg"].removeprefix("Input should be ")
        expected[EXPECTED[kind].format(**_short(context)) if kind in EXPECTED else default] = None
    guess = nearest(value, words).partition("Valid: ")[0] if isinstance(value, str) and words else ""
    return f"expected {' or '.join(expected)}, found {show_value(value)}. {guess}".rstrip(". ")


def _short(context: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as people write them: 1 for 1.0."""
    return {
        key: int(number) if isinstance(number, float) and number.is_integer() else number
        for key, number in context.items()
    }


def valid_keys(model: Any, path: Path) -> list[str]:
    """The keys that a model, or the model inside it at a path, knows; a map's entries share one model."""
    for key in path:
        model = model.model_fields[key].annotation if _is_model(model) else get_args(model)[-1]
        model = next(filter(_is_model, get_args(model)), model) if isinstance(model, UnionType) else model
    return list(model.model_fields) if _is_model(model) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def show_value(value: Any) -> str:
    """A value as a message names it, in the words of YAML.

    >>> show_value("3"), show_value(None), show_value({"a": 1})
    ("'3'", 'null', 'a mapping')
    """
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
