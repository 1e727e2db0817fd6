"""Padding ragged tensors into one."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(items: Sequence[Tensor], value: float | int | bool = 0) -> Tensor:
    """Stack tensors [length_i, ...] into [present, longest length, ...], filling with ``value``.

    Trailing axes may be ragged as well and are padded in the same way.

    >>> pad([torch.ones(1), torch.ones(3)]).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    shape = [max(sizes) for sizes in zip(*(item.shape for item in items), strict=True)]
    result = items[0].new_full((len(items), *shape), value)
    for index, item in enumerate(items):
        result[(index, *map(slice, item.shape))] = item
    return result


def lengths_mask(lengths: Tensor, longest: int) -> Tensor:
    """[present] lengths as a mask [present, longest], True before each length."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
