"""The options of a pluggable part, as a pydantic model made from the part's own keyword-only signature."""

from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from encoders import ENCODERS
from mmbert.data import SOURCES
from mmbert.datasets import DATASETS
from mmbert.errors import RecipeError
from mmbert.fusion import FUSIONS
from mmbert.recipe.schema import TEXT, Part, Recipe, SourcePart
from mmbert.recipe.section import CLOSED
from mmbert.registry import Registry, options
from tasks import TASKS

# a signature has no docstrings of attributes, and the search for them takes longer than all else of reading a recipe
OPTIONS = ConfigDict(CLOSED, use_attribute_docstrings=False, protected_namespaces=())


def recipe_parts(recipe: Recipe) -> dict[tuple[str, ...], Part]:
    """Every entry of a recipe that names a part, by its path."""
    return {
        **{("data", name): part for name, part in recipe.data.items()},
        **{("inputs", name): part for name, part in recipe.inputs.items()},
        ("fusion",): recipe.fusion,
        **{("tasks", name): part for name, part in recipe.tasks.items()},
    }


def part_classes(section: str, part: Part) -> list[type]:
    """The classes whose options an entry of a section holds, imported now; a data set's stand beside its source's.

    Raises ``RecipeError`` where a module is missing that the part needs.
    """
    tables: dict[str, Registry] = {"data": SOURCES, "inputs": ENCODERS, "fusion": FUSIONS, "tasks": TASKS}
    table = TEXT if section == "inputs" and part.type in TEXT else tables[section]
    found = [load_class(table, part.type)]
    if isinstance(part, SourcePart) and part.name is not None:
        found.append(load_class(DATASETS, part.name))
    return found


def load_class(table: Registry, name: str) -> type:
    """The class of a name in a table. Raises ``RecipeError`` where a package that it needs is not installed."""
    try:
        return table.get(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "mmbert", "encoders", "tasks"):
            raise
        raise RecipeError(f"the {table.kind} '{name}' needs the package {missing}, which is not installed") from error


def make_option_model(title: str, found: Sequence[type], taken: Sequence[str] = ()) -> type[BaseModel]:
    """A model whose fields are the keyword-only parameters of classes and of their processors.

    Raises ``RecipeError`` where two of the classes share an option, or one has a name that is ``taken``.

    >>> class Blur:
    ...     def __init__(self, *, radius: float = 1.0): ...
    >>> make_option_model("Blur", [Blur])(radius=2).radius
    2.0
    """
    fields: dict[str, Any] = {}
    for cls in found:
        hints = option_annotations(cls)
        for name, parameter in options(cls).items():
            if name in fields or name in taken:
                raise RecipeError(f"{cls.__name__} cannot have the option '{name}': the name is reserved or used twice")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    return create_model(title, __config__=OPTIONS, **fields)


def option_annotations(cls: type) -> dict[str, Any]:
    """The annotations, with bounds, of a class's parameters and of those of its processor."""
    processor = getattr(cls, "processor", None)
    return {**(_hints(processor) if processor else {}), **_hints(cls)}


def _hints(cls: type) -> dict[str, Any]:
    constructor: Callable[..., Any] = cls.__init__ if isinstance(cls, type) else cls
    return get_type_hints(constructor, include_extras=True)
