"""The optimiser: AdamW over groups of parameters, each with its own learning rate and decay."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from mmbert.model import MMBert
from mmbert.recipe.training import OgmGe, Optim

FACETS = "trunk.facet."  # the names of those facets that are matrices begin so


def make_optimizer(model: MMBert, optim: Optim, ogm_ge: OgmGe | None = None) -> torch.optim.AdamW:
    """AdamW with bias correction (Loshchilov & Hutter 2019; Mosbach et al. 2021).

    The trunk's own weights learn at ``lr.trunk``, pretrained parts of encoders at ``lr.pretrained``, everything new at
    ``lr.new``. Biases, norms, facets and other vectors are not decayed. ``base_lr`` of a group is what the schedule
    scales. Where ``ogm_ge`` scales rates, what encodes a stream has groups of its own, whose ``stream`` names it.
    """
    apart = ogm_ge is not None and ogm_ge.mode == "learning_rate"
    rates = {"trunk": optim.lr.trunk, "pretrained": optim.lr.pretrained, "new": optim.lr.new}
    owner = {id(one): name for name, part in encoders(model).items() for one in part.parameters() if apart}
    groups: dict[tuple[str, bool, str], list[nn.Parameter]] = {}
    for origin, name, parameter in named_by_origin(model):
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith("bias") and not name.startswith(FACETS)
            groups.setdefault((origin, decays, owner.get(id(parameter), "")), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": rates[origin],
                "base_lr": rates[origin],
                "weight_decay": optim.weight_decay if decays else 0.0,
                **({"stream": stream} if apart else {}),
            }
            for (origin, decays, stream), parameters in groups.items()
        ],
        betas=optim.betas,
        fused=True,
    )


def encoders(model: MMBert) -> dict[str, nn.Module]:
    """What encodes each stream and nothing else: the trunk is the text's where it reads that alone."""
    alone = {"text": model.trunk} if model.fusion.reads_text_alone else {}
    return {**alone, **model.encoders}


def named_by_origin(model: MMBert) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(origin, name, parameter) in the order of the model; the origin is ``trunk``, ``pretrained`` or ``new``."""
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


def factor(step: int, steps: int, *, warmup: float, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """The factor of the learning rate at ``step`` (1 is the first) of ``steps``.

    It rises linearly to 1 over the first ``warmup`` (a fraction) of the steps, then falls to 0 behind the last step.

    >>> [round(factor(step, 10, warmup=0.2, schedule="linear"), 3) for step in (1, 2, 3, 10)]
    [0.5, 1.0, 1.0, 0.125]
    """
    rising = math.ceil(round(warmup * steps, 6))  # 0.07 * 100 is a little above 7
    if step <= rising:
        return step / rising
    done = (step - rising - 1) / max(steps - rising, 1)
    if schedule == "linear":
        return 1 - done
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1.0
