"""A cache in memory with a limit in bytes."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """Values by key, up to a number of bytes.

    Nothing is evicted: the first values that fit stay, and one that does not fit is not cached. Of data that is read
    again and again in one order, which evicting the oldest would never find, this keeps a part. A copy or pickle is
    empty, so that each data worker fills its own.

    Args:
        limit: the largest sum of the sizes of all values.

    Example:
        >>> cache = BoundedCache(limit=100)
        >>> cache.add("a", "first", size=60)
        >>> cache.add("b", "second", size=60)
        >>> cache.get("a"), cache.get("b"), len(cache)
        ('first', None, 1)
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._values: dict[Hashable, Value] = {}
        self._free = limit

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[type["BoundedCache[Value]"], tuple[int]]:
        return type(self), (self.limit,)

    def get(self, key: Hashable) -> Value | None:
        """The value of a key, or None where it is not cached."""
        return self._values.get(key)

    def add(self, key: Hashable, value: Value, *, size: int) -> None:
        """Cache a value if it fits.

        Args:
            key: a key that is not cached yet.
            value: what ``get`` returns from now on.
            size: the bytes that it takes.
        """
        if size <= self._free:
            self._values[key] = value
            self._free -= size

    def clear(self) -> None:
        """Remove all values."""
        self._values, self._free = {}, self.limit
