"""Fewer tokens: learned queries read a stream into a fixed number of them."""

import torch
from torch import nn

from mmbert.layers.masked import zero_masked, zero_with_grad
from mmbert.types import Tokens


class Resampler(nn.Module):
    """Reads Tokens [batch, length, dim] into exactly ``tokens`` of them by cross-attention of learned queries.

    Rows without a real token stay without one. The units of resampled tokens are -1: never resample a stream that a
    task tags.

    Reference: Jaegle et al. 2021 (Perceiver) and Alayrac et al. 2022 (Flamingo), of whose resampler this is one layer.

    Args:
        dim: width of the tokens, a multiple of ``heads``.
        tokens: how many tokens a row has afterwards.
        heads: of the attention.
    """

    def __init__(self, dim: int, tokens: int, heads: int):
        super().__init__()
        self.tokens = tokens
        self.queries = nn.Parameter(torch.randn(tokens, dim) * dim**-0.5)
        self.norm = nn.LayerNorm(dim)
        self.attend = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.out = nn.LayerNorm(dim)

    def forward(self, stream: Tokens) -> Tokens:
        """The stream with ``tokens`` tokens a row, all of them masked where the row had none.

        Args:
            stream: tokens, values [batch, length, dim].
        """
        present = stream.mask.any(1)
        values = self.norm(zero_masked(stream.values, stream.mask))
        queries = self.queries.expand(len(values), -1, -1)
        hidden = ~(stream.mask | ~present[:, None])  # a softmax over nothing would give NaN
        read, _ = self.attend(queries, values, values, key_padding_mask=hidden, need_weights=False)
        mask = present[:, None].expand(-1, self.tokens)
        return Tokens(zero_masked(self.out(queries + read), mask), mask, stream.unit.new_full(mask.shape, -1))


class LongRowResampler(nn.Module):
    """Tokens [batch, length, dim] as at most ``tokens`` of them: only rows that have more are resampled.

    The other rows keep what they have, so that a row is the same in any batch.

    Args:
        dim: width of the tokens, a multiple of ``heads``.
        tokens: the most tokens that a row has afterwards.
        heads: of the attention.
    """

    def __init__(self, dim: int, tokens: int, heads: int):
        super().__init__()
        self.resample = Resampler(dim, tokens, heads)

    def forward(self, stream: Tokens) -> Tokens:
        """The stream with at most ``tokens`` tokens a row.

        Args:
            stream: tokens, values [batch, length, dim].
        """
        tokens = self.resample.tokens
        if stream.mask.shape[1] <= tokens:
            part = self.resample(stream.at(stream.unit.new_zeros(1)))  # every parameter takes part in every step
            return stream._replace(values=stream.values + zero_with_grad(part.values))
        first = stream.mask.int().argsort(dim=1, descending=True, stable=True)[:, :tokens]
        kept = Tokens(
            stream.values.take_along_dim(first[..., None], 1),
            *(part.take_along_dim(first, 1) for part in (stream.mask, stream.unit)),
        )
        read, long = self.resample(stream), stream.mask.sum(1) > tokens
        return Tokens(
            torch.where(long[:, None, None], read.values, zero_masked(kept.values, kept.mask)),
            *(torch.where(long[:, None], new, old) for new, old in zip(read[1:], kept[1:], strict=True)),
        )


class MissingToken(nn.Module):
    """Fills the rows of a stream that have no real token with one, the same for all of them, which no unit owns.

    Args:
        dim: width of the tokens.

    >>> absent = Tokens(torch.zeros(2, 3, 4), torch.tensor([[True] * 3, [False] * 3]), torch.arange(3).expand(2, 3))
    >>> MissingToken(4)(absent, 2).mask.tolist()
    [[True, True, True], [True, False, False]]
    """

    def __init__(self, dim: int):
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(dim))  # as BERT's own tokens start

    def forward(self, stream: Tokens | None, size: int) -> Tokens:
        """The stream with no row left empty; None stands for one that none of the ``size`` rows has.

        Args:
            stream: tokens, values [size, length, dim], or None.
            size: how many rows the batch has; only read where the stream is None.
        """
        if stream is None:
            mask = torch.ones(size, 1, dtype=torch.bool, device=self.token.device)
            return Tokens(self.token.expand(size, 1, -1), mask, torch.full_like(mask, -1, dtype=torch.int64))
        empty = torch.zeros_like(stream.mask)
        empty[:, 0] = ~stream.mask.any(1)
        values = torch.where(empty[..., None], self.token, stream.values)
        return Tokens(values, stream.mask | empty, torch.where(empty, -1, stream.unit))
