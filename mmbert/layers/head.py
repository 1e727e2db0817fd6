"""The head of a task: an MLP from a pooled vector to outputs."""

import torch
from torch import Tensor, nn


def build_head(dim: int, start: Tensor, *, hidden: int, dropout: float) -> nn.Sequential:
    """Dropout, an optional GELU layer of width ``hidden``, dropout, linear: [..., dim] -> [..., outputs].

    The bias of the last layer starts at ``start`` [outputs], the output of the constant predictor, so that training
    does not begin by learning frequencies. The weights of the last layer start small rather than at zero: initial
    outputs are within about .1 of ``start`` (for vectors of norm sqrt(dim)), and a gradient reaches the trunk from the
    first step on, which gradient balancing needs.

    Args:
        dim: width of the vectors that the head reads.
        start: the output of the constant predictor, tensor [outputs].
        hidden: width of the GELU layer; 0 for none.
        dropout: the probability that a value is dropped, before each linear layer.

    >>> build_head(8, torch.zeros(3), hidden=0, dropout=0.1)(torch.ones(2, 8)).shape
    torch.Size([2, 3])
    """
    between = [nn.Dropout(dropout), nn.Linear(dim, hidden), nn.GELU()] if hidden else []
    width = hidden or dim
    last = nn.Linear(width, len(start))
    nn.init.normal_(last.weight, std=0.1 * width**-0.5)
    with torch.no_grad():
        last.bias.copy_(start)
    return nn.Sequential(*between, nn.Dropout(dropout), last)
