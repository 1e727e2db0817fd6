"""Perceiver resamplers, and a learned token for missing inputs."""

import torch
from torch import nn

from mmbert.layers.masked import zero_masked, zero_with_grad
from mmbert.types import Tokens


class Resampler(nn.Module):
    """Resamples [batch, length, dim] to [batch, tokens, dim] by cross-attention of learned queries.

    Rows without a real token stay masked. The units of resampled tokens are -1: never resample a stream that a
    task tags.

    Reference: Jaegle et al. 2021 (Perceiver); Alayrac et al. 2022 (Flamingo): this is one layer of its resampler.

    Args:
        dim: width of the tokens, a multiple of ``heads``.
        tokens: number of tokens per row of the result.
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
        """The stream with ``tokens`` tokens per row, all masked where the row had no real token.

        Args:
            stream: tokens, values [batch, length, dim].
        """
        present = stream.mask.any(1)
        values = self.norm(zero_masked(stream.values, stream.mask))
        queries = self.queries.expand(len(values), -1, -1)
        hidden = ~(stream.mask | ~present[:, None])  # a softmax without a key gives NaN
        read, _ = self.attend(queries, values, values, key_padding_mask=hidden, need_weights=False)
        mask = present[:, None].expand(-1, self.tokens)
        return Tokens(zero_masked(self.out(queries + read), mask), mask, stream.unit.new_full(mask.shape, -1))


class LongRowResampler(nn.Module):
    """Limits a stream to ``tokens`` tokens per row: only longer rows are resampled.

    Shorter rows keep their tokens, so that the result of a row does not depend on the rest of the batch.

    Args:
        dim: width of the tokens, a multiple of ``heads``.
        tokens: maximum number of tokens per row of the result.
        heads: of the attention.
    """

    def __init__(self, dim: int, tokens: int, heads: int):
        super().__init__()
        self.resample = Resampler(dim, tokens, heads)

    def forward(self, stream: Tokens) -> Tokens:
        """The stream with at most ``tokens`` tokens per row.

        Args:
            stream: tokens, values [batch, length, dim].
        """
        tokens = self.resample.tokens
        if stream.mask.shape[1] <= tokens:
            part = self.resample(stream.at(stream.unit.new_zeros(1)))  # every parameter takes part in every step (DDP)
            return stream._replace(values=stream.values + zero_with_grad(part.values))
        first = stream.mask.int().argsort(dim=1, descending=True, stable=True)[:, :tokens]
        leading = Tokens(
            stream.values.take_along_dim(first[..., None], 1),
            *(part.take_along_dim(first, 1) for part in (stream.mask, stream.unit)),
        )
        read, long = self.resample(stream), stream.mask.sum(1) > tokens
        return Tokens(
            torch.where(long[:, None, None], read.values, zero_masked(leading.values, leading.mask)),
            *(torch.where(long[:, None], new, old) for new, old in zip(read[1:], leading[1:], strict=True)),
        )


class MissingToken(nn.Module):
    """Fills rows of a stream that have no real token with one learned token, whose unit is -1.

    Args:
        dim: width of the tokens.

    >>> absent = Tokens(torch.zeros(2, 3, 4), torch.tensor([[True] * 3, [False] * 3]), torch.arange(3).expand(2, 3))
    >>> MissingToken(4)(absent, 2).mask.tolist()
    [[True, True, True], [True, False, False]]
    """

    def __init__(self, dim: int):
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(dim))  # BERT's initialisation

    def forward(self, stream: Tokens | None, size: int) -> Tokens:
        """The stream with one learned token in every empty row; None is a stream that is absent from all rows.

        Args:
            stream: tokens, values [size, length, dim], or None.
            size: number of rows of the batch; only read where the stream is None.
        """
        if stream is None:
            mask = torch.ones(size, 1, dtype=torch.bool, device=self.token.device)
            return Tokens(self.token.expand(size, 1, -1), mask, torch.full_like(mask, -1, dtype=torch.int64))
        empty = torch.zeros_like(stream.mask)
        empty[:, 0] = ~stream.mask.any(1)
        values = torch.where(empty[..., None], self.token, stream.values)
        return Tokens(values, stream.mask | empty, torch.where(empty, -1, stream.unit))
