"""Masked tensor operations. Masked values, NaN included, reach neither results nor gradients."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mmbert.types import Tokens


def zero_masked(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` [..., length, dim] with zeros where ``mask`` [..., length] is False; no gradient passes there.

    Args:
        values: tensor [..., length, dim].
        mask: bool tensor [..., length], True where a token is real.
    """
    return torch.where(mask[..., None], values, 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens: [batch, length, dim], [batch, length] -> [batch, dim]; zeros for a row without one.

    Args:
        values: tensor [batch, length, dim].
        mask: bool tensor [batch, length], True where a token is real.

    >>> masked_mean(torch.tensor([[[1.0], [float("nan")]]]), torch.tensor([[True, False]])).item()
    1.0
    """
    return zero_masked(values, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def rows_with_any_stream(streams: Iterable[Tokens], like: Tokens) -> Tensor:
    """Which rows have a real token in any of the ``streams``: [batch] bool.

    Args:
        streams: streams of the same batch; without any, the result is False for every row.
        like: any tokens with the same number of rows and on the same device.
    """
    has_stream = torch.zeros_like(like.mask[:, 0])
    for stream in streams:
        has_stream = has_stream | stream.mask.any(1)
    return has_stream


def mean_token(tokens: Tokens) -> Tokens:
    """One token per row, the mean of its real tokens: [batch, 1, dim]; masked where no token is real.

    Args:
        tokens: the tokens of a stream, values [batch, length, dim].
    """
    values, mask = masked_mean(tokens.values, tokens.mask)[:, None], tokens.mask.any(1, keepdim=True)
    return Tokens(values, mask, tokens.unit.new_full(mask.shape, -1))


def zero_with_grad(values: Tensor) -> Tensor:
    """Scalar 0 that keeps ``values`` in the autograd graph with zero gradient (for DDP).

    Args:
        values: tensor of any shape, NaN allowed.
    """
    return torch.where(torch.zeros((), dtype=torch.bool, device=values.device), values, 0.0).sum()


def pad_and_stack(items: Sequence[Tensor], value: float | int | bool = 0) -> Tensor:
    """Stack tensors [length_i, ...] into [present, longest length, ...], filling with ``value``.

    Trailing axes may be ragged as well and are padded in the same way.

    Args:
        items: at least one tensor, all with the same number of axes.
        value: the padding value.

    >>> pad_and_stack([torch.ones(1), torch.ones(3)]).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    shape = [max(sizes) for sizes in zip(*(item.shape for item in items), strict=True)]
    result = items[0].new_full((len(items), *shape), value)
    for index, item in enumerate(items):
        result[(index, *map(slice, item.shape))] = item
    return result


def mask_from_lengths(lengths: Tensor, longest: int) -> Tensor:
    """A mask [present, longest] from lengths [present], True before each length.

    Args:
        lengths: int tensor [present], the number of tokens of each item.
        longest: the length of the mask, at least the largest length.
    """
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def scatter_to_rows(tokens: Tokens, rows: Tensor, size: int) -> Tokens:
    """Scatter items [present, length, dim] to their rows of the batch: [size, most items * length, dim].

    Items of the same row are concatenated in order. Rows without an item are fully masked.

    Args:
        tokens: the items' tokens, values [present, length, dim].
        rows: the row of each item, int64 tensor [present], non-decreasing and below ``size``.
        size: the number of rows of the batch.

    >>> item = Tokens(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.int64))
    >>> scatter_to_rows(item, torch.tensor([1]), size=2).mask.tolist()
    [[False, False], [True, True]]
    """
    present, length, dim = tokens.values.shape
    first = torch.searchsorted(rows, rows)  # the index of each row's first item
    place = torch.arange(present, device=rows.device) - first  # of each item within its row, from 0
    slots = int(place.max()) + 1 if present else 1
    shape = (size, slots, length)
    values = tokens.values.new_zeros(*shape, dim).index_put((rows, place), tokens.values)
    mask = tokens.mask.new_zeros(shape).index_put((rows, place), tokens.mask)
    unit = tokens.unit.new_full(shape, -1).index_put((rows, place), tokens.unit)
    return Tokens(values.flatten(1, 2), mask.flatten(1), unit.flatten(1))
