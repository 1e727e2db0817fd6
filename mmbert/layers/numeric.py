"""Embeddings of numbers: each column its own map from a scalar to a vector."""

import math

import torch
from torch import Tensor, nn


class LinearEmbedding(nn.Module):
    """x * weight + bias, with a vector of each for every column: [..., columns] -> [..., columns, width].

    The feature tokenizer of FT-Transformer (Gorishniy et al. 2021).
    """

    def __init__(self, columns: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(columns, width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers[..., None] * self.weight + self.bias


class PeriodicEmbedding(nn.Module):
    """ReLU(Linear([sin(2 pi f x), cos(2 pi f x)])), learned per column: [..., columns] -> [..., columns, width].

    "PLR" of Gorishniy et al. 2022. The frequencies f start log-spaced from 1/32 to 8 cycles per unit (where the paper
    draws them from a normal distribution whose scale must be tuned per data set), so that both slow and fast functions
    of a standardised number are in reach.
    """

    def __init__(self, columns: int, width: int):
        super().__init__()
        frequencies = torch.logspace(math.log2(1 / 32), math.log2(8), width // 2, base=2)
        self.frequencies = nn.Parameter(frequencies.repeat(columns, 1))
        self.mix = PerColumnLinear(columns, 2 * (width // 2), width)

    def forward(self, numbers: Tensor) -> Tensor:
        angles = 2 * math.pi * numbers[..., None] * self.frequencies
        return self.mix(torch.cat([angles.sin(), angles.cos()], -1)).relu()


class PiecewiseEmbedding(nn.Module):
    """A linear map of the piecewise linear encoding over quantile bins: [..., columns] -> [..., columns, width].

    ``edges`` [columns, bins + 1] are non-decreasing; bins without extent (ties) encode to a step at their edge. Outside
    the edges the encoding stays at its ends. "PLE-Q" of Gorishniy et al. 2022.
    """

    edges: Tensor

    def __init__(self, edges: Tensor, width: int):
        super().__init__()
        self.register_buffer("edges", edges)
        self.mix = PerColumnLinear(len(edges), edges.shape[1] - 1, width)

    def forward(self, numbers: Tensor) -> Tensor:
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        extent = high - low
        inside = (numbers[..., None] - low) / torch.where(extent > 0, extent, 1.0)
        return self.mix(torch.where(extent > 0, inside, (numbers[..., None] >= low).to(inside)).clamp(0, 1))


class PerColumnLinear(nn.Module):
    """A linear layer for each column: [..., columns, before] -> [..., columns, after]."""

    def __init__(self, columns: int, before: int, after: int):
        super().__init__()
        bound = before**-0.5
        self.weight = nn.Parameter(torch.empty(columns, before, after).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, after).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        return torch.einsum("...cb,cba->...ca", values, self.weight) + self.bias
