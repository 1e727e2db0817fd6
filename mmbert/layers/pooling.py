"""One vector a row from the tokens of a stream."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmbert.layers.masked import masked_mean, zero_masked
from mmbert.types import Tokens

Pooling = Literal["mean", "cls", "attention"]


class Readout(nn.Module):
    """Pools Tokens [batch, length, dim] to [batch, dim]; rows without a real token give zeros.

    ``mean`` over real tokens, ``cls`` the first token, ``attention`` a softmax of a learned query over real tokens
    (a zero query, as at the start, is the mean).

    Args:
        dim: width of the tokens.
        pooling: ``mean``, ``cls`` or ``attention``.
    """

    def __init__(self, dim: int, *, pooling: Pooling = "mean"):
        super().__init__()
        self.pooling = pooling
        self.query = nn.Parameter(torch.zeros(dim)) if pooling == "attention" else None

    def forward(self, tokens: Tokens) -> Tensor:
        """One vector a row: [batch, dim].

        Args:
            tokens: the tokens of a stream, values [batch, length, dim].
        """
        values, mask = zero_masked(tokens.values, tokens.mask), tokens.mask
        if self.pooling == "cls":
            return values[:, 0]
        if self.query is None:
            return masked_mean(values, mask)
        scores = (values @ self.query / values.shape[-1] ** 0.5).masked_fill(~mask, float("-inf"))
        scores = scores.masked_fill(~mask.any(1, keepdim=True), 0.0)  # a row of only -inf would give NaN
        return torch.einsum("bl,bld->bd", torch.where(mask, scores.softmax(1), 0.0), values)


class StreamVectors(nn.Module):
    """Pools each stream and norms the result with a LayerNorm, so that all are of one size.

    Streams without a name in ``names`` are not read; ``readout`` is for all.

    Reference: Ba et al. 2016 (LayerNorm).

    Args:
        dim: width of the tokens of every stream.
        names: of the streams to read, in the order of the vectors.
        pooling: ``mean``, ``cls`` or ``attention``, as of ``Readout``.
    """

    def __init__(self, dim: int, names: Iterable[str], *, pooling: Pooling = "mean"):
        super().__init__()
        self.names = tuple(names)
        self.readout = Readout(dim, pooling=pooling)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.names})

    def forward(self, streams: Mapping[str, Tokens], like: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors [batch, names, dim], zero where absent, and which are there [batch, names].

        ``like`` is any [batch, dim]. A stream whose key is absent equals one whose mask is all False.

        Args:
            streams: tokens by the name of the stream, values [batch, length, dim].
            like: any tensor [batch, dim] of the type and on the device that the vectors shall have.
        """
        values, present = [], []
        for name in self.names:
            if name in streams:
                there = streams[name].mask.any(1)
                vector = torch.where(there[:, None], self.norms[name](self.readout(streams[name])), 0.0)
            else:
                there, vector = torch.zeros_like(like[:, 0], dtype=torch.bool), torch.zeros_like(like)
            values.append(vector)
            present.append(there)
        return torch.stack(values, 1), torch.stack(present, 1)
