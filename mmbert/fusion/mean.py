"""Late fusion by the mean: an additive fusion without interactions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.fusion.late import LateFusion
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.masked import masked_mean
from mmbert.layers.pooling import Pooling
from mmbert.types import Fused, Tokens


class Mean(Fusion):
    """The mean of a linear map of each present stream, including the text (Deep Sets).

    sum p_m W_m z_m / sum p_m, where z_m is the pooled and normalised stream and p_m its presence. With a linear head
    the output is a sum of unimodal terms: interactions (XOR) cannot be learnt, which makes it the baseline against
    which to measure them. The trunk reads only the text; streams keep their own tokens. A row without text skips the
    trunk, unless it has no stream either.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        pooling: how each stream is pooled to one vector.

    Reference:
        Zaheer et al. 2017, "Deep sets".
    """

    reads_text_alone = True

    def __init__(self, dim: int, streams: Mapping[str, bool], *, pooling: Pooling = "mean"):
        super().__init__()
        self.late = LateFusion(dim, streams, _Mean, pooling=pooling)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        return self.late(trunk, text, streams)


class _Mean(nn.Module):
    """Vectors [batch, names, dim] and their presence [batch, names] -> [batch, dim]."""

    def __init__(self, dim: int, names: Sequence[str]):
        super().__init__()
        self.maps = ModulesByName({name: nn.Linear(dim, dim, bias=False) for name in names})

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        pairs = zip(self.maps.values(), vectors.unbind(1), strict=True)
        return masked_mean(torch.stack([project(vector) for project, vector in pairs], 1), present)
