"""Bottleneck fusion (MBT): streams exchange information through a few shared tokens in the trunk's last layers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from mmbert.contracts import Fusion, Layer, Trunk
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.masked import masked_mean, rows_with_any_stream, zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.layers.transformer import TransformerLayer, check_heads, init_xavier
from mmbert.types import Fused, Tokens


class Bottleneck(Fusion):
    """Multimodal bottleneck fusion: streams attend to shared bottleneck tokens in each of ``layers`` fused layers.

    MBT: [X_m, B_m] <- T_m([X_m, B]) for each stream m, then B <- the mean of B_m over the streams that the row has. The
    text passes through the trunk's last layers, every other stream through layers of this fusion. The new B is read
    from the next fused layer on, so that a single fused layer exchanges nothing. The summary is the mean of one pooled
    vector per stream that the row has, including the text. A row without text lacks the text stream.

    The trunk's layers are called one at a time, on padded rows. The bottleneck tokens follow the text, where local
    attention (ModernBERT) reaches them only from the end of the text.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        tokens: number of bottleneck tokens.
        layers: number of fused layers, the last of the trunk.
        heads: attention heads of the streams' layers.
        dropout: dropout rate of the streams' layers.
        pooling: how a stream's tokens are pooled to one vector.

    Reference:
        Nagrani et al. 2021, "Attention bottlenecks for multimodal fusion".
    """

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        tokens: Annotated[int, Ge(1)] = 4,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 4,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        check_heads(dim, heads)
        self.needs_layers = layers
        self.names = tuple(sorted(streams))
        self.readout = Readout(dim, pooling=pooling)
        if not self.names:
            return

        def stack() -> nn.ModuleList:
            return nn.ModuleList(TransformerLayer(dim, heads, dropout=dropout) for _ in range(layers))

        self.start = nn.Parameter(0.02 * torch.randn(tokens, dim))
        self.norms = ModulesByName({name: nn.LayerNorm(dim) for name in self.names})
        self.layers = ModulesByName({name: stack() for name in self.names})
        self.layers.apply(init_xavier)
        self.out = ModulesByName({name: nn.LayerNorm(dim) for name in self.names})

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        names = [name for name in self.names if name in streams]
        if not names:
            read = trunk(text)
            return Fused(self.readout(read), {"text": read})
        has_stream = rows_with_any_stream(streams.values(), text)
        fused = {"text": text._replace(values=zero_masked(text.values, text.mask))}
        for layer in trunk.layers[: -self.needs_layers]:
            fused["text"] = fused["text"]._replace(values=layer(fused["text"].values, text.mask))
        for name in names:
            values = zero_masked(streams[name].values, streams[name].mask)
            fused[name] = streams[name]._replace(values=self.norms[name](values))
        has_text = (text.unit >= 0).any(1) | ~has_stream
        present = torch.stack([has_text, *(streams[name].mask.any(1) for name in names)], dim=1)
        shared = self.start.expand(len(has_stream), -1, -1)
        for number, layer in enumerate(trunk.layers[-self.needs_layers :]):
            layers = [layer, *(cast(nn.ModuleList, self.layers[name])[number] for name in names)]
            results = [
                _fuse(call, stream, shared, has_stream) for call, stream in zip(layers, fused.values(), strict=True)
            ]
            fused = dict(zip(fused, (stream for stream, _ in results), strict=True))
            shared = self._exchange([written for _, written in results], present)
        for name in names:
            fused[name] = fused[name]._replace(values=self.out[name](fused[name].values))
        fused = {
            name: stream._replace(values=zero_masked(stream.values, stream.mask)) for name, stream in fused.items()
        }
        pooled = torch.stack([self.readout(stream) for stream in fused.values()], dim=1)
        return Fused(masked_mean(pooled, present), fused)

    def _exchange(self, written: Sequence[Tensor], present: Tensor) -> Tensor:
        """The mean bottleneck [batch, tokens, dim] over the ``present`` [batch, streams] streams."""
        return masked_mean(torch.stack(list(written), dim=1).flatten(2), present).unflatten(1, self.start.shape)


def _fuse(layer: Layer, stream: Tokens, shared: Tensor, has_stream: Tensor) -> tuple[Tokens, Tensor]:
    """Apply a layer to a stream and the bottleneck [batch, tokens, dim], concatenated.

    In rows without a stream besides the text (``has_stream`` [batch] is False) the bottleneck is masked: the text then
    passes through the plain trunk.
    """
    length = stream.mask.shape[1]
    mask = torch.cat([stream.mask, has_stream[:, None].expand(shared.shape[:2])], dim=1)
    values = layer(torch.cat([stream.values, shared], dim=1), mask)
    return stream._replace(values=values[:, :length]), values[:, length:]
