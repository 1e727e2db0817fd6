"""Late fusion by products: the tensor of all inputs' products, in a low rank."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import mul
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmbert.contracts import Fusion, Trunk
from mmbert.fusion.late import LateFusion
from mmbert.layers.pooling import Pooling
from mmbert.types import Fused, Tokens


class LMF(Fusion):
    """Low-rank multimodal fusion, of the tensor fusion network.

    sum_r w_r * prod_m F_m^(r) [1; z_m], where z_m is the pooled and normed stream, the text among them: a sum of
    ``rank`` elementwise products. It is a linear map of the outer product of all [1; z_m], which holds the products of
    every subset of inputs, without building it. A LayerNorm follows: the product of many factors that learn would
    otherwise grow into the thousands.

    What is absent is [1; 0]: of the tensor, all products with it vanish and those without it stay. The trunk reads the
    text alone; streams keep their own tokens. A row without text skips the trunk, unless it has no stream either.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        rank: how many products are summed.
        pooling: how each stream becomes one vector.

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

    A factor is a linear layer [rank * dim, dim] whose bias is the column of F that meets the 1. Biases start at one and
    weights at a variance of 1 / (dim * names): for z of unit variance a product has the second moment
    (1 + 1 / names)^names, below e for any number of names. With the usual biases near zero it would shrink as
    3^-names, the product of all inputs would be nearly all there is at the start, and an absent input would multiply
    the others by noise.

    Args:
        dim: width of the vectors, and of the result.
        names: of all streams, the text first.
        rank: how many products are summed.
    """

    def __init__(self, dim: int, names: Sequence[str], *, rank: int):
        super().__init__()
        factors = {name: nn.Linear(dim, rank * dim) for name in names}
        for factor in factors.values():
            nn.init.normal_(factor.weight, std=(dim * len(names)) ** -0.5)
            nn.init.ones_(factor.bias)
        self.factors = nn.ModuleDict(factors)
        self.weights = nn.Parameter(torch.full((rank,), 1 / rank))
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        return self.norm(self.contract(vectors))

    def contract(self, vectors: Tensor) -> Tensor:
        """The sum of products, as in the papers.

        Args:
            vectors: [batch, names, dim], in the order of the names, zero where absent.
        """
        rank = len(self.weights)
        pairs = zip(self.factors.values(), vectors.unbind(1), strict=True)
        products = reduce(mul, (factor(vector) for factor, vector in pairs))  # torch.prod would wait for a GPU
        return torch.einsum("r,brd->bd", self.weights, products.unflatten(-1, (rank, -1)))
