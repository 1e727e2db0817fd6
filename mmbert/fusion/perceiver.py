"""A few latent vectors read the tokens of all streams, behind the trunk."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import nn

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.masked import mean_token, rows_with_any_stream, zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.layers.resampler import Resampler
from mmbert.layers.transformer import TransformerLayer, check_heads, init_xavier
from mmbert.types import Fused, Tokens


class Perceiver(Fusion):
    """Latents attend to the text's tokens behind the trunk and to those of every stream, then to each other.

    Perceiver IO, whose output is read off the latents by ``pooling``. Each stream, the text among
    them, is told apart by a facet. What follows the first reading costs the same for any number of tokens. Text and
    streams keep their own tokens.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        latents: how many there are.
        layers: how many of self-attention over the latents.
        heads: how many each attention has.
        dropout: rate inside those layers.
        pooling: how the latents become one vector; and the text's tokens, in a row that has nothing else.

    Reference:
        Jaegle et al. 2021, "Perceiver IO: a general architecture for structured inputs & outputs".
    """

    reads_text_alone = True

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        latents: Annotated[int, Ge(1)] = 16,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 4,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        check_heads(dim, heads)
        self.names = tuple(sorted(streams))
        self.readout = Readout(dim, pooling=pooling)
        if not self.names:
            return
        entering = ("text", *self.names)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in entering})
        self.facets = nn.ParameterDict({name: nn.Parameter(torch.zeros(dim)) for name in entering})
        self.read = Resampler(dim, latents, heads)
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, dropout=dropout) for _ in range(layers))
        self.out = nn.LayerNorm(dim)
        self.apply(init_xavier)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        read = trunk(text)
        plain, alone = self.readout(read), {"text": mean_token(read)}
        if not streams:
            return Fused(plain, {"text": read}, alone)
        entering = [self._marked("text", read)]
        entering += [self._marked(name, streams[name]) for name in self.names if name in streams]
        latents = self.read(Tokens(*(torch.cat(parts, dim=1) for parts in zip(*entering, strict=True))))
        for layer in self.layers:
            latents = latents._replace(values=layer(latents.values, latents.mask))
        mixed = self.readout(latents._replace(values=self.out(latents.values)))
        some = rows_with_any_stream(streams.values(), text)
        return Fused(torch.where(some[:, None], mixed, plain), {"text": read, **streams}, alone)

    def _marked(self, name: str, stream: Tokens) -> Tokens:
        """A stream's tokens with its facet, all streams at one scale."""
        return stream._replace(values=self.norms[name](zero_masked(stream.values, stream.mask)) + self.facets[name])
