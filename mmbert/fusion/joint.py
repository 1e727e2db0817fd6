"""One sequence for all: the streams enter the trunk beside the text."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.masked import zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.layers.resampler import LongRowResampler
from mmbert.layers.transformer import check_heads
from mmbert.types import Fused, Tokens


class Joint(Fusion):
    """Puts the tokens of every stream into the trunk's own sequence, told apart by an input facet.

    As in MMBT and UniT. A row's stream of more than ``tokens`` tokens is
    resampled to as many, unless a task reads its units; streams that no task tags are handed on as encoded.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        tokens: how many of each stream enter the trunk at most.
        heads: how many the resampler's attention has.
        pooling: how the tokens of a row, of all streams, become one vector.

    Reference:
        Kiela et al. 2019, "Supervised multimodal bitransformers for classifying images and text".
        Hu and Singh 2021, "UniT: multimodal multitask learning with a unified transformer".
    """

    needs_layers = 1  # another trunk counts padding between text and streams as positions

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
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.names})
        self.facets = nn.ParameterDict({name: nn.Parameter(torch.zeros(dim)) for name in self.names})
        untagged = [name for name in self.names if not streams[name]]
        self.shorten = nn.ModuleDict({name: LongRowResampler(dim, tokens, heads) for name in untagged})

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
