"""Items that are the same in every epoch, kept in memory so that they are made once."""

from torch import Tensor

from mmbert.data.collate import Item

MOST = 512_000_000  # bytes for each split, in each process that makes its items
BESIDE = 500  # bytes that a tensor, or an item, takes besides values


class Kept:
    """Items by a key of their own. The first that have room stay; none is ever put out for another.

    >>> kept = Kept(most=2500)
    >>> kept.add("one", Item(1, {"size": {"value": Tensor(100)}}, {}))
    >>> kept.add("two", Item(2, {"size": {"value": Tensor(900)}}, {}))
    >>> kept.get("one").id, kept.get("two")
    (1, None)
    """

    def __init__(self, most: int = MOST):
        self._items: dict[object, Item] = {}
        self._left = most

    def get(self, key: object) -> Item | None:
        return self._items.get(key)

    def add(self, key: object, item: Item) -> None:
        size = BESIDE + sum(_size(tensor) for part in (item.inputs, item.targets) for one in part.values()
                   for tensor in one.values())  # fmt: skip
        if size <= self._left:
            self._items[key] = item
            self._left -= size


def _size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() + BESIDE  # a view keeps the whole
