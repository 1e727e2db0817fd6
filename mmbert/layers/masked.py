"""Reductions over masked tokens that nothing hidden can reach, NaN included."""

import torch
from torch import Tensor


def hide(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` [..., length, dim] with zeros where ``mask`` [..., length] is False; no gradient passes there."""
    return torch.where(mask[..., None], values, 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens: [batch, length, dim], [batch, length] -> [batch, dim]; zeros where none is real.

    >>> masked_mean(torch.tensor([[[1.0], [float("nan")]]]), torch.tensor([[True, False]])).item()
    1.0
    """
    return hide(values, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
