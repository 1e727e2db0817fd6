"""Late fusion by products: low-rank tensor fusion."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import mul
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.fusion.late import LateFusion
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.pooling import Pooling
from mmbert.types import Fused, Tokens


class LMF(Fusion):
    """Low-rank multimodal fusion (LMF), a factorised tensor fusion network.

    sum_r w_r * prod_m F_m^(r) [1; z_m], where z_m is a pooled and normalised stream or the text: a sum of ``rank``
    elementwise products. It equals a linear map of the outer product of all [1; z_m], which holds the products of every
    subset of inputs, without building that tensor. A LayerNorm follows, since the product of many learned factors would
    otherwise grow into the thousands.

    An absent input is [1; 0]: products with it vanish, those without it remain. The trunk reads only the text, and the
    tokens of each stream are returned as they came. The trunk runs for rows with text, and for rows with no input at
    all.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        rank: how many products are summed.
        pooling: how each stream is pooled to one vector.

    Reference:
        Liu et al. 2018, "Efficient low-rank multimodal fusion with modality-specific factors".
        Zadeh et al. 2017, "Tensor fusion network for multimodal sentiment analysis".
    """

    reads_text_alone = True

    def __init__(
        self,
        dim: int,
        streams: Mapping[str, bool],
        *,
        rank: Annotated[int, Ge(1)] = 4,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        self.late = LateFusion(dim, streams, partial(LowRank, rank=rank), pooling=pooling)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        return self.late(trunk, text, streams)


class LowRank(nn.Module):
    """Vectors [batch, names, dim], zero where absent -> [batch, dim].

    A factor is a linear layer [rank * dim, dim] whose bias is the column of F for the constant 1. Biases start at one
    and weights at a variance of 1 / (dim * names): for z of unit variance the second moment of a product is
    (1 + 1 / names)^names, below e for any number of names. With the usual biases near zero it would shrink as
    3^-names, the product of all inputs would dominate at the start, and an absent input would multiply the others by
    noise.

    Args:
        dim: width of the vectors and of the result.
        names: names of all streams, the text first.
        rank: how many products are summed.
    """

    def __init__(self, dim: int, names: Sequence[str], *, rank: int):
        super().__init__()
        factors = {name: nn.Linear(dim, rank * dim) for name in names}
        for factor in factors.values():
            nn.init.normal_(factor.weight, std=(dim * len(names)) ** -0.5)
            nn.init.ones_(factor.bias)
        self.factors = ModulesByName(factors)
        self.weights = nn.Parameter(torch.full((rank,), 1 / rank))
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        return self.norm(self.contract(vectors))

    def contract(self, vectors: Tensor) -> Tensor:
        """The sum of products before the LayerNorm: [batch, dim].

        Args:
            vectors: [batch, names, dim], in the order of the names, zero where absent.
        """
        rank = len(self.weights)
        pairs = zip(self.factors.values(), vectors.unbind(1), strict=True)
        products = reduce(
            mul, (factor(vector) for factor, vector in pairs)
        )  # the backward of torch.prod synchronises with the GPU
        return torch.einsum("r,brd->bd", self.weights, products.unflatten(-1, (rank, -1)))
