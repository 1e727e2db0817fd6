"""The streams scale and shift the text: feature-wise linear modulation behind the trunk."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import gelu

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.masked import masked_mean, mean_token, zero_masked
from mmbert.layers.pooling import Pooling, StreamVectors
from mmbert.types import Fused, Tokens


class Film(Fusion):
    """Every text token times (1 + gamma) plus beta, channel by channel (FiLM).

    gamma and beta [batch, dim] are the same for all tokens of a row: a linear map of GELU(c), where c is the mean, over
    the streams that are present, of a linear map of each, pooled and normed. Without the GELU two streams could each
    modulate the text, but not mean something together. The last map starts at zero: training starts from the plain
    trunk. A row without text is modulated as the trunk reads it, [CLS] [SEP]. Streams keep their own tokens.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        pooling: how each stream, and the modulated text, becomes one vector.

    Reference:
        Perez et al. 2018, "FiLM: visual reasoning with a general conditioning layer".
    """

    reads_text_alone = True

    def __init__(self, dim: int, streams: Mapping[str, bool], *, pooling: Pooling = "mean"):
        super().__init__()
        self.vectors = StreamVectors(dim, sorted(streams), pooling=pooling)
        if not streams:
            return
        self.maps = nn.ModuleDict({name: nn.Linear(dim, dim) for name in self.vectors.names})
        self.modulation = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        read = trunk(text)
        alone = {"text": mean_token(read)}
        if self.vectors.names:
            vectors, present = self.vectors(streams, read.values[:, 0])
            pairs = zip(self.maps.values(), vectors.unbind(1), strict=True)
            mean = masked_mean(torch.stack([project(vector) for project, vector in pairs], 1), present)
            gamma, beta = self.modulation(gelu(mean))[:, None].chunk(2, -1)
            some = present.any(1)[:, None, None]
            modulated = torch.where(some, (1 + gamma) * read.values + beta, read.values)
            read = read._replace(values=zero_masked(modulated, read.mask))
        return Fused(self.vectors.readout(read), {"text": read, **streams}, alone)
