"""Packing: the real tokens of a padded batch laid out in fewer, fuller rows, and back.

Each sequence stays whole and contiguous; a block-diagonal mask keeps those that share a row from reading each other.
"""

from typing import NamedTuple

import torch
from torch import Tensor

WIDTH = 128  # of a packed row (attention costs by it): more where a sequence is longer, less where their sum is


class Packing(NamedTuple):
    """Where each token of a padded batch goes."""

    source: Tensor  # [tokens] int64 places of real tokens in the flattened padded batch, in reading order
    target: Tensor  # [tokens] int64 places of the same tokens in the flattened packed rows
    block: Tensor  # [rows, width] int64, the sequence that each packed place belongs to; -1 for none

    @property
    def mask(self) -> Tensor:
        """Who reads whom, [rows, width, width] bool. Empty places read each other, so that no softmax is empty."""
        return self.block[:, :, None] == self.block[:, None, :]

    def pack(self, values: Tensor) -> Tensor:
        """[batch, length, dim] -> [rows, width, dim]; empty places hold zeros."""
        packed = values.new_zeros(self.block.numel(), values.shape[-1])
        packed = packed.index_copy(0, self.target, values.flatten(0, 1).index_select(0, self.source))
        return packed.unflatten(0, self.block.shape)

    def unpack(self, packed: Tensor, shape: torch.Size) -> Tensor:
        """[rows, width, dim] -> [batch, length, dim] of the given shape; masked places hold zeros."""
        values = packed.new_zeros(shape[0] * shape[1], shape[2])
        values = values.index_copy(0, self.source, packed.flatten(0, 1).index_select(0, self.target))
        return values.unflatten(0, shape[:2])


def plan_packing(mask: Tensor, width: int = WIDTH) -> Packing:
    """Pack rows by first-fit decreasing; ``mask`` is [batch, length] bool. Rows may be masked anywhere.

    >>> plan_packing(torch.tensor([[1, 1, 0], [1, 0, 1], [1, 0, 0]]).bool(), width=4).block.tolist()
    [[0, 0, 1, 1], [2, -1, -1, -1]]
    """
    lengths = mask.sum(1).tolist()
    width = max(min(width, sum(lengths)), *lengths)
    free: list[int] = []  # places left in each packed row
    start = [0] * len(lengths)  # of each sequence in the flattened packed rows
    for sequence in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[sequence]
        row = next((row for row, places in enumerate(free) if places >= length), len(free))
        if row == len(free):
            free.append(width)
        start[sequence] = row * width + width - free[row]
        free[row] -= length
    source = mask.flatten().nonzero().squeeze(1)
    sequence = torch.arange(len(lengths), device=mask.device).repeat_interleave(mask.sum(1))
    place = (mask.cumsum(1) - 1).flatten().index_select(0, source)
    target = torch.tensor(start, device=mask.device).index_select(0, sequence) + place
    block = torch.full((len(free) * width,), -1, device=mask.device).index_copy(0, target, sequence)
    return Packing(source, target, block.unflatten(0, (len(free), width)))
