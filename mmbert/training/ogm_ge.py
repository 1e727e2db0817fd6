"""OGM-GE (Peng et al. 2022): slows the encoder of an input that learns faster than the others."""

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
    """The factor k of each stream.

    rho is the likelihood of a stream divided by the mean of the other streams, averaged over the tasks with several
    streams; k = 1 - tanh(alpha rho) where rho is above 1, else 1.

    Args:
        likelihoods: of a step, by ``task/stream``.
        alpha: strength of the modulation.

    Example:
        >>> stream_factors({"kind/text": 0.6, "kind/image": 0.2, "kind/sound": 0.2}, alpha=0.5)
        {'image': 1.0, 'sound': 1.0, 'text': 0.0948517463551336}

    Reference:
        Peng et al. 2022, Balanced multimodal learning via on-the-fly gradient modulation.
    """
    tasks: dict[str, dict[str, float]] = {}
    for name, likelihood in likelihoods.items():
        task, _, stream = name.partition("/")
        tasks.setdefault(task, {})[stream] = likelihood
    ratios: dict[str, list[float]] = {}
    for by_stream in tasks.values():
        for stream, likelihood in by_stream.items():
            others = [value for name, value in by_stream.items() if name != stream]
            if others and mean(others) > 0:  # zeros: a task without probabilities
                ratios.setdefault(stream, []).append(likelihood / mean(others))
    rho = {stream: mean(values) for stream, values in sorted(ratios.items())}
    return {stream: 1 - math.tanh(alpha * ratio) if ratio > 1 else 1.0 for stream, ratio in rho.items()}


class Modulation:
    """Modulates the encoder of each stream at each step, in the same way on all processes.

    In the mode ``learning_rate`` it scales the learning rate of the encoder, whose parameters have optimizer groups of
    their own. In the mode ``gradient`` it scales the gradient and adds noise (generalisation enhancement), whose
    variance is that of the gradient over the entries of each tensor, instead of its covariance over batches.

    The backward pass is linear, so a factor at the output of an encoder equals the same factor on the gradient of all
    its weights; there, the factor can be computed from the whole step, over all micro-batches and processes. Where the
    fusion feeds other inputs to the trunk, the trunk is not the encoder of a single stream and is not modulated.

    Args:
        model: whose encoders are modulated.
        options: the recipe's section.
        seed: of the run, for the noise.
    """

    def __init__(self, model: MMBert, options: OgmGe, seed: int):
        self.options, self.seed = options, seed
        self.encoders = stream_encoders(model)

    @torch.no_grad()
    def apply(self, outcome: Outcome, optimizer: Optimizer, step: int) -> dict[str, float]:
        """Modulate one step; called after its gradients are computed and its learning rates are set.

        Args:
            outcome: of the step.
            optimizer: of the model.
            step: of the run.

        Returns:
            The factor of each stream.
        """
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
