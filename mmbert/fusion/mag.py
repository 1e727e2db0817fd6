"""Multimodal adaptation gate: the streams shift the text tokens between two layers of the trunk."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.dropout import Dropout
from mmbert.layers.masked import masked_mean, rows_with_any_stream, zero_masked
from mmbert.layers.pooling import Pooling, Readout
from mmbert.types import Fused, Tokens


class Mag(Fusion):
    """Multimodal adaptation gate: replaces each text token e by LN(e + alpha h) after one of the trunk's layers.

    h is the bias plus the sum over present streams of relu(G [e; z] + g) * (W z), and alpha = min(beta norm(e) /
    norm(h), 1), so that a token moves by at most ``beta`` times its norm. The paper has a vector z for each word; here
    z is the mean of the stream's tokens, shared by all text tokens. The trunk's layers are called one at a time, on
    padded rows.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``); they are returned as encoded.
        after: number of trunk layers below the gate; at least one must be above.
        beta: maximum norm of the shift, relative to the token's.
        dropout: dropout rate of the shifted tokens.
        pooling: how the text's tokens are pooled to one vector.

    Reference:
        Rahman et al. 2020, "Integrating multimodal information in large pretrained transformers".
    """

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        after: Annotated[int, Ge(1)] = 1,
        beta: Annotated[float, Ge(0)] = 1.0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        self.needs_layers = after + 1
        self.names = tuple(sorted(streams))
        self.after, self.beta = after, beta
        self.readout = Readout(dim, pooling=pooling)
        if not self.names:
            return
        self.shifts = ModulesByName({name: _Shift(dim) for name in self.names})
        self.bias = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        streams = {name: streams[name] for name in self.names if name in streams}
        if not streams:
            read = trunk(text)
            return Fused(self.readout(read), {"text": read})
        values = zero_masked(text.values, text.mask)
        for number, layer in enumerate(trunk.layers, start=1):
            values = layer(values, text.mask)
            if number == self.after:
                values = self._shift_tokens(values, text, streams)
        read = text._replace(values=zero_masked(values, text.mask))
        return Fused(self.readout(read), {"text": read, **streams})

    def _shift_tokens(self, values: Tensor, text: Tokens, streams: Mapping[str, Tokens]) -> Tensor:
        """The shifted text tokens [batch, length, dim]; unchanged in rows without a stream."""
        shift = self.bias
        for name, stream in streams.items():
            present = stream.mask.any(1)
            shift = shift + torch.where(present[:, None, None], self.shifts[name](values, stream), 0.0)
        shifted = self.dropout(self.norm(values + _scale(values, shift, self.beta) * shift))
        return torch.where(rows_with_any_stream(streams.values(), text)[:, None, None], shifted, values)


class _Shift(nn.Module):
    """The term of one stream in the shift of each token: relu(G [e; z] + g) * (W z)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate_of_text = nn.Linear(dim, dim)
        self.gate_of_stream = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)

    def forward(self, values: Tensor, stream: Tokens) -> Tensor:
        pooled = self.norm(masked_mean(stream.values, stream.mask))[:, None]
        return (self.gate_of_text(values) + self.gate_of_stream(pooled)).relu() * self.value(pooled)


def _scale(values: Tensor, shift: Tensor, beta: float) -> Tensor:
    """The factor alpha [batch, length, 1]: min(beta norm(values) / norm(shift), 1)."""
    longest = beta * torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    # clamped, since a division by zero has a NaN gradient even where the minimum is 1
    return (longest / torch.linalg.vector_norm(shift, dim=-1, keepdim=True).clamp(min=1e-6)).clamp(max=1.0)
