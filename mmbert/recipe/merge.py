"""Merging the layers of a recipe: parent files, the file, the command line."""

from collections.abc import Iterable, Set

from mmbert.errors import RecipeError, nearest
from mmbert.recipe.problems import Problem
from mmbert.recipe.schema import CONFIG_KEYS
from mmbert.recipe.yaml_reader import Node, read_yaml

ENTRY_SECTIONS = ("data", "inputs", "tasks")  # sections that map names to entries

# section -> key -> keys of earlier layers that it replaces, since both set the same thing
REPLACES = {
    "train": {"epochs": ("steps",), "steps": ("epochs",)},
    "trunk": {"checkpoint": CONFIG_KEYS},
}


def apply_layer(base: Node, layer: Node) -> tuple[Node, list[Problem]]:
    """Merge one more layer.

    Args:
        base: the layers so far.
        layer: a later layer.

    Returns:
        The merged recipe, and a problem for each entry that the layer removes and that does not exist.
    """
    merged = dict(merge(_without_replaced(base, layer), layer).value)
    problems: list[Problem] = []
    for section in ENTRY_SECTIONS:
        entries, before = _entries(merged, section), _entries(base.value, section)
        for name, node in entries.items():
            if node.value is None and name not in before:
                message = f"there is no such entry to remove. {nearest(name, before)}"
                problems.append(Problem(f"{section}.{name}", node.origin, message))
        if entries:
            present = {name: node for name, node in entries.items() if node.value is not None}
            merged[section] = Node(present, merged[section].origin)
            if section == "inputs" and (removed := entries.keys() - present.keys()):
                merged |= _without_rates(merged, removed)
    return Node(merged, base.origin), problems


def _without_rates(sections: dict[str, Node], removed: Set[str]) -> dict[str, Node]:
    """The training section without the dropout rates of removed inputs."""
    train = _entries(sections, "train")
    if not (rates := _entries(train, "input_dropout")):
        return {}
    rates = {name: rate for name, rate in rates.items() if name not in removed}
    rate = Node(rates or 0.0, train["input_dropout"].origin)
    return {"train": Node({**train, "input_dropout": rate}, sections["train"].origin)}


def _without_replaced(base: Node, layer: Node) -> Node:
    """The base without the keys that the layer replaces, and with the default type of a fusion written out."""
    sections = dict(base.value)
    for name, replaces in REPLACES.items():
        new_keys = _entries(layer.value, name)
        replaced = [
            key for new, old in replaces.items() if new in new_keys and new_keys[new].value is not None for key in old
        ]
        if entries := _entries(sections, name):
            entries = {key: node for key, node in entries.items() if key not in replaced}
            sections[name] = Node(entries, sections[name].origin)
    if options := _entries(sections, "fusion"):
        origin = sections["fusion"].origin
        sections["fusion"] = Node({"type": Node("concat", origin), **options}, origin)
    return Node(sections, base.origin)


def _entries(sections: dict[str, Node], name: str) -> dict[str, Node]:
    """The entries of a section; none where it is absent or no mapping."""
    return node.value if (node := sections.get(name)) is not None and isinstance(node.value, dict) else {}


def merge(base: Node, over: Node, clean_slate: bool = True) -> Node:
    """Merge two values: mappings merge, other values replace.

    Args:
        base: the earlier value.
        over: the later value.
        clean_slate: whether a mapping with another ``type`` replaces the earlier mapping.
    """
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
    """The layer of ``--set a.b=c`` options; of two values for one key the last counts.

    Args:
        texts: strings ``a.b=c``, where c is YAML.

    Returns:
        A list of one layer, empty without strings.

    Raises:
        RecipeError: on a string of another form.

    Example:
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
