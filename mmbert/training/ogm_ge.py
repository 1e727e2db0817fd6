"""Slowing the encoder of an input that is ahead of the others: OGM-GE (Peng et al. 2022)."""

import math
from collections.abc import Mapping
from statistics import mean

import torch
from torch.optim import Optimizer

from mmbert.model import MMBert
from mmbert.recipe.training import OgmGe
from mmbert.training.optimizer import stream_encoders
from mmbert.training.step import Outcome, dropout_seed


def stream_factors(likelihoods: Mapping[str, float], alpha: float) -> dict[str, float]:
    """The factor k of each stream from the ``likelihoods`` of a step, by ``task/stream``.

    rho is a stream's likelihood over the mean of the other streams', itself a mean over the tasks that have several;
    k = 1 - tanh(alpha rho) where rho is above 1, else 1.

    >>> stream_factors({"kind/text": 0.6, "kind/image": 0.2, "kind/sound": 0.2}, alpha=0.5)
    {'image': 1.0, 'sound': 1.0, 'text': 0.0948517463551336}
    """
    tasks: dict[str, dict[str, float]] = {}
    for name, likelihood in likelihoods.items():
        task, _, stream = name.partition("/")
        tasks.setdefault(task, {})[stream] = likelihood
    ratios: dict[str, list[float]] = {}
    for by_stream in tasks.values():
        for stream, likelihood in by_stream.items():
            others = [value for name, value in by_stream.items() if name != stream]
            if others and mean(others) > 0:  # a task that gives no probability has zeros
                ratios.setdefault(stream, []).append(likelihood / mean(others))
    rho = {stream: mean(values) for stream, values in sorted(ratios.items())}
    return {stream: 1 - math.tanh(alpha * ratio) if ratio > 1 else 1.0 for stream, ratio in rho.items()}


class Modulation:
    """Scales what encodes each stream, step by step, alike on all processes.

    Under ``learning_rate`` its rate, in groups that ``make_optimizer`` keeps apart; under ``gradient`` its gradient, to
    which noise is added (generalisation enhancement) with the variance that the gradient had over the entries of each
    tensor, in place of its covariance over batches.

    A factor at an encoder's output is, the backward pass being linear, the same factor on the gradient of all its
    weights: there it can be known from the whole step, over all micro-batches and processes. Where a fusion has the
    trunk read more than the text, the trunk is no one's encoder and is left alone.
    """

    def __init__(self, model: MMBert, options: OgmGe, seed: int):
        self.options, self.seed = options, seed
        self.encoders = stream_encoders(model)

    @torch.no_grad()
    def apply(self, outcome: Outcome, optimizer: Optimizer, step: int) -> dict[str, float]:
        """The factor of each stream; called when the step's gradients are there and its learning rates are set."""
        factors = stream_factors(outcome.likelihoods, self.options.alpha)
        if self.options.mode == "learning_rate":
            for group in optimizer.param_groups:
                group["lr"] *= factors.get(group["stream"], 1.0)
            return factors
        for stream in factors.keys() & self.encoders.keys():
            for name, weight in self.encoders[stream].named_parameters():
                if weight.grad is not None:
                    generator = torch.Generator(weight.device)
                    generator.manual_seed(dropout_seed(self.seed, step, stream, name))
                    noise = torch.empty_like(weight.grad).normal_(generator=generator) * weight.grad.std(correction=0)
                    weight.grad.mul_(factors[stream]).add_(noise)
        return factors
