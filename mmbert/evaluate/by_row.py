"""Rows of many batches under their samples' ids, kept as the batches' own tensors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ByRow(Mapping[int, Any]):
    """Sample id -> a row of a tensor, or of each tensor of a dict, in the order of the ids.

    A tensor object of its own for each row would take a hundred times the memory of the number in it: a row is cut out
    when it is asked for. ``blocks`` are pairs of ids [rows] and tensors [rows, ...].

    >>> rows = ByRow([(torch.tensor([7, 3]), torch.tensor([0.7, 0.3])), (torch.tensor([5]), torch.tensor([0.5]))])
    >>> list(rows), rows[7].item()
    ([3, 5, 7], 0.699999988079071)
    """

    def __init__(self, blocks: Sequence[tuple[Tensor, Any]]):
        ids = torch.cat([ids for ids, _ in blocks]).numpy() if blocks else np.zeros(0, np.int64)
        sizes = [len(ids) for ids, _ in blocks]
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._block = np.repeat(np.arange(len(blocks)), sizes)[order]
        self._place = np.concatenate([np.arange(size) for size in sizes] or [ids])[order]
        self._blocks = list(blocks)

    @property
    def blocks(self) -> list[tuple[Tensor, Any]]:
        """The blocks that it was made of, in their order."""
        return self._blocks

    @property
    def distinct(self) -> bool:
        """Whether no id is there twice."""
        return bool((self._ids[1:] != self._ids[:-1]).all())

    def __getitem__(self, sample: int) -> Any:
        at = int(np.searchsorted(self._ids, sample))
        if at == len(self) or self._ids[at] != sample:
            raise KeyError(sample)
        return self._row(at)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        return len(self._ids)

    def rows(self) -> list[Any]:
        """The rows in the order of the ids."""
        return [self._row(at) for at in range(len(self))]

    def _row(self, at: int) -> Any:
        place = int(self._place[at])
        values = self._blocks[self._block[at]][1]
        if isinstance(values, Tensor):
            return values[place]
        return {name: tensor[place] for name, tensor in values.items()}
