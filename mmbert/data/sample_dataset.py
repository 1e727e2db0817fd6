"""The samples of one or more sources as the tensors that the processors make of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mmbert.data.collate import Item, Processors, check_tags, collate, drop_inputs, encode_whole
from mmbert.data.keyed_random import Rate
from mmbert.types import Batch, Sample

Draw = tuple[int, int | None]  # the position of a sample, and the epoch it is drawn in (None in evaluation)


class SampleDataset:
    """Random access to items, picklable for data workers.

    ``splits`` are the samples of one or more sources, counted through: position 0 is the first sample of the first. An
    item is a pure function of (seed, epoch, sample id); ``input_dropout`` is told at ``drop_inputs``, ``tagged`` at
    ``check_tags``. An item in which nothing is drawn at random is made once and kept, as far as there is room.

    >>> items = SampleDataset([[Sample(7, "shop", {}, {})]], {}, {}, seed=3)
    >>> items[0, None]  # as evaluation sees the first sample; items[0, 2] is how the third epoch sees it, augmented
    Item(id=7, inputs={}, targets={})
    """

    def __init__(
        self,
        splits: Sequence[Sequence[Sample]],
        processors: Processors,
        labels: Processors,
        *,
        seed: int = 0,
        input_dropout: Rate = 0.0,
        tagged: Mapping[str, str] | None = None,
    ):
        self.splits, self.processors, self.labels = list(splits), dict(processors), dict(labels)
        self.seed, self.input_dropout, self.tagged = seed, input_dropout, dict(tagged or {})
        self._kept = ItemCache()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": ItemCache()}  # a data worker keeps its own

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def sample(self, position: int) -> Sample:
        """The sample at a position. Raises ``IndexError`` past the last one."""
        left = position
        for split in self.splits:
            if 0 <= left < len(split):
                return split[left]
            left -= len(split)
        raise IndexError(f"there are {len(self)} samples, however: {position=}")

    def __getitem__(self, draw: Draw) -> Item:
        position, epoch = draw
        key = None if epoch is None else (self.seed, epoch)
        item = self._kept.get((position, key is None))
        if item is None:
            sample = self.sample(position)
            check_tags(sample, self.tagged)
            item, drawn = encode_whole(sample, self.processors, self.labels, key)
            if not drawn:
                self._kept.add((position, key is None), item)
        return drop_inputs(item, key, self.input_dropout)

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The items of some draws, joined in their order."""
        return self.collate([self[draw] for draw in draws])

    def collate(self, items: Sequence[Item]) -> Batch:
        """Some items as a batch, in their order."""
        return collate(items, self.processors, self.labels)


MOST = 512_000_000  # bytes for each split, in each process that makes its items
BESIDE = 500  # bytes that a tensor, or an item, takes besides values


class ItemCache:
    """Items by a key of their own. The first that have room stay; none is ever put out for another.

    >>> kept = ItemCache(most=2500)
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
