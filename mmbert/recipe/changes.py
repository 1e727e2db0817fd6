"""The differences between two recipes, key by key."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mmbert.recipe.schema import Recipe
from mmbert.recipe.serialize import OPERATIONAL, to_plain

ABSENT = "not there"  # the value of a key that a recipe lacks


class Change(NamedTuple):
    """A key whose value differs; the value is ``ABSENT`` where a recipe lacks the key."""

    key: str
    before: Any
    now: Any


def recipe_changes(before: Recipe, now: Recipe) -> list[Change]:
    """The keys whose values differ, sorted, without the keys that change no result.

    Args:
        before: the older recipe.
        now: the newer recipe.
    """
    old, new = dict(flatten(to_plain(before))), dict(flatten(to_plain(now)))
    ignored = {".".join(path) for path in OPERATIONAL}
    return [
        Change(key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in sorted(old.keys() | new.keys())
        if old.get(key, ...) != new.get(key, ...) and key not in ignored
    ]


def flatten(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs (dotted key, value) of nested mappings.

    Args:
        values: mappings of mappings.
        path: a prefix of all keys.
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
