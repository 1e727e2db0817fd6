"""Packing: the real tokens of a padded batch without the padding, and back.

The tokens lie one behind another, longest sequence first, so that whatever acts on each token alone costs what the
tokens cost. Attention reads them in groups of sequences that are about as long.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ALIKE = 0.75  # the shortest sequence of a group to its longest: more would make more, smaller groups


class Group(NamedTuple):
    """Sequences that attend together, each padded to the longest of them."""

    tokens: int
    shape: tuple[int, int]  # rows and width
    mask: Tensor | None  # [rows, width] bool, True where a token is real; None where all are
    place: Tensor | None  # [tokens] int64, the place of each token in the flattened rows; None where all are real

    def pad(self, values: Tensor) -> Tensor:
        """[tokens, ...] -> [rows, width, ...]; masked places hold zeros.

        Args:
            values: the group's tokens, one sequence behind the other.
        """
        if self.place is not None:
            padded = values.new_zeros(self.shape[0] * self.shape[1], *values.shape[1:])
            values = padded.index_copy(0, self.place, values)
        return values.unflatten(0, self.shape)

    def unpad(self, values: Tensor) -> Tensor:
        """[rows, width, ...] -> [tokens, ...].

        Args:
            values: padded as ``pad`` gives them; what masked places hold is not read.
        """
        values = values.flatten(0, 1)
        return values if self.place is None else values.index_select(0, self.place)


class Packing(NamedTuple):
    """Where each token of a padded batch goes."""

    source: Tensor  # [tokens] int64 places of the packed tokens in the flattened padded batch
    position: Tensor  # [tokens] int64, the place of each in its sequence
    ends: Tensor  # [sequences + 1] int32, where each sequence ends, from 0 on
    longest: int
    groups: Sequence[Group]

    def pack(self, values: Tensor) -> Tensor:
        """[batch, length, dim] -> [tokens, dim]; what masked places hold is not read.

        Args:
            values: of the padded batch.
        """
        return values.flatten(0, 1).index_select(0, self.source)

    def unpack(self, packed: Tensor, shape: torch.Size) -> Tensor:
        """[tokens, dim] -> [batch, length, dim]; masked places hold zeros.

        Args:
            packed: the values of the packed tokens.
            shape: that of the padded batch: batch, length and dim.
        """
        values = packed.new_zeros(shape[0] * shape[1], shape[2])
        return values.index_copy(0, self.source, packed).unflatten(0, shape[:2])


def plan_packing(mask: Tensor) -> Packing:
    """How to pack a batch. Rows may be masked anywhere, or as a whole.

    On an accelerator, where many small kernels cost more than padding does, there is one group.

    >>> packing = plan_packing(torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [1, 0, 0]]).bool())
    >>> packing.source.tolist(), packing.position.tolist(), [group.shape for group in packing.groups]
    ([6, 7, 8, 0, 2, 9], [0, 1, 2, 0, 1, 0], [(1, 3), (1, 2), (1, 1)])

    Args:
        mask: [batch, length] bool, True where a token is real.
    """
    lengths, order = mask.sum(1).sort(descending=True, stable=True)
    row, place = mask[order].nonzero(as_tuple=True)
    source = order[row] * mask.shape[1] + place
    position = (mask.cumsum(1) - 1).flatten()[source]
    ends = torch.nn.functional.pad(lengths[lengths > 0].cumsum(0), (1, 0)).int()
    listed = [length for length in lengths.tolist() if length]
    groups = [_group(listed[rows], mask.device) for rows in _alike(listed, ALIKE if mask.device.type == "cpu" else 0.0)]
    return Packing(source, position, ends, max(listed, default=0), groups)


def _alike(lengths: Sequence[int], ratio: float) -> Iterator[slice]:
    """Cuts falling lengths where one is below ``ratio`` of the first of its group."""
    first = 0
    for index, length in enumerate(lengths):
        if length < ratio * lengths[first]:
            yield slice(first, index)
            first = index
    yield slice(first, len(lengths))


def _group(lengths: Sequence[int], device: torch.device) -> Group:
    tokens, shape = sum(lengths), (len(lengths), max(lengths, default=0))
    if tokens == shape[0] * shape[1]:
        return Group(tokens, shape, None, None)
    mask = torch.arange(shape[1], device=device) < torch.tensor(lengths, device=device)[:, None]
    return Group(tokens, shape, mask, mask.flatten().nonzero().squeeze(1))
