"""The options of a part: a pydantic model made from the keyword-only parameters of its constructor."""

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
from mmbert.registry import Registry, recipe_options
from tasks import TASKS

# a signature has no attribute docstrings, and searching them takes longer than the rest of reading a recipe
OPTIONS = ConfigDict(CLOSED, use_attribute_docstrings=False, protected_namespaces=())


def recipe_parts(recipe: Recipe) -> dict[tuple[str, ...], Part]:
    """The entries of a recipe that name a part, by path."""
    return {
        **{("data", name): part for name, part in recipe.data.items()},
        **{("inputs", name): part for name, part in recipe.inputs.items()},
        ("fusion",): recipe.fusion,
        **{("tasks", name): part for name, part in recipe.tasks.items()},
    }


def part_classes(section: str, part: Part) -> list[type]:
    """Import the classes whose options an entry holds: the part, and for a data set also its builder.

    Args:
        section: the section of the entry.
        part: the entry.

    Raises:
        RecipeError: where a package that the part needs is not installed.
    """
    tables: dict[str, Registry] = {"data": SOURCES, "inputs": ENCODERS, "fusion": FUSIONS, "tasks": TASKS}
    table = TEXT if section == "inputs" and part.type in TEXT else tables[section]
    classes = [load_class(table, part.type)]
    if isinstance(part, SourcePart) and part.name is not None:
        classes.append(load_class(DATASETS, part.name))
    return classes


def load_class(table: Registry, name: str) -> type:
    """Import the class of a part.

    Args:
        table: the table of parts of its kind.
        name: the name of the part.

    Raises:
        RecipeError: where a package that the part needs is not installed.
    """
    try:
        return table.get(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "mmbert", "encoders", "tasks"):
            raise
        raise RecipeError(f"the {table.kind} '{name}' needs the package {missing}, which is not installed") from error


def make_option_model(title: str, classes: Sequence[type], reserved: Sequence[str] = ()) -> type[BaseModel]:
    """A pydantic model whose fields are the keyword-only parameters of classes and of their processors.

    Args:
        title: the name of the model.
        classes: a part, and for a data set also its builder.
        reserved: names that no option may have.

    Raises:
        RecipeError: where two classes have an option of the same name, or an option has a reserved name.

    Example:
        >>> class Blur:
        ...     def __init__(self, *, radius: float = 1.0): ...
        >>> make_option_model("Blur", [Blur])(radius=2).radius
        2.0
    """
    fields: dict[str, Any] = {}
    for cls in classes:
        hints = option_annotations(cls)
        for name, parameter in recipe_options(cls).items():
            if name in fields or name in reserved:
                raise RecipeError(f"{cls.__name__} cannot have the option '{name}': the name is reserved or used twice")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    return create_model(title, __config__=OPTIONS, **fields)


def option_annotations(cls: type) -> dict[str, Any]:
    """The annotations of the parameters of a class and of its processor, with bounds."""
    processor = getattr(cls, "processor", None)
    return {**(_hints(processor) if processor else {}), **_hints(cls)}


def _hints(cls: type) -> dict[str, Any]:
    constructor: Callable[..., Any] = cls.__init__ if isinstance(cls, type) else cls
    return get_type_hints(constructor, include_extras=True)
