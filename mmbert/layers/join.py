"""From the items of an input to the rows of a batch."""

import torch
from torch import Tensor

from mmbert.types import Tokens


def join(tokens: Tokens, rows: Tensor, size: int) -> Tokens:
    """Put items [present, length, dim] into their ``rows`` (non-decreasing): [size, most items * length, dim].

    The items of a list repeat their row and stand one behind the other. Rows without an item are all masked.

    >>> one = Tokens(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.int64))
    >>> join(one, torch.tensor([1]), size=2).mask.tolist()
    [[False, False], [True, True]]
    """
    present, length, dim = tokens.values.shape
    first = torch.searchsorted(rows, rows)  # the index of each row's first item
    place = torch.arange(present, device=rows.device) - first  # of each item within its row
    slots = int(place.max()) + 1 if present else 1
    shape = (size, slots, length)
    values = tokens.values.new_zeros(*shape, dim).index_put((rows, place), tokens.values)
    mask = tokens.mask.new_zeros(shape).index_put((rows, place), tokens.mask)
    unit = tokens.unit.new_full(shape, -1).index_put((rows, place), tokens.unit)
    return Tokens(values.flatten(1, 2), mask.flatten(1), unit.flatten(1))
