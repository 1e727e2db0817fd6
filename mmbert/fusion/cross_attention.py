"""Gated cross-attention from the text to the streams, after the trunk."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.by_name import ModulesByName, ParametersByName
from mmbert.layers.masked import mean_token, rows_with_any_stream, zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.layers.transformer import check_heads
from mmbert.types import Fused, Tokens


class CrossAttention(Fusion):
    """Text tokens attend to each stream, then to each other, in ``layers`` rounds after the trunk.

    Directional attention as in MulT. Every residual branch is scaled by the tanh of a gate that starts at zero (as in
    Flamingo), so that training starts from the plain trunk. For a label that depends on text and stream only jointly
    (XOR) the gradient of zero gates is weak: start them at another value.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        layers: number of rounds.
        heads: attention heads.
        gate: initial value of the gates, before tanh.
        dropout: dropout rate of attention and feed-forward.
        pooling: how the text's tokens are pooled to one vector.

    Reference:
        Tsai et al. 2019, "Multimodal transformer for unaligned multimodal language sequences".
        Alayrac et al. 2022, "Flamingo: a visual language model for few-shot learning".
    """

    reads_text_alone = True

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 4,
        gate: float = 0.0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        check_heads(dim, heads)
        self.names = tuple(sorted(streams))
        self.readout = Readout(dim, pooling=pooling)
        rounds = layers if self.names else 0
        self.rounds = nn.ModuleList(_Round(dim, self.names, heads, gate, dropout) for _ in range(rounds))

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        read = trunk(text)
        plain, alone = read.values, mean_token(read)
        for attend_round in self.rounds:
            read = attend_round(read, streams)
        has_stream = rows_with_any_stream(streams.values(), text)
        read = read._replace(values=torch.where(has_stream[:, None, None], read.values, plain))
        return Fused(self.readout(read), {"text": read, **streams}, {"text": alone})


class _Round(nn.Module):
    """Cross-attention to each stream, self-attention and feed-forward, each scaled by a gate."""

    def __init__(self, dim: int, names: Sequence[str], heads: int, gate: float, dropout: float):
        super().__init__()
        self.names = names

        def attention() -> nn.MultiheadAttention:
            return nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)

        self.cross = ModulesByName({name: attention() for name in names})
        self.keys = ModulesByName({name: nn.LayerNorm(dim) for name in names})
        self.self_attention = attention()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim))
        self.cross_gates = ParametersByName({name: nn.Parameter(torch.full((), float(gate))) for name in names})
        self.self_gate = nn.Parameter(torch.full((), float(gate)))
        self.feed_gate = nn.Parameter(torch.full((), float(gate)))

    def forward(self, text: Tokens, streams: Mapping[str, Tokens]) -> Tokens:
        values = text.values
        for name in self.names:
            stream = streams.get(name) or Tokens(values[:, :1], torch.zeros_like(text.mask[:, :1]), text.unit[:, :1])
            keys = self.keys[name](zero_masked(stream.values, stream.mask))
            read = _attend(self.cross[name], self.norms[0](values), keys, stream.mask)
            values = values + self.cross_gates[name].tanh() * read
        normed = self.norms[1](values)
        values = values + self.self_gate.tanh() * _attend(self.self_attention, normed, normed, text.mask)
        values = values + self.feed_gate.tanh() * self.feed(self.norms[2](values))
        return text._replace(values=zero_masked(values, text.mask))


def _attend(attention: nn.Module, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """Attention of queries [batch, queries, dim] to keys [batch, keys, dim]; zeros for a row without a real key."""
    present = mask.any(1)
    hidden = ~(mask | ~present[:, None])  # a softmax without a key gives NaN
    read, _ = attention(queries, keys, keys, key_padding_mask=hidden, need_weights=False)
    return torch.where(present[:, None, None], read, 0.0)
