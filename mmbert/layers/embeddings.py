"""Embeddings of numeric and categorical columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad


class LinearEmbedding(nn.Module):
    """x * weight + bias, with a weight and bias vector per column: [..., columns] -> [..., columns, width].

    Reference: Gorishniy et al. 2021, the feature tokenizer of FT-Transformer.

    Args:
        columns: how many numbers a row has.
        width: of the vector of each number.
    """

    def __init__(self, columns: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(columns, width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed each number by the map of its column: [..., columns, width].

        Args:
            numbers: tensor [..., columns].
        """
        return numbers[..., None] * self.weight + self.bias


class PeriodicEmbedding(nn.Module):
    """ReLU(Linear([sin(2 pi f x), cos(2 pi f x)])), learned per column: [..., columns] -> [..., columns, width].

    The frequencies f start log-spaced from 1/32 to 8 cycles per unit (where the paper draws them from a normal
    distribution whose scale must be tuned per data set), so that both slow and fast functions of a standardised number
    are in reach.

    Reference: Gorishniy et al. 2022, "PLR".

    Args:
        columns: how many numbers a row has.
        width: of the vector of each number; half of it, rounded down, is the count of frequencies.
    """

    def __init__(self, columns: int, width: int):
        super().__init__()
        frequencies = torch.logspace(math.log2(1 / 32), math.log2(8), width // 2, base=2)
        self.frequencies = nn.Parameter(frequencies.repeat(columns, 1))
        self.mix = PerColumnLinear(columns, 2 * (width // 2), width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed each number by the map of its column: [..., columns, width].

        Args:
            numbers: tensor [..., columns].
        """
        angles = 2 * math.pi * numbers[..., None] * self.frequencies
        return self.mix(torch.cat([angles.sin(), angles.cos()], -1)).relu()


class PiecewiseEmbedding(nn.Module):
    """A linear map of the piecewise linear encoding over quantile bins: [..., columns] -> [..., columns, width].

    ``edges`` [columns, bins + 1] are non-decreasing; a bin of zero extent (ties) encodes as a step at its edge. Outside
    the edges the encoding is constant.

    Reference: Gorishniy et al. 2022, "PLE-Q".

    Args:
        edges: bin edges of each column [columns, bins + 1], non-decreasing; a buffer.
        width: of the vector of each number.
    """

    edges: Tensor

    def __init__(self, edges: Tensor, width: int):
        super().__init__()
        self.register_buffer("edges", edges)
        self.mix = PerColumnLinear(len(edges), edges.shape[1] - 1, width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed each number by the map of its column: [..., columns, width].

        Args:
            numbers: tensor [..., columns].
        """
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        extent = high - low
        inside = (numbers[..., None] - low) / torch.where(extent > 0, extent, 1.0)
        return self.mix(torch.where(extent > 0, inside, (numbers[..., None] >= low).to(inside)).clamp(0, 1))


class PerColumnLinear(nn.Module):
    """A linear layer for each column: [..., columns, before] -> [..., columns, after].

    Args:
        columns: number of columns, each with its own layer.
        before: width of the input vectors.
        after: width of the output vectors.
    """

    def __init__(self, columns: int, before: int, after: int):
        super().__init__()
        bound = before**-0.5
        self.weight = nn.Parameter(torch.empty(columns, before, after).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, after).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Apply each column's layer to its vector: [..., columns, after].

        Args:
            values: tensor [..., columns, before].
        """
        return torch.einsum("...cb,cba->...ca", values, self.weight) + self.bias


class FieldEmbedding(nn.Module):
    """The sum of an embedding of each categorical field, a linear map of the numbers, and a bias.

    Embeddings are multiplied by ``scale`` and initialised smaller by the same factor (Vaswani et al. 2017 use
    sqrt(width)). Adam moves the embedding of a label seen ten times by about ten learning rates; the factor makes that
    comparable to its initial size.

    Shape:
        indices [rows, categorical fields] int64 and numbers [rows, numeric fields + values] -> [rows, width].

    Args:
        fields: one mapping per field; with a ``size`` it is categorical with that many labels, without it is numeric.
        width: width of a row's vector.
        values: number of further numeric values besides the fields.
        scale: factor of the embeddings of categorical fields, above 0.
    """

    first: Tensor
    scale: float

    def __init__(self, fields: Sequence[Mapping[str, Any]], width: int, *, values: int = 0, scale: float = 1.0):
        super().__init__()
        sizes = [field["size"] for field in fields if "size" in field]
        self.register_buffer("first", torch.tensor([0, 1, *sizes])[: 1 + len(sizes)].cumsum(0))
        self.table = nn.Parameter(
            torch.randn(1 + sum(sizes), width) / scale * (1 + len(sizes)) ** -0.5
        )  # the first is the bias
        self.scale = scale
        numeric = len(fields) - len(sizes) + values
        self.numbers = nn.Parameter(torch.randn(numeric, width) * max(1, numeric) ** -0.5)

    def forward(self, indices: Tensor, numbers: Tensor) -> Tensor:
        """The vector of each row: [rows, width].

        Args:
            indices: labels [rows, categorical fields], int64, each below the size of its field.
            numbers: tensor [rows, numeric fields + values].
        """
        places = pad(indices, (1, 0)) + self.first
        return self.scale * embedding_bag(places, self.table, mode="sum") + numbers.to(self.table.dtype) @ self.numbers
