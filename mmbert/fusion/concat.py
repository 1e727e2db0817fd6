"""Late fusion: one pooled vector a stream, side by side, through a small network."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.layers.late import read_text
from mmbert.layers.masked import mean_token
from mmbert.layers.readout import Pooling, Readout
from mmbert.types import Fused, Tokens


class Concat(Fusion):
    """Concatenates the pooled streams and mixes them in one hidden layer (late fusion).

    A learned vector takes the place of what is absent. The trunk reads the text alone; streams keep their own tokens.
    A row without text skips the trunk, unless it has no stream either.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        hidden: width of the hidden layer; 0 for that of the trunk.
        dropout: before and behind the hidden layer.
        pooling: how each stream becomes one vector.
    """

    reads_text_alone = True

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        hidden: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        self.names = tuple(sorted(streams))
        self.readout = Readout(dim, pooling=pooling)
        if not self.names:
            return
        self.text_norm = nn.LayerNorm(dim)
        self.no_text = nn.Parameter(torch.zeros(dim))
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.names})
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(dim)) for name in self.names})
        width = hidden or dim
        self.mix = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(dim * (1 + len(self.names)), width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, dim),
        )

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        if not self.names:
            read = trunk(text)
            return Fused(self.readout(read), {"text": read}, {"text": mean_token(read)})
        parts, present = zip(*(self._part(name, streams, text) for name in self.names), strict=True)
        some = torch.stack(present).any(0)
        written = (text.unit >= 0).any(1)
        read = read_text(trunk, text, some)
        plain = self.readout(read)
        first = torch.where(written[:, None], self.text_norm(plain), self.no_text)
        mixed = self.mix(torch.cat([first, *parts], dim=1))
        fused = torch.where(some[:, None], mixed, plain)
        return Fused(fused, {"text": read, **streams}, {"text": mean_token(read)})

    def _part(self, name: str, streams: Mapping[str, Tokens], text: Tokens) -> tuple[Tensor, Tensor]:
        """A stream's vector [batch, dim] and which rows have it [batch]."""
        absent = self.absent[name].expand(len(text.mask), -1)
        if name not in streams:
            return absent, torch.zeros_like(text.mask[:, 0])
        present = streams[name].mask.any(1)
        return torch.where(present[:, None], self.norms[name](self.readout(streams[name])), absent), present
