"""Dropout whose masks are cheap to draw on CPU, and one rate for every dropout of a model."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 1 << 16  # a rate is rounded to a multiple of 1 / LEVELS


class Dropout(nn.Dropout):
    """``nn.Dropout`` with masks of its own in training on CPU: the library's cost five times.

    Reference: Srivastava et al. 2014.

    >>> generator = torch.manual_seed(0)
    >>> Dropout(0.5)(torch.ones(5))
    tensor([2., 0., 0., 0., 0.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop values in training, else return them as they are.

        Args:
            input: values of any shape.
        """
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu":
            return super().forward(input)
        mask, scale = draw_mask(input.shape, self.p)
        return (input * mask).mul_(scale)


def draw_mask(shape: Sequence[int], rate: float) -> tuple[Tensor, float]:
    """A mask of ``shape`` on CPU, uint8, one where a value is kept; and the factor that keeps the expectation exact.

    The bits are 16 of PCG64 a value, whose seed is one draw from torch's generator: the same seed, the same mask.

    Args:
        shape: of the mask, any number of axes.
        rate: the probability that a value is dropped, rounded to a multiple of 1 / ``LEVELS``.
    """
    kept = min(max(round((1 - rate) * LEVELS), 1), LEVELS)
    size = math.prod(shape)
    words = np.random.PCG64(int(torch.randint(1 << 62, ()))).random_raw((size + 3) // 4)
    mask = words.view(np.uint16)[:size] <= np.uint16(kept - 1)
    # uint8 rather than bool: a product with bool has no vectorised kernel and costs four times as much
    return torch.from_numpy(mask.view(np.uint8)).view(*shape), LEVELS / kept


def replace_dropout(model: nn.Module) -> None:
    """Put ``Dropout`` in place of every plain ``nn.Dropout`` of a model; no name, weight or mode changes.

    Args:
        model: the model, changed in place.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give every dropout of a model, those inside attention included, the same rate.

    Args:
        model: the model, changed in place.
        rate: the probability that a value is dropped.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        for name in ("dropout", "attention_dropout"):  # attention keeps its rate as a number
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)
