"""Loads a study file: every arm becomes a valid recipe before any of them runs."""

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
    """A variant of the base recipe."""

    name: str
    recipe: Recipe  # with the first seed
    changes: tuple[str, ...] = ()  # relative to the reference, in words, one for each key
    masks: str = ""  # the input hidden at test; such an arm is not trained but uses the reference's runs
    vary: Callable[[Sequence[str]], "Arm"] | None = field(default=None, compare=False)

    def varied(self, settings: Sequence[str]) -> "Arm":
        """Return the arm with further settings.

        Args:
            settings: ``section.key=value``.

        Raises:
            RecipeError: if they are not valid.
        """
        assert self.vary is not None
        return self.vary(settings)

    def seeded(self, seed: int) -> Recipe:
        """Return the recipe with another seed.

        Args:
            seed: of training.
        """
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
    planned: tuple[tuple[str, str], ...]  # (arm, reference) of the planned comparisons
    match: Mapping[str, str] = field(default_factory=dict)  # arm -> the key that sets its number of parameters

    @property
    def trained(self) -> list[Arm]:
        """The arms that are trained: all except those with an input hidden at test."""
        return [arm for arm in self.arms if not arm.masks]


def load_study(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Study:
    """Read a study file and check every arm.

    Args:
        path: a study file, or the name of a shipped study.
        overrides: ``section.key=value`` as for ``--set``, for every arm.

    Raises:
        RecipeError: with all problems of the file, or else those of all arms, each with its arm and place.
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
        return Arm(name, recipe, _describe_changes(reference.recipe, recipe), vary=partial(arm, name, layer))

    for name, layer, masks in _variants(file, tree, reference.recipe):
        if layer is None:
            arms.append(Arm(name, reference.recipe, (f"{masks}: used in training, hidden at test",), masks))
            continue
        try:
            variant = arm(name, layer)
        except RecipeError as error:
            problems.append(f"arm '{name}': {error}")
            continue
        if name in file.arms or recipe_hash(variant.recipe) != recipe_hash(reference.recipe):
            arms.append(variant)  # else it is the value of a factor that the base has already
    problems += _duplicate_arms(arms)
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
    content = tree.plain()
    try:
        return StudyFile.model_validate_json(json.dumps(content))
    except ValidationError as error:
        origins = dict(tree.origins())
        messages = explain_errors(error, content, partial(valid_keys, StudyFile))
        problems = [Problem(dotted_path(path), find_origin(path, origins), text) for path, text in messages.items()]
        raise recipe_error(problems, "the study is") from None


def _variants(file: StudyFile, tree: Node, reference: Recipe) -> Iterator[tuple[str, Node | None, str]]:
    """For each arm except the reference: its name and its layer, or instead of a layer the input that it masks."""
    for name in file.arms:
        yield name, tree.value["arms"].value[name], ""
    origin = tree.value["factors"].origin if file.factors else ""
    factors = [
        [(_setting_name(key, value), _nest(key, value)) for value in tree.value["factors"].value[key].value]
        for key in file.factors
    ]
    if file.crossed and factors:
        combinations = itertools.product(*factors)
    else:
        combinations = ((setting,) for settings in factors for setting in settings)
    for number, combination in enumerate(combinations):
        if number >= MOST_ARMS:
            raise RecipeError(f"factors ({origin}): expected at most {MOST_ARMS} arms")
        layer = combination[0][1]
        for _, further in combination[1:]:
            layer = merge(layer, further, clean_slate=False)
        yield ", ".join(name for name, _ in combination), layer, ""
    if file.leave_one_out is None:
        return
    of, how, keep = file.leave_one_out.of, file.leave_one_out.how, {*file.leave_one_out.keep}
    origin = tree.value["leave_one_out"].origin
    entries = getattr(reference, of)
    if unknown := keep - {*entries}:
        message = f"the base has no '{min(unknown)}' among its {of}. {nearest(min(unknown), entries)}"
        raise recipe_error([Problem("leave_one_out.keep", origin, message)], "the study is")
    if of == "tasks":
        keep.add(file.metric.split("/")[0])
    for name in sorted({*entries} - keep):
        if how != "mask":
            yield f"without {name}", Node({of: Node({name: Node(None, origin)}, origin)}, origin), ""
        if how != "remove":
            yield f"{name} masked at test", None, name


def _setting_name(key: str, value: Node) -> str:
    return f"{key}={json.dumps(value.plain(), ensure_ascii=False)}".replace('"', "")


def _nest(key: str, value: Node) -> Node:
    """The layer that sets a dotted key."""
    for part in reversed(key.split(".")):
        value = Node({part: value}, value.origin)
    return value


def _describe_changes(before: Recipe, now: Recipe) -> tuple[str, ...]:
    """The differences of two recipes in words; an entry that is removed, new or of another type is described once."""
    words: dict[str, None] = {}
    different = recipe_changes(before, now)
    retyped = {change.key.removesuffix("type") for change in different if change.key.endswith(".type")}
    for key, old, new in different:
        entry = ".".join(key.split(".")[:2])
        if any(key.startswith(start) and key != f"{start}type" for start in retyped) and ABSENT in (old, new):
            continue
        if new == ABSENT and _is_absent(entry, now):
            words[f"without {entry}"] = None
        elif old == ABSENT and _is_absent(entry, before):
            words[f"with {entry}"] = None
        else:
            words[f"{key}: {old} -> {new}"] = None
    return tuple(words)


def _is_absent(entry: str, recipe: Recipe) -> bool:
    section, _, name = entry.partition(".")
    return section in ("data", "inputs", "tasks") and name not in getattr(recipe, section)


def _duplicate_arms(arms: list[Arm]) -> Iterator[str]:
    """A sentence for each arm with the name, or with the recipe, of an earlier one."""
    names: set[str] = set()
    first_names: dict[tuple[str, str], str] = {}
    for arm in arms:
        if arm.name in names:
            yield f"arm '{arm.name}': two arms have this name"
        names.add(arm.name)
        first = first_names.setdefault((recipe_hash(arm.recipe), arm.masks), arm.name)
        if first != arm.name:
            yield f"arm '{arm.name}': the same as '{first}'; remove one of them"


def _check_match(file: StudyFile, tree: Node, arms: list[Arm]) -> None:
    varied = {arm.name: arm for arm in arms if arm.vary}
    problems = []
    for name, key in file.match_parameters.items():
        origin = tree.value["match_parameters"].value[name].origin
        if name not in varied:
            message = f"no trained arm other than the reference is called '{name}'. {nearest(name, varied)}"
        else:
            options = {option: value for option, value in flatten(to_plain(varied[name].recipe)) if type(value) is int}
            message = (
                f"the arm has no whole number under this key. {nearest(key, options)}" if key not in options else ""
            )
        if message:
            problems.append(Problem(f"match_parameters.{name}", origin, message))
    if problems:
        raise recipe_error(problems, "the study is")


def _planned(file: StudyFile, tree: Node, names: list[str]) -> tuple[tuple[str, str], ...]:
    pairs, problems = [], []
    for index, (entry, node) in enumerate(zip(file.comparisons, tree.value["comparisons"].value, strict=True)):
        pair = (entry, REFERENCE) if isinstance(entry, str) else entry
        for name in pair:
            if name not in names:
                message = f"no arm is called '{name}'. {nearest(name, names)}"
                problems.append(Problem(f"comparisons.{index}", node.origin, message))
        if pair[0] == pair[1] or pair in pairs:
            problems.append(
                Problem(f"comparisons.{index}", node.origin, "expected two different arms, and each pair only once")
            )
        pairs.append(pair)
    if problems:
        raise recipe_error(problems, "the study is")
    return tuple(pairs)
