"""What a data worker makes in one go: a whole batch with the errors of its bad samples, or why there is none."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import Dataset, get_worker_info

from mmbert.data.collate import Item
from mmbert.data.sample_dataset import Draw, SampleDataset
from mmbert.errors import MMBertError, SampleError
from mmbert.types import Batch


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """A batch; those of its samples that are bad are there without inputs and labels."""

    batch: Batch
    bad: list[SampleError]

    def pin_memory(self) -> "LoadedBatch":
        return LoadedBatch(self.batch.pin_memory(), self.bad)


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """Why there is no batch: an error, to be raised in the main process."""

    error: Exception
    resource: bool  # whether memory was the reason, not a sample
    told: str = ""  # the worker's traceback, where a person cannot do without


class BatchDataset(Dataset):
    """A batch for the draws of its samples. It never raises: what workers raise loses its type and its notes."""

    def __init__(self, items: SampleDataset, *, tolerant: bool):
        self.items, self.tolerant = items, tolerant

    def __getitem__(self, draws: Sequence[Draw]) -> LoadedBatch | FailedBatch:
        try:
            made = self._made(draws)
        except Exception as error:
            return _failure(error, resource=isinstance(error, MemoryError))
        if get_worker_info() is None:
            return made
        try:  # now, where a full /dev/shm can be told: the thread that sends batches would drop it and wait for ever
            return LoadedBatch(tree_map_only(Tensor, Tensor.share_memory_, made.batch), made.bad)
        except (RuntimeError, OSError) as error:
            return _failure(error, resource=True)

    def _made(self, draws: Sequence[Draw]) -> LoadedBatch:
        items, bad = [], []
        for draw in draws:
            try:
                items.append(self.items[draw])
            except SampleError as error:
                if not self.tolerant:
                    raise
                bad.append(error)
                items.append(Item(self._id(draw), {}, {}))
        return LoadedBatch(self.items.collate(items), bad)

    def _id(self, draw: Draw) -> int:
        try:
            return self.items.sample(draw[0]).id
        except SampleError:  # not even a sample
            return -1


def _failure(error: Exception, *, resource: bool) -> FailedBatch:
    """What a worker can send of an error: its type and notes as they are, if they can be."""
    if get_worker_info() is None:
        return FailedBatch(error, resource)
    try:
        pickler: Any = ForkingPickler  # as the queue to the main process uses it
        pickler.loads(pickler.dumps(error))
        sent = error
    except Exception:  # it holds what cannot be sent
        sent = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            sent.add_note(note)
    told = "" if isinstance(error, MMBertError) else "".join(traceback.format_exception(error))
    return FailedBatch(sent, resource, told)
