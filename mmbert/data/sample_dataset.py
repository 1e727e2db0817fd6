"""The samples of one or more sources as the tensors that the processors make of them."""

from collections.abc import Mapping, Sequence

from mmbert.data.collate import Item, ProcessorsByName, check_tag_counts, collate, drop_inputs, encode_all_inputs
from mmbert.data.keyed_random import Rate
from mmbert.io.bounded_cache import BoundedCache
from mmbert.types import Batch, Sample

Draw = tuple[int, int | None]  # the position of a sample, and the epoch it is drawn in (None in evaluation)

MAX_BYTES = 512_000_000  # of cached items, for each split and in each process that makes items
OVERHEAD = 500  # bytes of an item or a tensor without its values


class SampleDataset:
    """Random access to items, picklable for data workers.

    ``splits`` are the samples of one or more sources, counted through: position 0 is the first sample of the first. An
    item is a pure function of (seed, epoch, sample id); ``input_dropout`` is told at ``drop_inputs``, ``tagged`` at
    ``check_tag_counts``. An item in which nothing is drawn at random is made once and kept, as far as there is room.

    >>> items = SampleDataset([[Sample(7, "shop", {}, {})]], {}, {}, seed=3)
    >>> items[0, None]  # as evaluation sees the first sample; items[0, 2] is how the third epoch sees it, augmented
    Item(id=7, inputs={}, targets={})
    """

    def __init__(
        self,
        splits: Sequence[Sequence[Sample]],
        processors: ProcessorsByName,
        labels: ProcessorsByName,
        *,
        seed: int = 0,
        input_dropout: Rate = 0.0,
        tagged: Mapping[str, str] | None = None,
    ):
        self.splits, self.processors, self.labels = list(splits), dict(processors), dict(labels)
        self.seed, self.input_dropout, self.tagged = seed, input_dropout, dict(tagged or {})
        self._cache = BoundedCache[Item](MAX_BYTES)  # of which a data worker's copy is empty

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
        item = self._cache.get((position, key is None))
        if item is None:
            sample = self.sample(position)
            check_tag_counts(sample, self.tagged)
            item, drawn = encode_all_inputs(sample, self.processors, self.labels, key)
            if not drawn:
                self._cache.add((position, key is None), item, size=item_bytes(item))
        return drop_inputs(item, key, self.input_dropout)

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The items of some draws, joined in their order."""
        return self.collate([self[draw] for draw in draws])

    def collate(self, items: Sequence[Item]) -> Batch:
        """Some items as a batch, in their order."""
        return collate(items, self.processors, self.labels)


def item_bytes(item: Item) -> int:
    """The memory that an item takes, with what Python and PyTorch need for its objects."""
    tensors = [tensor for fields in (item.inputs, item.targets) for part in fields.values() for tensor in part.values()]
    # a view holds the whole storage
    return OVERHEAD + sum(tensor.untyped_storage().nbytes() + OVERHEAD for tensor in tensors)
