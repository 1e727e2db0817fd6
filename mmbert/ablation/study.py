"""A study file -> a study: all its arms as valid recipes, before any of them runs."""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from mmbert.ablation.file import MOST_ARMS, REFERENCE, StudyFile
from mmbert.errors import RecipeError, nearest
from mmbert.recipe.changes import ABSENT, flatten, recipe_changes
from mmbert.recipe.load import load_recipe
from mmbert.recipe.merge import merge
from mmbert.recipe.problems import Problem, dotted_path, explain_errors, find_origin, recipe_error, valid_keys
from mmbert.recipe.schema import Recipe
from mmbert.recipe.serialize import recipe_hash, to_plain
from mmbert.recipe.shipped import find_shipped
from mmbert.recipe.yaml_reader import MAX_BYTES, Node, read_yaml
from tasks import TASKS


@dataclass(frozen=True)
class Arm:
    """A variant of the base."""

    name: str
    recipe: Recipe  # with the first seed
    recipe_changes: tuple[str, ...] = ()  # of the reference, a key each, in words
    masks: str = ""  # the input that is taken away at test; then it is not trained, but read off the reference's runs
    vary: Callable[[Sequence[str]], "Arm"] | None = field(default=None, compare=False)

    def varied(self, settings: Sequence[str]) -> "Arm":
        """The arm with further ``section.key=value``. Raises ``RecipeError`` where they are not valid."""
        assert self.vary is not None
        return self.vary(settings)

    def seeded(self, seed: int) -> Recipe:
        return self.recipe.model_copy(update={"train": self.recipe.train.model_copy(update={"seed": seed})})


@dataclass(frozen=True)
class Study:
    """A valid study."""

    name: str
    arms: tuple[Arm, ...]  # the reference first
    seeds: tuple[int, ...]
    task: str
    metric: str
    lower_is_better: bool
    planned: tuple[tuple[str, str], ...]  # (arm, the one that it is compared with)
    match: Mapping[str, str] = field(default_factory=dict)  # arm -> the key by which its parameters are matched

    @property
    def trained(self) -> list[Arm]:
        return [arm for arm in self.arms if not arm.masks]


def load_study(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Study:
    """Read a study file and check every arm. ``overrides`` are ``--set``'s and change all arms.

    Raises ``RecipeError`` that lists the problems of the file, or else those of all arms, each with its arm and place.
    """
    path, overrides = Path(find_shipped(path, "study")), list(overrides)
    tree = _read(path)
    file = _checked(tree)
    base = path.parent / file.base
    common = [tree.value["set"]] if "set" in tree.value else []
    reference = Arm(REFERENCE, load_recipe(base, overrides, patches=common).recipe)
    arms, problems = [reference], []

    def arm(name: str, layer: Node, settings: Sequence[str] = ()) -> Arm:
        recipe = load_recipe(base, [*overrides, *settings], patches=[*common, layer]).recipe
        return Arm(name, recipe, _words(reference.recipe, recipe), vary=partial(arm, name, layer))

    for name, layer, masks in _variants(file, tree, reference.recipe):
        if layer is None:
            arms.append(Arm(name, reference.recipe, (f"{masks}: there in training, taken away at test",), masks))
            continue
        try:
            found = arm(name, layer)
        except RecipeError as error:
            problems.append(f"arm '{name}': {error}")
            continue
        if name in file.arms or recipe_hash(found.recipe) != recipe_hash(reference.recipe):
            arms.append(found)  # otherwise it is a factor's value that the base has already
    problems += _twins(arms)
    if problems:
        raise RecipeError(f"{path}: nothing was run\n" + "\n".join(problems))
    task, metric = file.metric.split("/")
    message, lower = "", False
    if task not in reference.recipe.tasks:
        message = f"the base has no task '{task}'. {nearest(task, reference.recipe.tasks)}"
    else:
        kind = TASKS.get(reference.recipe.tasks[task].type)
        lower = metric in kind.lower_is_better
        if metric not in kind.metrics:
            message = f"the task '{task}' has no metric '{metric}'. {nearest(metric, kind.metrics)}"
    if message:
        raise recipe_error([Problem("metric", tree.value["metric"].origin, message)], "the study is")
    planned = _planned(file, tree, [arm.name for arm in arms])
    _check_match(file, tree, arms)
    seeds = tuple(file.listed_seeds)
    return Study(file.name, tuple(arms), seeds, task, metric, lower, planned, file.match_parameters)


def _read(path: Path) -> Node:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise RecipeError(f"expected a study of at most {MAX_BYTES // 1000} kB, found more in {path}")
    try:
        tree = read_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise RecipeError(f"expected UTF-8 text in {path}, found the byte {content[error.start]:#04x}") from None
    if not isinstance(tree.value, dict):
        raise recipe_error([Problem("", tree.origin, "expected a mapping with the keys of a study")], "the study is")
    return tree


def _checked(tree: Node) -> StudyFile:
    given = tree.plain()
    try:
        return StudyFile.model_validate_json(json.dumps(given))
    except ValidationError as error:
        origins = dict(tree.origins())
        messages = explain_errors(error, given, partial(valid_keys, StudyFile))
        found = [Problem(dotted_path(at), find_origin(at, origins), text) for at, text in messages.items()]
        raise recipe_error(found, "the study is") from None


def _variants(file: StudyFile, tree: Node, reference: Recipe) -> Iterator[tuple[str, Node | None, str]]:
    """For each arm besides the reference: its name, its layer, and the input that it masks instead."""
    for name in file.arms:
        yield name, tree.value["arms"].value[name], ""
    origin = tree.value["factors"].origin if file.factors else ""
    settings = [
        [(f"{key}={json.dumps(value.plain(), ensure_ascii=False)}".replace('"', ""), _at(key, value)) for value in
         tree.value["factors"].value[key].value]
        for key in file.factors
    ]  # fmt: skip
    chosen = itertools.product(*settings) if file.crossed and settings else ((one,) for own in settings for one in own)
    for number, combination in enumerate(chosen):
        if number >= MOST_ARMS:
            raise RecipeError(f"factors ({origin}): expected at most {MOST_ARMS} arms")
        layer = combination[0][1]
        for _, other in combination[1:]:
            layer = merge(layer, other, clean_slate=False)
        yield ", ".join(name for name, _ in combination), layer, ""
    if file.leave_one_out is None:
        return
    of, how, keep = file.leave_one_out.of, file.leave_one_out.how, {*file.leave_one_out.keep}
    origin = tree.value["leave_one_out"].origin
    there = getattr(reference, of)
    if unknown := keep - {*there}:
        message = f"the base has no '{min(unknown)}' among its {of}. {nearest(min(unknown), there)}"
        raise recipe_error([Problem("leave_one_out.keep", origin, message)], "the study is")
    if of == "tasks":
        keep.add(file.metric.split("/")[0])
    for name in sorted({*there} - keep):
        if how != "mask":
            yield f"without {name}", Node({of: Node({name: Node(None, origin)}, origin)}, origin), ""
        if how != "remove":
            yield f"{name} masked at test", None, name


def _at(key: str, value: Node) -> Node:
    """The layer that sets a dotted key."""
    for part in reversed(key.split(".")):
        value = Node({part: value}, value.origin)
    return value


def _words(before: Recipe, now: Recipe) -> tuple[str, ...]:
    """What differs, in words; of an entry that is gone, new or of another type, its name or type says enough."""
    found: dict[str, None] = {}
    different = recipe_changes(before, now)
    retyped = {change.key.removesuffix("type") for change in different if change.key.endswith(".type")}
    for key, old, new in different:
        entry = ".".join(key.split(".")[:2])
        if any(key.startswith(start) and key != f"{start}type" for start in retyped) and ABSENT in (old, new):
            continue
        if new == ABSENT and _is_gone(entry, now):
            found[f"without {entry}"] = None
        elif old == ABSENT and _is_gone(entry, before):
            found[f"with {entry}"] = None
        else:
            found[f"{key}: {old} -> {new}"] = None
    return tuple(found)


def _is_gone(entry: str, recipe: Recipe) -> bool:
    section, _, name = entry.partition(".")
    return section in ("data", "inputs", "tasks") and name not in getattr(recipe, section)


def _twins(arms: list[Arm]) -> Iterator[str]:
    """A sentence for each arm whose name is taken, or that trains what another one trains."""
    names: dict[str, None] = {}
    seen: dict[tuple[str, str], str] = {}
    for arm in arms:
        if arm.name in names:
            yield f"arm '{arm.name}': the name is there twice"
        names[arm.name] = None
        other = seen.setdefault((recipe_hash(arm.recipe), arm.masks), arm.name)
        if other != arm.name:
            yield f"arm '{arm.name}': the same as '{other}'; leave one of them out"


def _check_match(file: StudyFile, tree: Node, arms: list[Arm]) -> None:
    varied = {arm.name: arm for arm in arms if arm.vary}
    problems = []
    for name, key in file.match_parameters.items():
        origin = tree.value["match_parameters"].value[name].origin
        if name not in varied:
            message = f"no trained arm besides the reference is called '{name}'. {nearest(name, varied)}"
        else:
            options = {option: value for option, value in flatten(to_plain(varied[name].recipe)) if type(value) is int}
            message = f"the arm has no whole number there. {nearest(key, options)}" if key not in options else ""
        if message:
            problems.append(Problem(f"match_parameters.{name}", origin, message))
    if problems:
        raise recipe_error(problems, "the study is")


def _planned(file: StudyFile, tree: Node, names: list[str]) -> tuple[tuple[str, str], ...]:
    pairs, problems = [], []
    for place, (given, node) in enumerate(zip(file.comparisons, tree.value["comparisons"].value, strict=True)):
        pair = (given, REFERENCE) if isinstance(given, str) else given
        for name in pair:
            if name not in names:
                message = f"no arm is called '{name}'. {nearest(name, names)}"
                problems.append(Problem(f"comparisons.{place}", node.origin, message))
        if pair[0] == pair[1] or pair in pairs:
            problems.append(Problem(f"comparisons.{place}", node.origin, "expected two arms that differ, once"))
        pairs.append(pair)
    if problems:
        raise recipe_error(problems, "the study is")
    return tuple(pairs)
