"""Exponential moving average of the trained weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of a model's trained parameters.

    ``update`` after each step: average <- decay * average + (1 - decay) * weights, where decay is at most
    (1 + steps) / (10 + steps), so that the first, random weights soon lose their share. Buffers are not averaged:
    running statistics are averages already. A ``decay`` of 0 switches the average off and costs nothing.

    Reference: Polyak and Juditsky 1992.

    Args:
        model: the model; parameters that require a gradient at construction are averaged.
        decay: upper bound of the decay, at least 0 and below 1.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(layer, 0.5)
    >>> with torch.no_grad():
    ...     old, new = layer.weight.clone(), layer.weight.add_(1.0)
    >>> average.update()
    >>> with average.applied():  # decay was 2 / 11
    ...     bool(torch.allclose(layer.weight, old + 9 / 11))
    True
    >>> bool((layer.weight == old + 1).all())
    True
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.steps = 0
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad and decay}
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._swapped = False

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights. Call it after each step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, weight in self.weights.items():
            self.average[name].lerp_(weight, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context manager in which the model's weights are the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """The average by parameter name, whether or not it is applied; not a copy."""
        return {name: tensor.detach() for name, tensor in (self.weights if self._swapped else self.average).items()}

    def raw(self) -> dict[str, Tensor]:
        """The trained weights by parameter name, whether or not the average is applied; not a copy."""
        return {name: tensor.detach() for name, tensor in (self.average if self._swapped else self.weights).items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Restore the average and its number of updates.

        Args:
            state: the average by parameter name, as ``state`` returns it.
            steps: the number of updates so far.

        Raises:
            KeyError: the state lacks a parameter.
        """
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self.steps = steps

    @torch.no_grad()
    def _swap(self) -> None:
        self._swapped = not self._swapped
        for name, weight in self.weights.items():
            average = self.average[name]
            trained = weight.clone()
            weight.copy_(average)
            average.copy_(trained)
