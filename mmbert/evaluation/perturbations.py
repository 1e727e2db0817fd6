"""Which row's value of an input each row is shown: its own, none, or another's. Pure functions of seed and sample ids.

A view maps each input to ``sources`` [rows] int64: the row whose value stands there; -1 for none. ``has`` maps each
input to the rows that have it [rows] bool. Choices are keyed by seed and sample id, so that neither the order of the
rows nor other inputs change them, and nested: what is absent, or exchanged, at one rate is so at every higher one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmbert.data.keyed_random import draw_kept_names, uniform

NONE = -1
RATES = (0.2, 0.4, 0.6, 0.8, 1.0)

View = Mapping[str, Tensor]
Has = Mapping[str, Tensor]


def whole(has: Has) -> dict[str, Tensor]:
    """Every row as it is."""
    return {name: torch.where(own, torch.arange(len(own)), NONE) for name, own in has.items()}


def missing(has: Has, ids: Tensor, rate: float, seed: int) -> dict[str, Tensor]:
    """Each input that a row has is absent with probability ``rate``, but never all of them, as in training.

    At rate 1 one is left in every row, each with the same probability.

    >>> has = {"image": torch.tensor([True, True]), "text": torch.tensor([True, False])}
    >>> missing(has, torch.tensor([7, 8]), 1.0, seed=0)
    {'image': tensor([0, 1]), 'text': tensor([-1, -1])}
    """
    view = whole(has)
    for row, sample in enumerate(ids.tolist()):
        names = {name for name, own in has.items() if own[row]}
        for name in names - draw_kept_names(names, rate, seed, sample, "missing"):
            view[name][row] = NONE
    return view


def exchanged(has: Has, ids: Tensor, name: str, rate: float, seed: int) -> dict[str, Tensor]:
    """One input of a row is corrupted with probability ``rate``: another row's stands in its place.

    This needs no knowledge of what the input is. At rate 1 all its values are permuted among the rows that have it,
    none of which keeps its own: what a score loses then is the input's perceptual score (Gat et al. 2021). Where only
    one row has the input it stays.

    >>> exchanged({"text": torch.tensor([True, True])}, torch.tensor([7, 8]), "text", 1.0, seed=0)
    {'text': tensor([1, 0])}
    """
    view, samples = whole(has), ids.tolist()
    rows = has[name].nonzero().squeeze(1).tolist()
    order = sorted(rows, key=lambda row: uniform(seed, samples[row], name, "order"))
    for row, other in zip(order, order[1:] + order[:1], strict=True):
        if uniform(seed, samples[row], name, "exchanged") < rate:
            view[name][row] = other
    return view
