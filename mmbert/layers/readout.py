"""One vector a row from the tokens of a stream."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmbert.layers.masked import hide, masked_mean
from mmbert.types import Tokens

Pooling = Literal["mean", "cls", "attention"]


class Readout(nn.Module):
    """Pools Tokens [batch, length, dim] to [batch, dim]; rows without a real token give zeros.

    ``mean`` over real tokens, ``cls`` the first token, ``attention`` a softmax of a learned query over real tokens
    (a zero query, as at the start, is the mean).
    """

    def __init__(self, dim: int, *, pooling: Pooling = "mean"):
        super().__init__()
        self.pooling = pooling
        self.query = nn.Parameter(torch.zeros(dim)) if pooling == "attention" else None

    def forward(self, tokens: Tokens) -> Tensor:
        values, mask = hide(tokens.values, tokens.mask), tokens.mask
        if self.pooling == "cls":
            return values[:, 0]
        if self.query is None:
            return masked_mean(values, mask)
        scores = (values @ self.query / values.shape[-1] ** 0.5).masked_fill(~mask, float("-inf"))
        scores = scores.masked_fill(~mask.any(1, keepdim=True), 0.0)  # a row of only -inf would give NaN
        return torch.einsum("bl,bld->bd", torch.where(mask, scores.softmax(1), 0.0), values)
