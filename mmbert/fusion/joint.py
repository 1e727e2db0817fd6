"""Early fusion: the tokens of all streams and the text in one trunk sequence."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.by_name import ModulesByName, ParametersByName
from mmbert.layers.masked import zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.layers.resampler import LongRowResampler
from mmbert.layers.transformer import check_heads
from mmbert.types import Fused, Tokens


class Joint(Fusion):
    """Appends the tokens of every stream to the trunk's sequence, each with a learned input facet.

    As in MMBT and UniT. A stream with more than ``tokens`` tokens in a row is resampled to ``tokens``, unless a task
    reads its units. Streams that no task tags are returned as encoded.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        tokens: maximum number of tokens per stream in the trunk.
        heads: attention heads of the resampler.
        pooling: how a row's tokens, of all streams, are pooled to one vector.

    Reference:
        Kiela et al. 2019, "Supervised multimodal bitransformers for classifying images and text".
        Hu and Singh 2021, "UniT: multimodal multitask learning with a unified transformer".
    """

    needs_layers = 1  # a trunk without exposed layers counts padding between text and streams as positions

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        tokens: Annotated[int, Ge(1)] = 16,
        heads: Annotated[int, Ge(1)] = 4,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        check_heads(dim, heads)
        self.names = tuple(sorted(streams))
        self.readout = Readout(dim, pooling=pooling)
        self.norms = ModulesByName({name: nn.LayerNorm(dim) for name in self.names})
        self.facets = ParametersByName({name: nn.Parameter(torch.zeros(dim)) for name in self.names})
        untagged = [name for name in self.names if not streams[name]]
        self.shorten = ModulesByName({name: LongRowResampler(dim, tokens, heads) for name in untagged})

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        entering = {"text": text}
        for name in self.names:
            if name in streams:
                stream = self.shorten[name](streams[name]) if name in self.shorten else streams[name]
                values = self.norms[name](zero_masked(stream.values, stream.mask)) + self.facets[name]
                entering[name] = stream._replace(values=values)
        read = trunk(Tokens(*(torch.cat(parts, dim=1) for parts in zip(*entering.values(), strict=True))))
        lengths = [tokens.mask.shape[1] for tokens in entering.values()]
        pieces = [Tokens(*parts) for parts in zip(*(part.split(lengths, dim=1) for part in read), strict=True)]
        fused = dict(zip(entering, pieces, strict=True))
        return Fused(self.readout(read), {**fused, **{name: streams[name] for name in self.shorten if name in streams}})
