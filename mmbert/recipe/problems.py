"""What is wrong with a recipe: problems with path, place and message, reported all at once."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from mmbert.errors import RecipeError, nearest

Path = tuple[str | int, ...]  # the keys and list positions that lead to a value


class Problem(NamedTuple):
    """One problem: the dotted path of the value, ``file:line`` or ``--set``, and what is wrong."""

    path: str
    origin: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} ({self.origin}): {self.message}" if self.path else f"{self.origin}: {self.message}"


def invalid(problems: Iterable[Problem]) -> RecipeError:
    """The error that lists all problems, each once, in the order of the files and lines."""
    unique = sorted(set(problems), key=lambda problem: (*_place(problem.origin), problem.path))
    return RecipeError("\n".join(["the recipe is not valid:", *(f"  - {problem}" for problem in unique)]))


def _place(origin: str) -> tuple[str, int]:
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (origin, 0)


def dotted(path: Path) -> str:
    return ".".join(map(str, path))


def origin_of(path: Path, origins: Mapping[str, str]) -> str:
    """Where the value of a path, or the nearest value around it, was written."""
    for end in range(len(path), 0, -1):
        if origin := origins.get(dotted(path[:end])):
            return origin
    return origins.get("", "recipe")


def explain(error: ValidationError, given: Any, model: type[BaseModel], at: Path = ()) -> dict[Path, str]:
    """The messages of a pydantic error by path: ``given`` is what was validated, and stands at the path ``at``."""
    messages: dict[Path, list[str]] = {}
    for detail in error.errors(include_url=False):
        path, value = _locate(detail["loc"], given, detail["type"])
        message = _message(detail, path, value, model, at)
        if message not in messages.setdefault(at + path, []):
            messages[at + path].append(message)
    return {path: _either(several) for path, several in messages.items()}


def _locate(location: Path, given: Any, kind: str) -> tuple[Path, Any]:
    """The path in the recipe of an error's location, which also names branches of unions; and the value there."""
    path: Path = ()
    for position, key in enumerate(location):
        inside = key in given if isinstance(given, Mapping) else isinstance(given, list) and key in range(len(given))
        if inside:
            path, given = (*path, key), given[key]
        elif kind in ("missing", "recipe") and position == len(location) - 1:
            return (*path, key), None
        else:
            break
    return path, given


def _either(messages: list[str]) -> str:
    """The messages of several branches of a union as one: expected a or b, found x."""
    split = [message.removeprefix("expected ").partition(", found ") for message in messages]
    if len(messages) > 1 and all(message.startswith("expected ") for message in messages):
        return f"expected {' or '.join(expected for expected, _, _ in split)}, found {split[0][2]}"
    return "; ".join(messages)


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
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "string_too_short": "text of {min_length} or more characters",
}


def _message(detail: Any, path: Path, value: Any, model: type[BaseModel], at: Path) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key. {nearest(str(path[-1]), _keys(model, path[:-1]))}"
    if kind == "missing" and not isinstance(value, list):
        return "missing: this key is required"
    if kind == "literal_error" and isinstance(value, str):
        valid = re.findall(r"'([^']*)'", context["expected"])
        return f"expected {context['expected']}, found {show(value)}. {nearest(value, valid)}"
    if kind in EXPECTED:
        return f"expected {EXPECTED[kind].format(**context)}, found {show(value)}"
    if kind in ("value_error", "recipe"):
        return detail["msg"].removeprefix("Value error, ")
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, found {show(value)}"


def _keys(model: Any, path: Path) -> list[str]:
    """The keys that the model at a path knows."""
    for key in path:
        field = model.model_fields.get(key) if _is_model(model) else None
        model = field.annotation if field else next((part for part in getattr(model, "__args__", ()) if _is_model(part)), None)
    return list(model.model_fields) if _is_model(model) else []


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def show(value: Any) -> str:
    """A value as a message names it, in the words of YAML.

    >>> show("3"), show(None), show({"a": 1})
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
