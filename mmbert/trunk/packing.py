"""Sequence packing: padded batches to concatenated real tokens and back.

Sequences are concatenated, the longest first, so that token-wise layers spend nothing on padding. Attention runs on
groups of sequences of similar length, each padded to its longest.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ALIKE = 0.75  # minimum ratio of the shortest to the longest sequence of a group; higher gives more, smaller groups


class Group(NamedTuple):
    """Sequences of similar length whose attention is computed together, padded to the longest."""

    tokens: int
    shape: tuple[int, int]  # rows and width
    mask: Tensor | None  # [rows, width] bool, True where a token is real; None if all are
    place: Tensor | None  # [tokens] int64, index of each token in the flattened rows; None if all are real

    def pad(self, values: Tensor) -> Tensor:
        """Pad the group's tokens: [tokens, ...] -> [rows, width, ...]; masked positions are zero.

        Args:
            values: the group's tokens, concatenated.
        """
        if self.place is not None:
            padded = values.new_zeros(self.shape[0] * self.shape[1], *values.shape[1:])
            values = padded.index_copy(0, self.place, values)
        return values.unflatten(0, self.shape)

    def unpad(self, values: Tensor) -> Tensor:
        """Remove the padding: [rows, width, ...] -> [tokens, ...].

        Args:
            values: padded values, as ``pad`` returns them; masked positions are not read.
        """
        values = values.flatten(0, 1)
        return values if self.place is None else values.index_select(0, self.place)


class Packing(NamedTuple):
    """Index tensors that pack and unpack a padded batch."""

    source: Tensor  # [tokens] int64, index of each packed token in the flattened padded batch
    position: Tensor  # [tokens] int64, position of each token in its sequence
    ends: Tensor  # [sequences + 1] int32, cumulative lengths of the sequences, from 0
    longest: int
    groups: Sequence[Group]

    def pack(self, values: Tensor) -> Tensor:
        """Pack values: [batch, length, dim] -> [tokens, dim]; masked positions are not read.

        Args:
            values: values of the padded batch.
        """
        return values.flatten(0, 1).index_select(0, self.source)

    def unpack(self, packed: Tensor, shape: torch.Size) -> Tensor:
        """Unpack values: [tokens, dim] -> [batch, length, dim]; masked positions are zero.

        Args:
            packed: the values of the packed tokens.
            shape: shape of the padded batch: batch, length and dim.
        """
        values = packed.new_zeros(shape[0] * shape[1], shape[2])
        return values.index_copy(0, self.source, packed).unflatten(0, shape[:2])


def plan_packing(mask: Tensor) -> Packing:
    """Plan the packing of a batch. Rows may be masked at any position, or entirely.

    On an accelerator there is one group: many small kernels cost more than padding.

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
    """Slices of descending lengths; a new one starts where a length is below ``ratio`` of its group's first."""
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
