"""Load a recipe file with its parents and command-line overrides, and check it in two phases.

The order is parent < file < overrides. Mappings merge; lists and scalars replace; a new ``type`` drops earlier options;
``null`` removes an entry of data, inputs (with its rate in ``train.input_dropout``) or tasks; a later ``epochs``
replaces ``steps``, a later ``checkpoint`` the keys of a trunk from a config.

Phase 1 checks the fixed sections and the names of types without importing any part. Phase 2 imports the parts that are
named and checks their options. Each phase reports all its problems at once.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from mmbert.datasets import DATASETS
from mmbert.errors import RecipeError
from mmbert.recipe.merge import ENTRY_SECTIONS, apply_layer, parse_overrides
from mmbert.recipe.options import load_class, make_option_model, part_classes, recipe_parts
from mmbert.recipe.problems import Path, Problem, dotted_path, explain_errors, find_origin, recipe_error, valid_keys
from mmbert.recipe.schema import Part, Recipe
from mmbert.recipe.serialize import to_plain
from mmbert.recipe.shipped import find_shipped
from mmbert.recipe.yaml_reader import MAX_BYTES, Node, read_yaml

YAML_SUFFIXES = (".yaml", ".yml")  # of a parent: a recipe must not make mmbert print what other files hold
MAX_PARENTS = 20


@dataclass(frozen=True)
class LoadedRecipe:
    """A valid recipe, and where its values were written."""

    recipe: Recipe
    origins: Mapping[str, str]  # dotted path -> file:line or --set; any other path has its default
    resolved: Mapping[str, Any]  # the recipe as plain values, all defaults included


def load_recipe(
    path: str | os.PathLike[str], overrides: Iterable[str] = (), *, patches: Iterable[Node] = ()
) -> LoadedRecipe:
    """Read, merge and check a recipe.

    Args:
        path: the recipe file.
        overrides: strings ``a.b=c``, where c is YAML; they come last.
        patches: layers between the files and the overrides, such as an arm of a study.

    Raises:
        RecipeError: lists all problems of a phase, each with path, ``file:line`` and the nearest valid name.
    """
    files = _files(find_shipped(path))
    root = Node({}, files[-1].origin)
    problems: list[Problem] = []
    for layer in [*files, *patches, *parse_overrides(overrides)]:
        if not isinstance(layer.value, dict):
            raise recipe_error([Problem("", layer.origin, "expected a mapping with the sections of a recipe")])
        root, more = apply_layer(root, layer)
        problems += more
    origins = dict(root.origins())
    recipe = _check_sections(root.plain(), origins, problems)
    recipe = _complete_options(recipe, origins)
    return LoadedRecipe(recipe, origins, to_plain(recipe))


def _files(path: str) -> list[Node]:
    """The trees of a file and its parents, the oldest ancestor first."""
    chain, trees, origin = [path], [], ""
    while True:
        tree = read_yaml(_text(chain, origin), chain[-1])
        parent = tree.value.pop("extends", None) if isinstance(tree.value, dict) else None
        trees.insert(0, tree)
        if parent is None:
            return trees
        origin = parent.origin
        if not isinstance(parent.value, str) or not parent.value:
            raise recipe_error([Problem("extends", origin, "expected the path of one file, relative to this one")])
        chain.append(os.path.normpath(os.path.join(os.path.dirname(chain[-1]), parent.value)))
        if not chain[-1].endswith(YAML_SUFFIXES) or (os.path.exists(chain[-1]) and not os.path.isfile(chain[-1])):
            message = (
                f"expected the path of a recipe, a file named {' or '.join(YAML_SUFFIXES)}, found {parent.value!r}"
            )
            raise recipe_error([Problem("extends", origin, message)])
        if os.path.realpath(chain[-1]) in map(os.path.realpath, chain[:-1]):
            raise recipe_error([Problem("extends", origin, f"the files extend each other: {' -> '.join(chain)}")])
        if len(chain) > MAX_PARENTS:
            raise recipe_error(
                [Problem("extends", origin, f"expected at most {MAX_PARENTS} parents: {' -> '.join(chain)}")]
            )


def _text(chain: Sequence[str], origin: str) -> str:
    """The text of the last file of a chain; ``origin`` is the place that names it, empty for the first file."""
    file = chain[-1]
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = f"cannot read {file}: {error.strerror}"
        if origin:
            raise recipe_error([Problem("extends", origin, f"{reason}. The chain: {' -> '.join(chain)}")]) from None
        raise RecipeError(f"{reason}. `mmbert list recipes` lists the recipes that exist") from None
    if len(content) > MAX_BYTES:
        raise RecipeError(f"expected a recipe of at most {MAX_BYTES // 1000} kB, found more in {file}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"expected UTF-8 text in {file}, found the byte {content[error.start]:#04x}") from None


def _check_sections(content: dict[str, Any], origins: Mapping[str, str], problems: list[Problem]) -> Recipe:
    """Phase 1: the fixed sections, the names of types, and conflicts between keys."""
    for section in ENTRY_SECTIONS:
        if isinstance(entries := content.get(section), dict):
            content[section] = dict(sorted(entries.items()))  # the order of entries has no meaning
    try:
        recipe = Recipe.model_validate_json(json.dumps(content))
    except ValidationError as error:
        messages = explain_errors(error, content, partial(valid_keys, Recipe))
        problems += [Problem(dotted_path(path), find_origin(path, origins), text) for path, text in messages.items()]
        raise recipe_error(problems) from None
    if problems:
        raise recipe_error(problems)
    return recipe


def _complete_options(recipe: Recipe, origins: Mapping[str, str]) -> Recipe:
    """Phase 2: the options of each part, checked against its signature and completed with defaults."""
    problems: list[Problem] = []
    complete: dict[tuple[str, ...], Part] = {}
    for path, part in recipe_parts(recipe).items():
        messages: dict[Path, str]
        try:
            classes = part_classes(path[0], part)
            values, messages = _check_options(classes, part.options, list(type(part).model_fields))
        except RecipeError as error:
            values = {}
            messages = {("type",): str(error)}
        complete[path] = part.model_copy(update=values)
        problems += [
            Problem(dotted_path(path + inner), find_origin(path + inner, origins), messages[inner])
            for inner in messages
        ]
    if problems:
        raise recipe_error(problems)
    sections: dict[str, Any] = {section: {} for section in ENTRY_SECTIONS}
    for (section, *name), part in complete.items():
        if name:
            sections[section][name[0]] = part
        else:
            sections[section] = part
    return recipe.model_copy(update=sections)


def _check_options(
    classes: Sequence[type], options: dict[str, Any], fixed: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[Path, str]]:
    """The values of all options of some classes, or messages by path where a given value is wrong."""
    model = make_option_model(classes[0].__name__, classes, fixed)
    try:
        values = model.model_validate_json(json.dumps(options))
    except ValidationError as error:
        return {}, explain_errors(error, options, lambda path: () if path else [*fixed, *model.model_fields])
    return {name: getattr(values, name) for name in model.model_fields}, {}


def load_builder(name: str, overrides: Iterable[str] = ()) -> Any:
    """The builder of a data set.

    Args:
        name: the name of the data set.
        overrides: its options as strings ``a=b``.

    Raises:
        RecipeError: on an unknown name or a wrong option.
    """
    cls = load_class(DATASETS, name)
    options = next((layer.plain() for layer in parse_overrides(overrides)), {})
    values, messages = _check_options([cls], options)
    if messages:
        problems = [Problem(dotted_path(path), "--set", message) for path, message in messages.items()]
        raise recipe_error(problems, f"the options of {name} are")
    return cls(**values)
