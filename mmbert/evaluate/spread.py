"""How much what is read of an input differs from row to row, against its size."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mmbert.types import Tokens


class Moments(NamedTuple):
    """Sums over the rows that have an input, of their vectors and the squares of these, in float64 on the CPU."""

    name: str
    rows: int
    vectors: Tensor  # [dim]
    squares: float


def moments(name: str, token: Tokens) -> Moments:
    """Of the rows [batch, 1, dim] that are not masked."""
    vectors = token.values[token.mask].double().cpu()
    return Moments(name, len(vectors), vectors.sum(0), float(vectors.square().sum()))


def spread(parts: Iterable[Moments]) -> dict[str, float]:
    """The standard deviation of each input's vectors over their root mean square; none where two rows do not have it.

    0 where all are the same, or zero; 1 where their mean is zero.

    >>> same, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    >>> real = torch.ones(2, 1, dtype=torch.bool)
    >>> def of(*rows): return [moments("x", Tokens(torch.stack(rows), real, real.long()))]
    >>> spread(of(same, same)), spread(of(same, other))
    ({'x': 0.0}, {'x': 1.0})
    """
    found: dict[str, Moments] = {}
    for one in parts:
        before = found.get(one.name, Moments(one.name, 0, torch.zeros_like(one.vectors), 0.0))
        sums = before.rows + one.rows, before.vectors + one.vectors, before.squares + one.squares
        found[one.name] = Moments(one.name, *sums)
    return {name: _spread(one) for name, one in sorted(found.items()) if one.rows > 1}


def _spread(one: Moments) -> float:
    size = one.squares / one.rows
    variance = size - float((one.vectors / one.rows).square().sum())
    return 0.0 if size == 0 or variance < 0 else (variance / size) ** 0.5  # rounding can make it negative
