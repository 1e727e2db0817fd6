"""Perturbed views of rows: which row's value of an input each row is shown. Pure functions of seed and sample ids.

A view maps each input to ``sources``, int64 [rows]: the row whose value is shown there, -1 for none. ``has`` maps each
input to bool [rows]: which rows have it. Draws are keyed by seed and sample id, so that neither the order of the rows
nor the other inputs change them, and they are nested: what is absent, or replaced, at one rate is so at every higher
rate.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmbert.data.keyed_random import draw_kept_names, uniform

NONE = -1
RATES = (0.2, 0.4, 0.6, 0.8, 1.0)

View = Mapping[str, Tensor]
Has = Mapping[str, Tensor]


def unchanged_view(has: Has) -> dict[str, Tensor]:
    """The view in which every row is shown its own values."""
    return {name: torch.where(present, torch.arange(len(present)), NONE) for name, present in has.items()}


def drop_at_random(has: Has, ids: Tensor, rate: float, seed: int) -> dict[str, Tensor]:
    """The view in which inputs are absent at random, but never all inputs of a row, as in training.

    Args:
        has: which rows have each input.
        ids: sample ids, int64 [rows].
        rate: the probability that an input of a row is absent. At rate 1 every row keeps one input, each with the same
            probability.
        seed: of the draws.

    Example:
        >>> has = {"image": torch.tensor([True, True]), "text": torch.tensor([True, False])}
        >>> drop_at_random(has, torch.tensor([7, 8]), 1.0, seed=0)
        {'image': tensor([0, 1]), 'text': tensor([-1, -1])}
    """
    view = unchanged_view(has)
    for row, sample in enumerate(ids.tolist()):
        names = {name for name, present in has.items() if present[row]}
        for name in names - draw_kept_names(names, rate, seed, sample, "missing"):
            view[name][row] = NONE
    return view


def corrupt_input(has: Has, ids: Tensor, name: str, rate: float, seed: int) -> dict[str, Tensor]:
    """The view in which one input is corrupted at random: the value of another row replaces it.

    This needs no knowledge of what the input is. At rate 1 all its values are permuted among the rows that have it and
    no row keeps its own; the score that is lost then is the input's perceptual score (Gat et al. 2021). Where only one
    row has the input, the value stays.

    Args:
        has: which rows have each input.
        ids: sample ids, int64 [rows].
        name: the input.
        rate: the probability that a row's value is replaced.
        seed: of the draws.

    Example:
        >>> corrupt_input({"text": torch.tensor([True, True])}, torch.tensor([7, 8]), "text", 1.0, seed=0)
        {'text': tensor([1, 0])}
    """
    view, samples = unchanged_view(has), ids.tolist()
    rows = has[name].nonzero().squeeze(1).tolist()
    order = sorted(rows, key=lambda row: uniform(seed, samples[row], name, "order"))
    for row, source in zip(order, order[1:] + order[:1], strict=True):
        if uniform(seed, samples[row], name, "exchanged") < rate:
            view[name][row] = source
    return view
