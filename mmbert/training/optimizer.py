"""The optimiser: AdamW over groups of parameters, each with its own learning rate and decay, and the schedule."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from mmbert.model import MMBert
from mmbert.recipe.training import OgmGe, Optim

FACETS = "trunk.facet."  # the names of those facets that are matrices begin so


def make_optimizer(model: MMBert, optim: Optim, ogm_ge: OgmGe | None = None) -> torch.optim.AdamW:
    """AdamW with bias correction.

    The trunk's own weights learn at ``lr.trunk``, pretrained parts of encoders at ``lr.pretrained``, everything new at
    ``lr.new``. Biases, norms, facets and other vectors are not decayed. The schedule scales the ``base_lr`` of a group.

    Args:
        model: whose learning parameters are optimised.
        optim: the recipe's section.
        ogm_ge: where it scales rates, the parameters that encode one stream have groups of their own, whose ``stream``
            names it.

    Reference:
        Loshchilov and Hutter 2019, Decoupled weight decay regularization. Mosbach et al. 2021, On the stability of
        fine-tuning BERT.
    """
    by_stream = ogm_ge is not None and ogm_ge.mode == "learning_rate"
    rates = {"trunk": optim.lr.trunk, "pretrained": optim.lr.pretrained, "new": optim.lr.new}
    streams = {
        id(parameter): name
        for name, part in stream_encoders(model).items()
        for parameter in part.parameters()
        if by_stream
    }
    groups: dict[tuple[str, bool, str], list[nn.Parameter]] = {}
    for origin, name, parameter in named_by_origin(model):
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith("bias") and not name.startswith(FACETS)
            groups.setdefault((origin, decays, streams.get(id(parameter), "")), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": rates[origin],
                "base_lr": rates[origin],
                "weight_decay": optim.weight_decay if decays else 0.0,
                **({"stream": stream} if by_stream else {}),
            }
            for (origin, decays, stream), parameters in groups.items()
        ],
        betas=optim.betas,
        fused=True,
    )


def stream_encoders(model: MMBert) -> dict[str, nn.Module]:
    """The module that encodes each stream and nothing else: the trunk encodes the text where it reads that alone.

    Args:
        model: any.
    """
    trunk = {"text": model.trunk} if model.fusion.reads_text_alone else {}
    return {**trunk, **model.encoders}


def named_by_origin(model: MMBert) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(origin, name, parameter) in the order of the model; the origin is ``trunk``, ``pretrained`` or ``new``.

    Args:
        model: any.
    """
    pretrained = {
        id(parameter)
        for encoder in model.encoders.values()
        if (part := encoder.pretrained()) is not None
        for parameter in part.parameters()
    }
    for name, parameter in model.named_parameters():
        if name.startswith("trunk.") and not name.startswith(FACETS):
            yield "trunk", name, parameter
        else:
            yield "pretrained" if id(parameter) in pretrained else "new", name, parameter


def learning_rate_factor(
    step: int, steps: int, *, warmup: float, schedule: Literal["linear", "cosine", "constant"]
) -> float:
    """The factor of the learning rate: a linear rise to 1, then a decay that would reach 0 after the last step.

    Args:
        step: 1 is the first.
        steps: of the run.
        warmup: the fraction of the steps in which the factor rises.
        schedule: of the decay.

    Example:
        >>> [round(learning_rate_factor(step, 10, warmup=0.2, schedule="linear"), 3) for step in (1, 2, 3, 10)]
        [0.5, 1.0, 1.0, 0.125]
    """
    rising = math.ceil(round(warmup * steps, 6))  # 0.07 * 100 is a little above 7
    if step <= rising:
        return step / rising
    decayed = (step - rising - 1) / max(steps - rising, 1)
    if schedule == "linear":
        return 1 - decayed
    if schedule == "cosine":
        return (1 + math.cos(math.pi * decayed)) / 2
    return 1.0
