"""Late fusion by gates: a gated multimodal unit (GMU)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.fusion.late import LateFusion
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.pooling import Pooling
from mmbert.types import Fused, Tokens


class Gated(Fusion):
    """The gated multimodal unit (GMU), in its form for any number of inputs.

    sum p_m sigmoid(G_m[z]) * tanh(W_m z_m), where z_m is the pooled and normalised stream, p_m its presence and [z] the
    concatenation of all streams including the text, zero where absent. Inputs interact through the product of a gate
    that reads one of them with the values of another. The trunk reads only the text, and the
    tokens of each stream are returned as they came. The trunk runs for rows with text, and for rows with no input at
    all.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        pooling: how each stream is pooled to one vector.

    Reference:
        Arevalo et al. 2017, "Gated multimodal units for information fusion".
    """

    reads_text_alone = True

    def __init__(self, dim: int, streams: Mapping[str, bool], *, pooling: Pooling = "mean"):
        super().__init__()
        self.late = LateFusion(dim, streams, _GatedSum, pooling=pooling)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        return self.late(trunk, text, streams)


class _GatedSum(nn.Module):
    """Vectors [batch, names, dim], zero where absent, and their presence [batch, names] -> [batch, dim]."""

    def __init__(self, dim: int, names: Sequence[str]):
        super().__init__()
        self.maps = ModulesByName(
            {name: nn.Linear(dim, dim, bias=False) for name in names}
        )  # no bias, so that absent gives tanh(0) = 0
        self.gates = ModulesByName({name: nn.Linear(len(names) * dim, dim) for name in names})

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        together = vectors.flatten(1)
        parts = zip(self.gates.values(), self.maps.values(), vectors.unbind(1), strict=True)
        gated = [gate(together).sigmoid() * project(vector).tanh() for gate, project, vector in parts]
        return torch.stack(gated).sum(0)
