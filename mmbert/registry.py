"""Registries of parts by name, imported lazily.

Parts are added by a line in a table (``encoders/__init__.py`` ...), by an entry point of an installed package, or by
``register`` in a module given with ``--plugin``. Neither this file nor the tables import torch.
"""

import ast
import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points

from mmbert.errors import RecipeError, nearest

RESERVED = frozenset(["type", "share", "many", "facets", "tune", "optional", "missing", "column"])


class Registry:
    """Registry of the parts of one kind: name -> "module:Class", imported on first use.

    >>> fruits = Registry("fruit", {"counter": "collections:Counter"})
    >>> fruits.get("counter").__name__
    'Counter'
    >>> fruits.get("conter")
    Traceback (most recent call last):
    mmbert.errors.RecipeError: no fruit is called 'conter'. Did you mean 'counter'? Valid: counter

    Args:
        kind: name of the kind, for messages.
        table: location of each part as "module:Class", by name.
        group: the entry point group of installed packages; None for none.
    """

    def __init__(self, kind: str, table: Mapping[str, str], group: str | None = None):
        self.kind = kind
        self.group = group
        self._table: dict[str, str | type] = dict(table)

    def register(self, name: str, part: type) -> None:
        """Register a part.

        Args:
            name: name of the part in recipes.
            part: class of the part.

        Raises:
            RecipeError: if the part is no class, the name is no name or taken by another part, or options clash.
        """
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            raise RecipeError(f"expected a name of letters, digits, _ and - for {self.kind} {part!r}, found {name!r}")
        if not inspect.isclass(part):
            raise RecipeError(f"expected a class for the {self.kind} '{name}', found {part!r}")
        if self._entries().get(name, part) is not part:
            raise RecipeError(f"the {self.kind} name '{name}' is taken by {self._entries()[name]}: choose another")
        recipe_options(part)
        self._table[name] = part

    def names(self) -> list[str]:
        """The names of all parts, sorted."""
        return sorted(self._entries())

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def get(self, name: str) -> type:
        """The class of a part, imported on first use.

        Args:
            name: name of the part in recipes.

        Raises:
            RecipeError: if no part has that name.
        """
        entries = self._entries()
        if name not in entries:
            raise RecipeError(f"no {self.kind} is called '{name}'. {nearest(name, entries)}")
        part = entries[name]
        if isinstance(part, str):
            part = self._table[name] = self._import(name, part)
        return part

    def _import(self, name: str, location: str) -> type:
        """The class at a location. A package that was installed beside mmbert may be broken."""
        module, _, attribute = location.partition(":")
        if name in self._table:  # a part of mmbert
            return getattr(importlib.import_module(module), attribute)
        try:
            part = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise RecipeError(
                f"the {self.kind} '{name}' at {location} cannot be imported:\n{own_traceback(error)}"
            ) from error
        if not inspect.isclass(part):
            raise RecipeError(f"expected a class for the {self.kind} '{name}' at {location}, found {part!r}")
        recipe_options(part)
        return part

    def describe(self, name: str) -> str:
        """The first line of the part's docstring, read from its source without importing it.

        Args:
            name: name of a registered part.
        """
        part = self._entries()[name]
        if not isinstance(part, str):
            return (inspect.getdoc(part) or "").partition("\n")[0]
        module, _, attribute = part.partition(":")
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return ""
        with open(spec.origin, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        kinds = (ast.ClassDef, ast.FunctionDef)
        nodes = [node for node in tree.body if isinstance(node, kinds) and node.name == attribute]
        return (ast.get_docstring(nodes[0]) or "").partition("\n")[0] if nodes else ""

    def _entries(self) -> dict[str, str | type]:
        return {**(_installed(self.group) if self.group else {}), **self._table}


@cache
def _installed(group: str) -> dict[str, str]:
    """The parts of installed packages; cached, since reading their metadata takes 15 ms."""
    return {point.name: point.value for point in entry_points(group=group)}


def own_traceback(error: BaseException) -> str:
    """The traceback of an error from the first line outside of mmbert and of Python's import system.

    Args:
        error: that was caught.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in (
        "importlib",
        "mmbert",
    ):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def keyword_only_parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a function or constructor: its recipe options.

    Args:
        function: a function, or a class (its constructor).
    """
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def recipe_options(part: type) -> dict[str, inspect.Parameter]:
    """The recipe options of a part and of its ``processor``.

    Args:
        part: class of the part.

    Raises:
        RecipeError: if the name of an option is reserved or occurs in both signatures.
    """
    of_part = keyword_only_parameters(part)
    processor = getattr(part, "processor", None)
    of_processor = keyword_only_parameters(processor) if processor else {}
    if clash := sorted((RESERVED & {*of_part, *of_processor}) | ({*of_part} & {*of_processor})):
        raise RecipeError(f"{part.__name__} cannot have the option '{clash[0]}': the name is reserved or used twice")
    return {**of_processor, **of_part}
