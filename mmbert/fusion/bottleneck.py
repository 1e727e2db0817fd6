"""The streams exchange through a few shared tokens alone, in the last layers of the trunk."""

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from mmbert.contracts import Fusion, Layer, Trunk
from mmbert.layers.masked import masked_mean, rows_with_any_stream, zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.layers.transformer import TransformerLayer, check_heads, init_xavier
from mmbert.types import Fused, Tokens


class Bottleneck(Fusion):
    """Each stream reads and writes a few bottleneck tokens beside its own, in each of ``layers`` fused layers.

    MBT: [X_m, B_m] <- T_m([X_m, B]) for each stream m, then B <- the mean of B_m over what the
    row has. The text goes through the trunk's own last layers, every other stream through layers of this fusion. What a
    stream wrote is read from the next fused layer on: a single one lets nothing across. The summary is the mean over
    the streams of a row, the text among them, of one vector each. A row without text is one without this stream.

    The trunk's layers are called one by one, on padded rows. The bottleneck tokens stand behind the text, where local
    attention (ModernBERT) reaches them from its end only.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        tokens: how many the bottleneck has.
        layers: how many of the trunk's last ones are fused.
        heads: how many the streams' attention has.
        dropout: rate inside the streams' layers.
        pooling: how the tokens of a stream become one vector.

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
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.names})
        self.layers = nn.ModuleDict({name: stack() for name in self.names})
        self.layers.apply(init_xavier)
        self.out = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.names})

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        names = [name for name in self.names if name in streams]
        if not names:
            read = trunk(text)
            return Fused(self.readout(read), {"text": read})
        some = rows_with_any_stream(streams.values(), text)
        fused = {"text": text._replace(values=zero_masked(text.values, text.mask))}
        for layer in trunk.layers[: -self.needs_layers]:
            fused["text"] = fused["text"]._replace(values=layer(fused["text"].values, text.mask))
        for name in names:
            values = zero_masked(streams[name].values, streams[name].mask)
            fused[name] = streams[name]._replace(values=self.norms[name](values))
        written = (text.unit >= 0).any(1) | ~some
        present = torch.stack([written, *(streams[name].mask.any(1) for name in names)], dim=1)
        shared = self.start.expand(len(some), -1, -1)
        for number, layer in enumerate(trunk.layers[-self.needs_layers :]):
            layers = [layer, *(cast(nn.ModuleList, self.layers[name])[number] for name in names)]
            both = [_beside(one, stream, shared, some) for one, stream in zip(layers, fused.values(), strict=True)]
            fused = dict(zip(fused, (stream for stream, _ in both), strict=True))
            shared = self._exchange([wrote for _, wrote in both], present)
        for name in names:
            fused[name] = fused[name]._replace(values=self.out[name](fused[name].values))
        fused = {
            name: stream._replace(values=zero_masked(stream.values, stream.mask)) for name, stream in fused.items()
        }
        pooled = torch.stack([self.readout(stream) for stream in fused.values()], dim=1)
        return Fused(masked_mean(pooled, present), fused)

    def _exchange(self, wrote: Sequence[Tensor], present: Tensor) -> Tensor:
        """The mean over what is ``present`` [batch, streams] of what each stream wrote: [batch, tokens, dim]."""
        return masked_mean(torch.stack(list(wrote), dim=1).flatten(2), present).unflatten(1, self.start.shape)


def _beside(layer: Layer, stream: Tokens, shared: Tensor, some: Tensor) -> tuple[Tokens, Tensor]:
    """A stream and the bottleneck [batch, tokens, dim] behind one layer that reads both.

    Where no stream besides the text is there (``some`` [batch] is False), the bottleneck is masked: the text then
    takes its way through the plain trunk.
    """
    length = stream.mask.shape[1]
    mask = torch.cat([stream.mask, some[:, None].expand(shared.shape[:2])], dim=1)
    values = layer(torch.cat([stream.values, shared], dim=1), mask)
    return stream._replace(values=values[:, :length]), values[:, length:]
