"""Pooling of a stream's tokens to one vector per row."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmbert.layers.by_name import ModulesByName
from mmbert.layers.masked import masked_mean, zero_masked
from mmbert.types import Tokens

Pooling = Literal["mean", "cls", "attention"]


class Readout(nn.Module):
    """Pools tokens [batch, length, dim] to [batch, dim]; a row without a real token gives zeros.

    ``mean`` over real tokens, ``cls`` the first token, ``attention`` a softmax of a learned query over real tokens
    (the query starts at zero, which is the mean).

    Args:
        dim: width of the tokens.
        pooling: ``mean``, ``cls`` or ``attention``.
    """

    def __init__(self, dim: int, *, pooling: Pooling = "mean"):
        super().__init__()
        self.pooling = pooling
        self.query = nn.Parameter(torch.zeros(dim)) if pooling == "attention" else None

    def forward(self, tokens: Tokens) -> Tensor:
        """Pool the tokens to one vector per row: [batch, dim].

        Args:
            tokens: the tokens of a stream, values [batch, length, dim].
        """
        values, mask = zero_masked(tokens.values, tokens.mask), tokens.mask
        if self.pooling == "cls":
            return values[:, 0]
        if self.query is None:
            return masked_mean(values, mask)
        scores = (values @ self.query / values.shape[-1] ** 0.5).masked_fill(~mask, float("-inf"))
        scores = scores.masked_fill(~mask.any(1, keepdim=True), 0.0)  # a softmax over only -inf gives NaN
        return torch.einsum("bl,bld->bd", torch.where(mask, scores.softmax(1), 0.0), values)


class StreamVectors(nn.Module):
    """Pools each stream and applies a LayerNorm, so that all vectors have the same scale.

    Streams that ``names`` does not list are ignored. All streams share ``readout``.

    Reference: Ba et al. 2016 (LayerNorm).

    Args:
        dim: width of the tokens of every stream.
        names: the streams to read, in the order of the vectors.
        pooling: ``mean``, ``cls`` or ``attention``, as for ``Readout``.
    """

    def __init__(self, dim: int, names: Iterable[str], *, pooling: Pooling = "mean"):
        super().__init__()
        self.names = tuple(names)
        self.readout = Readout(dim, pooling=pooling)
        self.norms = ModulesByName({name: nn.LayerNorm(dim) for name in self.names})

    def forward(self, streams: Mapping[str, Tokens], like: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors [batch, names, dim], zero where absent, and their presence [batch, names] bool.

        A stream whose key is absent is treated as one whose mask is all False.

        Args:
            streams: tokens by the name of the stream, values [batch, length, dim].
            like: any tensor [batch, dim] with the dtype and device of the result.
        """
        vectors, presences = [], []
        for name in self.names:
            if name in streams:
                present = streams[name].mask.any(1)
                vector = torch.where(present[:, None], self.norms[name](self.readout(streams[name])), 0.0)
            else:
                present, vector = torch.zeros_like(like[:, 0], dtype=torch.bool), torch.zeros_like(like)
            vectors.append(vector)
            presences.append(present)
        return torch.stack(vectors, 1), torch.stack(presences, 1)
