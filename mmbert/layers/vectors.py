"""One normed vector for each stream of a row."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mmbert.layers.readout import Pooling, Readout
from mmbert.types import Tokens


class Vectors(nn.Module):
    """Pools each stream and norms the result (LayerNorm, Ba et al. 2016), so that all are of one size.

    Streams without a name in ``names`` are not read; ``readout`` is for all.
    """

    def __init__(self, dim: int, names: Iterable[str], *, pooling: Pooling = "mean"):
        super().__init__()
        self.names = tuple(names)
        self.readout = Readout(dim, pooling=pooling)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.names})

    def forward(self, streams: Mapping[str, Tokens], like: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors [batch, names, dim], zero where absent, and which are there [batch, names].

        ``like`` is any [batch, dim]. A stream whose key is absent equals one whose mask is all False.
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
