"""Recipes for people and editors: the origin of each value, the options of a part, the JSON schema."""

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter

from encoders import ENCODERS
from mmbert.data import SOURCES
from mmbert.errors import RecipeError
from mmbert.fusion import FUSIONS
from mmbert.recipe.load import LoadedRecipe
from mmbert.recipe.merge import ENTRY_SECTIONS
from mmbert.recipe.options import load_class, make_option_model, option_annotations
from mmbert.recipe.problems import Path, dotted_path
from mmbert.recipe.schema import TEXT, FusionPart, InputPart, Recipe, SourcePart, TaskPart
from mmbert.recipe.serialize import to_yaml
from mmbert.registry import Registry, recipe_options
from tasks import TASKS

SYMBOLS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def show_recipe(loaded: LoadedRecipe) -> str:
    """The complete recipe as YAML. A comment gives where each value was written, or ``default``."""
    lines = to_yaml(loaded.resolved).splitlines()
    paths = list(_leaves(loaded.resolved))
    width = min(max(map(len, lines)), 72)
    commented = []
    for line, (path, is_leaf) in zip(lines, paths, strict=True):
        origin = loaded.origins.get(dotted_path(path), "default")
        commented.append(f"{line:<{width}}  # {origin}" if is_leaf else line)
    return "\n".join(commented) + "\n"


def _leaves(content: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Pairs (path, whether the line has a value) for each line of ``to_yaml``."""
    for key, value in content.items():
        inner = (*path, key)
        nested = isinstance(value, Mapping) and bool(value)
        yield inner, not nested
        if nested:
            yield from _leaves(value, inner)


def show_part(table: Registry, name: str) -> str:
    """The description of a part, and its options with types, bounds and defaults.

    Args:
        table: the table of parts of its kind.
        name: the name of the part.
    """
    table = TEXT if table is ENCODERS and name in TEXT else table
    cls = load_class(table, name)
    hints = option_annotations(cls)
    rows = [
        (option, type_text(hints.get(option, Any)), _default(parameter.default))
        for option, parameter in recipe_options(cls).items()
    ]
    widths = [max(len(row[column]) for row in [*rows, ("", "", "")]) for column in (0, 1)]
    lines = [f"  {option:<{widths[0]}}  {kind:<{widths[1]}}  default {default}" for option, kind, default in rows]
    document = inspect.getdoc(cls) or ""
    return "\n".join([f"{table.kind} {name}: {document}", "", "Options:", *(lines or ["  none"])]) + "\n"


def _default(value: Any) -> str:
    return to_yaml([list(value) if isinstance(value, tuple) else value]).strip()[1:-1]


def type_text(annotation: Any) -> str:
    """An annotation in the words of a recipe.

    Example:
        >>> from annotated_types import Ge
        >>> type_text(Annotated[int, Ge(1)] | None)
        'int >= 1 or null'
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [
            f"{symbol} {getattr(bound, name)}"
            for bound in inner[1:]
            for name, symbol in SYMBOLS.items()
            if getattr(bound, name, None) is not None
        ]
        return " ".join([type_text(inner[0]), " and ".join(bounds)]).strip()
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(map(type_text, inner))
    if inner:
        return f"{origin.__name__}[{', '.join('...' if part is ... else type_text(part) for part in inner)}]"
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation))


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of recipe files for editors, with the options of every part that can be imported here.

    No key is required, since a file that extends another may leave out any.
    """
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"] = {
        "extends": {"type": "string", "description": "the parent recipe, relative to this file"},
        **schema["properties"],
    }
    definitions = schema["$defs"]
    for section in ENTRY_SECTIONS:
        entry = schema["properties"][section]
        entry["additionalProperties"] = {"anyOf": [entry["additionalProperties"], {"type": "null"}]}  # null removes
        entry.pop("minProperties", None)
    for definition in [schema, *definitions.values()]:
        definition.pop("required", None)
    for part, tables in (
        (SourcePart, [SOURCES]),
        (InputPart, [ENCODERS, TEXT]),
        (FusionPart, [FUSIONS]),
        (TaskPart, [TASKS]),
    ):
        _add_types(definitions, part.__name__, tables)
    return schema


def _add_types(definitions: dict[str, Any], part: str, tables: list[Registry]) -> None:
    """Add the valid types to the definition of an entry, and the options of each type."""
    definition = definitions[part]
    names = {name: table for table in tables for name in table.names()}
    definition["properties"]["type"]["enum"] = sorted(names)
    definition["allOf"] = []
    for name in sorted(names):
        properties = _option_schema(definitions, names[name], name)
        if properties is None:
            continue
        then: dict[str, Any] = {"properties": {**dict.fromkeys(definition["properties"], True), **properties}}
        if name != "dataset":  # it also takes the options of the data set
            then["additionalProperties"] = False
        definition["allOf"].append(
            {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": then}
        )


def _option_schema(definitions: dict[str, Any], table: Registry, name: str) -> dict[str, Any] | None:
    """The JSON schema of each option of a part; None where a package that the part needs is not installed."""
    try:
        model = make_option_model(name, [load_class(table, name)])
    except RecipeError:
        return None
    schema = TypeAdapter(model).json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.get("$defs", {}))
    return schema.get("properties", {})
