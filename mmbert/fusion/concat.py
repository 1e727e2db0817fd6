"""Late fusion by concatenation: an MLP combines the pooled vectors of all streams into one vector per row."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.fusion.late import LateFusion
from mmbert.layers.by_name import ParametersByName
from mmbert.layers.pooling import Pooling
from mmbert.types import Fused, Tokens


class Concat(Fusion):
    """Concatenates the pooled vectors of all streams and applies an MLP with one hidden layer (late fusion).

    A learned vector replaces that of an absent stream. The trunk reads only the text, and the tokens of each stream are
    returned as they came. The trunk runs for rows with text, and for rows with no input at all.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        hidden: width of the hidden layer; 0 for the width of the trunk.
        dropout: dropout rate before and after the hidden layer.
        pooling: how each stream is pooled to one vector.
    """

    reads_text_alone = True

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        hidden: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        self.late = LateFusion(dim, streams, partial(_Network, hidden=hidden or dim, dropout=dropout), pooling=pooling)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        return self.late(trunk, text, streams)


class _Network(nn.Module):
    """Vectors [batch, names, dim] and their presence [batch, names] -> [batch, dim]."""

    def __init__(self, dim: int, names: Sequence[str], *, hidden: int, dropout: float):
        super().__init__()
        self.names = tuple(names)
        self.absent = ParametersByName({name: nn.Parameter(torch.zeros(dim)) for name in names})
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(dim * len(names), hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
        )

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        absent = torch.stack([self.absent[name] for name in self.names])  # a ParameterDict sorts its keys
        return self.layers(torch.where(present[..., None], vectors, absent).flatten(1))
