"""One rate for every dropout of a model."""

from torch import nn


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give every dropout of a model, those inside attention included, the same rate."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        for name in ("dropout", "attention_dropout"):  # attention keeps its rate as a number
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)
