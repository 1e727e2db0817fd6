"""A token that is learned for an input, and enters in its place where a row does not have it."""

import torch
from torch import nn

from mmbert.types import Tokens


class Missing(nn.Module):
    """Fills the rows of a stream that have no real token with one, the same for all of them, which no unit owns.

    >>> absent = Tokens(torch.zeros(2, 3, 4), torch.tensor([[True] * 3, [False] * 3]), torch.arange(3).expand(2, 3))
    >>> Missing(4)(absent, 2).mask.tolist()
    [[True, True, True], [True, False, False]]
    """

    def __init__(self, dim: int):
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(dim))  # as BERT's own tokens start

    def forward(self, stream: Tokens | None, size: int) -> Tokens:
        """The stream with no row left empty; None stands for one that none of the ``size`` rows has."""
        if stream is None:
            mask = torch.ones(size, 1, dtype=torch.bool, device=self.token.device)
            return Tokens(self.token.expand(size, 1, -1), mask, torch.full_like(mask, -1, dtype=torch.int64))
        empty = torch.zeros_like(stream.mask)
        empty[:, 0] = ~stream.mask.any(1)
        values = torch.where(empty[..., None], self.token, stream.values)
        return Tokens(values, stream.mask | empty, torch.where(empty, -1, stream.unit))
