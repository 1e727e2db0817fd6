"""Perceiver fusion: latents attend to the tokens of all streams, after the trunk."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import nn

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.by_name import ModulesByName, ParametersByName
from mmbert.layers.masked import mean_token, rows_with_any_stream, zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.layers.resampler import Resampler
from mmbert.layers.transformer import TransformerLayer, check_heads, init_xavier
from mmbert.types import Fused, Tokens


class Perceiver(Fusion):
    """Latents attend to the encoded text tokens and to the tokens of every stream, then to each other.

    Perceiver IO whose output is the pooled latents. Each stream, including the text, has a learned facet. After the
    first cross-attention the cost does not depend on the number of tokens. Text and streams keep their own tokens.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        latents: number of latents.
        layers: number of self-attention layers over the latents.
        heads: attention heads.
        dropout: dropout rate of the self-attention layers.
        pooling: how the latents are pooled to one vector; and the text's tokens, in a row without streams.

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
        self.norms = ModulesByName({name: nn.LayerNorm(dim) for name in entering})
        self.facets = ParametersByName({name: nn.Parameter(torch.zeros(dim)) for name in entering})
        self.read = Resampler(dim, latents, heads)
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, dropout=dropout) for _ in range(layers))
        self.out = nn.LayerNorm(dim)
        self.apply(init_xavier)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        read = trunk(text)
        plain, alone = self.readout(read), {"text": mean_token(read)}
        if not streams:
            return Fused(plain, {"text": read}, alone)
        entering = [self._with_facet("text", read)]
        entering += [self._with_facet(name, streams[name]) for name in self.names if name in streams]
        latents = self.read(Tokens(*(torch.cat(parts, dim=1) for parts in zip(*entering, strict=True))))
        for layer in self.layers:
            latents = latents._replace(values=layer(latents.values, latents.mask))
        mixed = self.readout(latents._replace(values=self.out(latents.values)))
        has_stream = rows_with_any_stream(streams.values(), text)
        return Fused(torch.where(has_stream[:, None], mixed, plain), {"text": read, **streams}, alone)

    def _with_facet(self, name: str, stream: Tokens) -> Tokens:
        """A stream's tokens after a LayerNorm, plus the stream's facet."""
        return stream._replace(values=self.norms[name](zero_masked(stream.values, stream.mask)) + self.facets[name])
