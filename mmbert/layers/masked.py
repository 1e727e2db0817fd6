"""Reductions over masked tokens that nothing hidden can reach, NaN included."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mmbert.types import Tokens


def hide(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` [..., length, dim] with zeros where ``mask`` [..., length] is False; no gradient passes there."""
    return torch.where(mask[..., None], values, 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens: [batch, length, dim], [batch, length] -> [batch, dim]; zeros where none is real.

    >>> masked_mean(torch.tensor([[[1.0], [float("nan")]]]), torch.tensor([[True, False]])).item()
    1.0
    """
    return hide(values, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def rows_with(streams: Iterable[Tokens], like: Tokens) -> Tensor:
    """Which rows have a real token in one of the ``streams``: [batch] bool. ``like`` has as many rows."""
    some = torch.zeros_like(like.mask[:, 0])
    for stream in streams:
        some = some | stream.mask.any(1)
    return some


def mean_token(tokens: Tokens) -> Tokens:
    """Tokens [batch, length, dim] as one a row, their mean [batch, 1, dim]; masked where no token is real."""
    values, mask = masked_mean(tokens.values, tokens.mask)[:, None], tokens.mask.any(1, keepdim=True)
    return Tokens(values, mask, tokens.unit.new_full(mask.shape, -1))


def nothing_of(values: Tensor) -> Tensor:
    """Zero, whatever ``values`` hold; yet what made them takes part in the step, with a gradient of zero."""
    return torch.where(torch.zeros((), dtype=torch.bool, device=values.device), values, 0.0).sum()
