"""The bounded cache in memory: its limit, and empty copies."""

import pickle
from copy import deepcopy

import pytest

from mmbert.io.bounded_cache import BoundedCache


def test_the_first_values_that_fit_stay_cached():
    cache = BoundedCache[str](limit=10)
    for key, size in (("a", 4), ("b", 4), ("c", 4), ("d", 2), ("e", 1)):
        cache.add(key, key.upper(), size=size)
    assert [cache.get(key) for key in "abcde"] == ["A", "B", None, "D", None]
    assert len(cache) == 3


def test_a_cleared_cache_has_room_again():
    cache = BoundedCache[str](limit=10)
    cache.add("a", "A", size=10)
    cache.clear()
    assert cache.get("a") is None
    cache.add("b", "B", size=10)
    assert cache.get("b") == "B"


@pytest.mark.parametrize("copied", [deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_is_empty_and_has_the_same_limit(copied):
    cache = BoundedCache[str](limit=10)
    cache.add("a", "A", size=10)
    copy = copied(cache)
    assert (len(copy), copy.limit, len(cache)) == (0, 10, 1)
    copy.add("b", "B", size=10)
    assert copy.get("b") == "B"
