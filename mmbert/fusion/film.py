"""FiLM: the streams scale and shift the text tokens after the trunk."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import gelu

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.masked import masked_mean, mean_token, zero_masked
from mmbert.layers.pooling import Pooling, StreamVectors
from mmbert.types import Fused, Tokens


class Film(Fusion):
    """Feature-wise linear modulation: text tokens times (1 + gamma) plus beta, per channel.

    gamma and beta [batch, dim] are shared by all tokens of a row: a linear map of GELU(c), where c is the mean of a
    linear map of each present stream, pooled and normalised. Without the GELU the streams could modulate the text but
    not interact. The last map starts at zero, so that training starts from the plain trunk. A row without text is
    modulated as [CLS] [SEP]. Streams keep their own tokens.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        pooling: how each stream, and the modulated text, is pooled to one vector.

    Reference:
        Perez et al. 2018, "FiLM: visual reasoning with a general conditioning layer".
    """

    reads_text_alone = True

    def __init__(self, dim: int, streams: Mapping[str, bool], *, pooling: Pooling = "mean"):
        super().__init__()
        self.vectors = StreamVectors(dim, sorted(streams), pooling=pooling)
        if not streams:
            return
        self.maps = ModulesByName({name: nn.Linear(dim, dim) for name in self.vectors.names})
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
            has_stream = present.any(1)[:, None, None]
            modulated = torch.where(has_stream, (1 + gamma) * read.values + beta, read.values)
            read = read._replace(values=zero_masked(modulated, read.mask))
        return Fused(self.vectors.readout(read), {"text": read, **streams}, alone)
