"""Convolutions over masked sequences that padding does not reach."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, pad

from mmbert.layers.masked import hide

CHANNELS = 16  # of a group


class MaskedGroupNorm(nn.Module):
    """GroupNorm (Wu and He 2018) whose statistics are those of the real steps of each item.

    **Shapes**: values [batch, length, width], mask [batch, length] -> [batch, length, width], zero at masked steps.
    A group has up to 16 channels.
    """

    def __init__(self, width: int):
        super().__init__()
        self.groups = max(1, width // CHANNELS)
        if width % self.groups:
            raise ValueError(f"width must be below 32 or a multiple of its {self.groups} groups, however: {width=}")
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        groups = hide(values, mask).unflatten(-1, (self.groups, -1))
        size = mask.sum(1).clamp(min=1)[:, None, None, None] * groups.shape[-1]
        centred = groups - groups.sum((1, 3), keepdim=True) / size
        variance = hide(centred.flatten(2), mask).square().unflatten(-1, (self.groups, -1)).sum((1, 3), keepdim=True)
        normed = (centred * torch.rsqrt(variance / size + 1e-5)).flatten(2)
        return hide(normed * self.weight + self.bias, mask)


class ResidualBlock(nn.Module):
    """Convolutions of falling kernel size around a residual, as in the ResNet for time series of Wang et al. 2017.

    **Shapes**: values [batch, length, before], mask [batch, length] -> [batch, length, after]. Every convolution keeps
    the length and is followed by a normalisation within the item and by the mask.
    """

    def __init__(self, before: int, after: int, kernels: Sequence[int]):
        super().__init__()
        widths = [before, *[after] * len(kernels)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(first, second, kernel, padding="same", bias=False)
            for first, second, kernel in zip(widths[:-1], widths[1:], kernels, strict=True)
        )
        self.norms = nn.ModuleList(MaskedGroupNorm(after) for _ in kernels)
        self.skip = nn.Linear(before, after, bias=False)
        self.skip_norm = MaskedGroupNorm(after)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        values = hide(values, mask)
        skipped = self.skip_norm(self.skip(values), mask)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            if convolution is not self.convolutions[0]:
                values = values.relu()
            values = norm(convolution(values.mT).mT, mask)
        return hide((values + skipped).relu(), mask)


def halve(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Every two steps as one, by their maximum: [batch, length, width] -> [batch, ceil(length / 2), width].

    ``values`` are not negative and zero where masked, so masked steps do not count.
    """
    odd = values.shape[1] % 2
    values, mask = pad(values, (0, 0, 0, odd)), pad(mask, (0, odd))
    return max_pool1d(values.mT, 2).mT, mask.unflatten(1, (-1, 2)).any(2)
