"""What differs between two recipes, key by key."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mmbert.recipe.schema import Recipe
from mmbert.recipe.serialize import OPERATIONAL, to_plain

ABSENT = "not there"


class Change(NamedTuple):
    """A key whose value differs; ``ABSENT`` stands for a key that one of them lacks."""

    key: str
    before: Any
    now: Any


def recipe_changes(before: Recipe, now: Recipe) -> list[Change]:
    """The keys whose values differ, without those that change no result, in the order of their names."""
    old, new = dict(flatten(to_plain(before))), dict(flatten(to_plain(now)))
    ignored = {".".join(path) for path in OPERATIONAL}
    return [
        Change(key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in sorted(old.keys() | new.keys())
        if old.get(key, ...) != new.get(key, ...) and key not in ignored
    ]


def flatten(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by their dotted keys."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
