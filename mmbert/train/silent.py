"""Noticing a head or an encoder that no gradient reaches."""

from collections.abc import Sequence

from torch import nn

from mmbert.model import MMBert
from mmbert.types import Batch

STEPS = 20  # without any gradient, although there were rows


class Silent:
    """Watches the parts whose gradient was exactly zero in every step so far in which they had rows.

    A part leaves the watch at its first gradient, so that a healthy model costs one look.
    """

    def __init__(self, model: MMBert):
        parts = {f"inputs.{name}": part for name, part in model.encoders.items()}
        parts |= {f"tasks.{name}": part for name, part in model.tasks.items()}
        self._steps = {name: 0 for name, part in parts.items() if _learning(part)}
        self._parts = parts

    def step(self, batches: Sequence[Batch]) -> list[str]:
        """The parts that have now been silent for ``STEPS`` steps; called before gradients are dropped."""
        if not self._steps:
            return []
        there = {f"inputs.{name}" for batch in batches for name in batch.inputs}
        there |= {f"tasks.{name}" for batch in batches for name in batch.targets}
        for name in self._steps.keys() & there:
            if any(weight.grad is not None and bool(weight.grad.any()) for weight in _learning(self._parts[name])):
                del self._steps[name]
            else:
                self._steps[name] += 1
        return sorted(name for name in there & self._steps.keys() if self._steps[name] == STEPS)


def _learning(part: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in part.parameters() if weight.requires_grad]
