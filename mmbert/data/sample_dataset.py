"""The samples of one or more sources, encoded by processors when they are read."""

from collections.abc import Mapping, Sequence

from mmbert.contracts import Processors
from mmbert.data.collate import Item, check_tag_counts, collate, drop_inputs, encode_all_inputs
from mmbert.data.keyed_random import Rate
from mmbert.io.bounded_cache import BoundedCache
from mmbert.types import Batch, Sample

Draw = tuple[int, int | None]  # the position of a sample, and the epoch (None in evaluation)

MAX_BYTES = 512_000_000  # of cached items, for each split and process
OVERHEAD = 500  # bytes of an item or a tensor without its values


class SampleDataset:
    """Random access to encoded samples, picklable for data workers.

    An item is a pure function of (seed, epoch, sample id). An item without random choices is cached, as far as there is
    room.

    Args:
        splits: the samples of one or more sources; position 0 is the first sample of the first source.
        processors: of the inputs and targets.
        seed: the key of all random choices.
        input_dropout: see ``drop_inputs``.
        tagged: see ``check_tag_counts``.

    Example:
        >>> dataset = SampleDataset([[Sample(7, "shop", {}, {})]], Processors({}, {}), seed=3)
        >>> dataset[0, None]  # the first sample in evaluation; dataset[0, 2] is the same, augmented, in the third epoch
        Item(id=7, inputs={}, targets={})
    """

    def __init__(
        self,
        splits: Sequence[Sequence[Sample]],
        processors: Processors,
        *,
        seed: int = 0,
        input_dropout: Rate = 0.0,
        tagged: Mapping[str, str] | None = None,
    ):
        self.splits, self.processors = list(splits), processors
        self.seed, self.input_dropout, self.tagged = seed, input_dropout, dict(tagged or {})
        self._cache = BoundedCache[Item](MAX_BYTES)  # empty in the copy of a data worker

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def sample(self, position: int) -> Sample:
        """The sample at a position. Raises ``IndexError`` past the last one."""
        row = position
        for split in self.splits:
            if 0 <= row < len(split):
                return split[row]
            row -= len(split)
        raise IndexError(f"there are {len(self)} samples, however: {position=}")

    def __getitem__(self, draw: Draw) -> Item:
        position, epoch = draw
        key = None if epoch is None else (self.seed, epoch)
        item = self._cache.get((position, key is None))
        if item is None:
            sample = self.sample(position)
            check_tag_counts(sample, self.tagged)
            item, is_random = encode_all_inputs(sample, self.processors, key)
            if not is_random:
                self._cache.add((position, key is None), item, size=item_bytes(item))
        return drop_inputs(item, key, self.input_dropout)

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The batch of some draws, in their order."""
        return self.collate([self[draw] for draw in draws])

    def collate(self, items: Sequence[Item]) -> Batch:
        """Join items into a batch, in their order."""
        return collate(items, self.processors)


def item_bytes(item: Item) -> int:
    """The memory that an item takes, with what Python and PyTorch need for its objects."""
    tensors = [tensor for fields in (item.inputs, item.targets) for part in fields.values() for tensor in part.values()]
    # a view holds the whole storage
    return OVERHEAD + sum(tensor.untyped_storage().nbytes() + OVERHEAD for tensor in tensors)
