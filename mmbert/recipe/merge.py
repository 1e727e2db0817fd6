"""Layers of a recipe (parent, file, command line): how a later one changes an earlier one."""

from collections.abc import Iterable, Set

from mmbert.errors import RecipeError, nearest
from mmbert.recipe.problems import Problem
from mmbert.recipe.schema import CONFIG_KEYS
from mmbert.recipe.yaml_reader import Node, read_yaml

ENTRY_SECTIONS = ("data", "inputs", "tasks")  # sections that map names to entries

# section -> key -> the keys of earlier layers that it replaces, since they say the same thing in another form
REPLACES = {
    "train": {"epochs": ("steps",), "steps": ("epochs",)},
    "trunk": {"checkpoint": CONFIG_KEYS},
}


def apply_layer(base: Node, layer: Node) -> tuple[Node, list[Problem]]:
    """A recipe with one more layer on it, and the entries to be removed that were not there."""
    merged = dict(merge(_prepared(base, layer), layer).value)
    problems: list[Problem] = []
    for section in ENTRY_SECTIONS:
        entries, before = _entries(merged, section), _entries(base.value, section)
        for name, node in entries.items():
            if node.value is None and name not in before:
                message = f"there is no such entry to remove. {nearest(name, before)}"
                problems.append(Problem(f"{section}.{name}", node.origin, message))
        if entries:
            kept = {name: node for name, node in entries.items() if node.value is not None}
            merged[section] = Node(kept, merged[section].origin)
            if section == "inputs" and (gone := entries.keys() - kept.keys()):
                merged |= _without_rates(merged, gone)
    return Node(merged, base.origin), problems


def _without_rates(sections: dict[str, Node], gone: Set[str]) -> dict[str, Node]:
    """The training section without the rates at which removed inputs were dropped."""
    train = _entries(sections, "train")
    if not (rates := _entries(train, "input_dropout")):
        return {}
    kept = {name: rate for name, rate in rates.items() if name not in gone}
    rate = Node(kept or 0.0, train["input_dropout"].origin)
    return {"train": Node({**train, "input_dropout": rate}, sections["train"].origin)}


def _prepared(base: Node, layer: Node) -> Node:
    """The base without what the layer says in another form, and with the type of a fusion that has the default's."""
    sections = dict(base.value)
    for name, replaces in REPLACES.items():
        given = _entries(layer.value, name)
        gone = [key for new, old in replaces.items() if new in given and given[new].value is not None for key in old]
        if kept := _entries(sections, name):
            kept = {key: node for key, node in kept.items() if key not in gone}
            sections[name] = Node(kept, sections[name].origin)
    if options := _entries(sections, "fusion"):
        origin = sections["fusion"].origin
        sections["fusion"] = Node({"type": Node("concat", origin), **options}, origin)
    return Node(sections, base.origin)


def _entries(sections: dict[str, Node], name: str) -> dict[str, Node]:
    """The entries of a section; none where it is not there, or is no mapping."""
    return node.value if (node := sections.get(name)) is not None and isinstance(node.value, dict) else {}


def merge(base: Node, over: Node, clean_slate: bool = True) -> Node:
    """Mappings merge, all else replaces; where ``over`` names another type, nothing of ``base`` stays."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    old, new = base.value.get("type"), over.value.get("type")
    if clean_slate and old is not None and new is not None and old.value != new.value:
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node, clean_slate) if key in merged else node
    return Node(merged, base.origin)


def parse_overrides(texts: Iterable[str]) -> list[Node]:
    """The layer that ``--set a.b=c`` strings make together; none where there are no strings. The last word counts.

    >>> parse_overrides(["optim.lr.trunk=3e-5", "train.seed=1"])[0].plain()
    {'optim': {'lr': {'trunk': 3e-05}}, 'train': {'seed': 1}}
    """
    layers: list[Node] = []
    for text in texts:
        path, equals, value = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise RecipeError(f"expected --set path=value, such as --set optim.lr.trunk=3e-5, found {text!r}")
        node = read_yaml(value, "--set", line_numbers=False)
        for key in reversed(keys):
            node = Node({key: node}, "--set")
        layers = [merge(layers[0], node, clean_slate=False) if layers else node]
    return layers
