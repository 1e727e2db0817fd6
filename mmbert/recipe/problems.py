"""Problems of a recipe with path, place and message, reported all at once."""

import re
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from mmbert.errors import RecipeError, nearest
from mmbert.recipe.section import CONFLICT, Path


class Problem(NamedTuple):
    """A problem: the dotted path of the value, its ``file:line`` or ``--set``, and a message."""

    path: str
    origin: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} ({self.origin}): {self.message}" if self.path else f"{self.origin}: {self.message}"


def recipe_error(problems: Iterable[Problem], subject: str = "the recipe is") -> RecipeError:
    """An error that lists problems in the order of files and lines, each once.

    Args:
        problems: at least one.
        subject: the start of the message, which goes on with "not valid".
    """
    unique = sorted(set(problems), key=lambda problem: (*_place(problem.origin), problem.path))
    return RecipeError("\n".join([f"{subject} not valid:", *(f"  - {problem}" for problem in unique)]))


def _place(origin: str) -> tuple[str, int]:
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (origin, 0)


def dotted_path(path: Path) -> str:
    """A path as text, such as ``inputs.photo.side``."""
    return ".".join(map(str, path))


def find_origin(path: Path, origins: Mapping[str, str]) -> str:
    """Where a value, or the nearest value around it, was written.

    Args:
        path: the path of the value.
        origins: dotted path -> ``file:line`` or ``--set``.
    """
    for end in range(len(path), 0, -1):
        if origin := origins.get(dotted_path(path[:end])):
            return origin
    return origins.get("", "recipe")


def explain_errors(error: ValidationError, values: Any, keys: Callable[[Path], Iterable[str]]) -> dict[Path, str]:
    """The messages of a pydantic error by path.

    Args:
        error: what the validation raised.
        values: the values that were validated.
        keys: gives the valid keys at a path.
    """
    groups: dict[Path, dict[Path, list[Any]]] = {}  # path of a union (or of the value itself) -> path -> errors
    for detail in error.errors(include_url=False):
        union, path = _locate(detail["loc"], values, detail["type"])
        groups.setdefault(union, {}).setdefault(path, []).append(detail)
    messages: dict[Path, str] = {}
    for details_by_path in groups.values():
        path = max(details_by_path, key=len)  # of the branches of a union, those that fit best
        messages[path] = _message(details_by_path[path], path, _value(path, values), keys)
    return messages


def _locate(location: Path, values: Any, kind: str) -> tuple[Path, Path]:
    """The path of the union around an error (or of the error itself), and the path of the error.

    The location of a pydantic error also names the branches of unions, which are not keys of the recipe.
    """
    path: Path = ()
    union: Path | None = None
    for position, key in enumerate(location):
        last = position == len(location) - 1
        if _has(values, key):
            path, values = (*path, key), values[key]
        elif kind in ("missing", CONFLICT) and last:
            path = (*path, key)
        elif union is None:
            union = path
    return path if union is None else union, path


def _has(values: Any, key: str | int) -> bool:
    return key in values if isinstance(values, Mapping) else isinstance(values, list) and key in range(len(values))


def _value(path: Path, values: Any) -> Any:
    for key in path:
        values = values[key] if _has(values, key) else None
    return values


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
    """One message for the errors of one value; a union of several types gives several errors."""
    details = [detail for detail in details if detail["type"] != CONFLICT] or details  # the type of a value comes first
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
    """Whole numbers without a fraction: 1 for 1.0."""
    return {
        key: int(number) if isinstance(number, float) and number.is_integer() else number
        for key, number in context.items()
    }


def valid_keys(model: Any, path: Path) -> list[str]:
    """The keys of the model at a path inside a model; all entries of a mapping have one model.

    Args:
        model: a section, or the type of a field.
        path: keys from there on.
    """
    for key in path:
        model = model.model_fields[key].annotation if _is_model(model) else get_args(model)[-1]
        model = next(filter(_is_model, get_args(model)), model) if isinstance(model, UnionType) else model
    return list(model.model_fields) if _is_model(model) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def show_value(value: Any) -> str:
    """A value for a message, in the words of YAML.

    Example:
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
