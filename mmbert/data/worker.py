"""Batches made in data workers. Errors are returned as values, since DataLoader loses their types and notes."""

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
    """A batch, and the errors of its bad samples, which are in it without inputs and labels."""

    batch: Batch
    bad: list[SampleError]

    def pin_memory(self) -> "LoadedBatch":
        """The same in page-locked memory; DataLoader calls this."""
        return LoadedBatch(self.batch.pin_memory(), self.bad)


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """An error in place of a batch, to be raised in the main process."""

    error: Exception
    out_of_memory: bool  # the reason was memory, not a sample
    traceback: str = ""  # the worker's, for errors of a program


class BatchDataset(Dataset):
    """Batches by the draws of their samples. It never raises.

    Args:
        items: the samples.
        tolerant: whether a bad sample is listed in ``LoadedBatch.bad``; if not, the batch fails.
    """

    def __init__(self, items: SampleDataset, *, tolerant: bool):
        self.items, self.tolerant = items, tolerant

    def __getitem__(self, draws: Sequence[Draw]) -> LoadedBatch | FailedBatch:
        try:
            loaded = self._load(draws)
        except Exception as error:
            return _failed(error, out_of_memory=isinstance(error, MemoryError))
        if get_worker_info() is None:
            return loaded
        try:  # shared here, where a full /dev/shm raises; the thread that sends batches would hang without an error
            return LoadedBatch(tree_map_only(Tensor, Tensor.share_memory_, loaded.batch), loaded.bad)
        except (RuntimeError, OSError) as error:
            return _failed(error, out_of_memory=True)

    def _load(self, draws: Sequence[Draw]) -> LoadedBatch:
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
        except SampleError:  # the row cannot be read at all
            return -1


def _failed(error: Exception, *, out_of_memory: bool) -> FailedBatch:
    """An error in a form that a worker can send: with its type and notes where it can be pickled."""
    if get_worker_info() is None:
        return FailedBatch(error, out_of_memory)
    try:
        pickler: Any = ForkingPickler  # the queue to the main process uses it
        pickler.loads(pickler.dumps(error))
        sendable = error
    except Exception:  # it holds something that cannot be pickled
        sendable = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            sendable.add_note(note)
    text = "" if isinstance(error, MMBertError) else "".join(traceback.format_exception(error))
    return FailedBatch(sendable, out_of_memory, text)
