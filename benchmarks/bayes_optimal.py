"""Bayes-optimal accuracy on the samples of the source ``oracle``, exact, from every subset of the inputs."""

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from mmbert.data.keyed_random import Rate
from mmbert.data.sources.oracle import NOISE

Accuracies = dict[tuple[str, ...], float]  # inputs in the order of their names -> accuracy


def joint_probabilities(carries: Mapping[str, str], flip: Rate) -> np.ndarray:
    """The joint probability [2, 2, ..., 2] of the label and of the bits that the inputs show, in the order of names.

    Args:
        carries: which hidden bit each input shows, as in ``OracleSource``.
        flip: the rate at which a shown bit is wrong, of all inputs or by input.

    Example:
        >>> joint_probabilities({"image": "a", "text": "a"}, 0.1)[1].round(3).tolist()
        [[0.005, 0.045], [0.045, 0.405]]
    """
    hidden, names = sorted({*carries.values()} - {NOISE}), sorted(carries)
    rates = flip if isinstance(flip, Mapping) else dict.fromkeys(names, flip)
    total = np.zeros((2,) * (1 + len(names)))
    for bits in product((0, 1), repeat=len(hidden)):
        cell = np.array(0.5 ** len(hidden))
        for name in names:
            rate = 0.5 if carries[name] == NOISE else rates.get(name, 0.0)
            right = bits[hidden.index(carries[name])] if carries[name] != NOISE else 0
            cell = np.multiply.outer(cell, [rate, 1 - rate] if right else [1 - rate, rate])
        total[sum(bits) % 2] += cell
    return total


def bayes_accuracies(carries: Mapping[str, str], flip: Rate) -> Accuracies:
    """The accuracy of the best predictor from each subset of the inputs, the empty one included.

    Args:
        carries: which hidden bit each input shows.
        flip: the rate at which a shown bit is wrong.

    Example:
        >>> best = bayes_accuracies({"image": "b", "text": "a"}, 0.1)
        >>> {inputs: round(accuracy, 3) for inputs, accuracy in best.items()}
        {(): 0.5, ('image',): 0.5, ('text',): 0.5, ('image', 'text'): 0.82}
    """
    return {names: float(joint.max(0).sum()) for names, joint in _marginals(carries, flip).items()}


def additive_accuracies(carries: Mapping[str, str], flip: Rate) -> Accuracies:
    """The accuracy of the best predictor that only sums scores of single inputs, from each subset of the inputs.

    Late fusions without interaction predict so: 1 where the sum of one function per input is positive, else 0. As an
    input shows a bit, these are the linear threshold functions of the bits. A mixed-integer program finds the best
    one; meant for up to 5 inputs.

    Args:
        carries: which hidden bit each input shows.
        flip: the rate at which a shown bit is wrong.

    Example:
        >>> round(additive_accuracies({"image": "b", "text": "a"}, 0.1)["image", "text"], 3)
        0.66
    """
    return {names: _best_threshold_accuracy(joint) for names, joint in _marginals(carries, flip).items()}


def _marginals(carries: Mapping[str, str], flip: Rate) -> dict[tuple[str, ...], np.ndarray]:
    """The joint probability [2, ...] of the label and each subset of the inputs."""
    joint, names = joint_probabilities(carries, flip), sorted(carries)
    marginals = {}
    for size in range(len(names) + 1):
        for subset in combinations(names, size):
            axes = tuple(1 + axis for axis, name in enumerate(names) if name not in subset)
            marginals[subset] = joint.sum(axes)
    return marginals


def _best_threshold_accuracy(joint: np.ndarray) -> float:
    """The accuracy of the best linear threshold function of the bits, given their joint probability with the label."""
    size = joint.ndim - 1
    observations = np.array([*product((0, 1), repeat=size)]).reshape(2**size, size)
    if_zero, if_one = joint.reshape(2, -1)
    # unknowns: an offset, a weight for each input, and for each observation whether the prediction is 1
    scores, largest = np.hstack([np.ones((len(observations), 1)), observations]), 2.0 * 2**size
    big = (size + 1) * largest + 1  # above any score
    limits: Any = np.hstack([scores, -big * np.eye(len(observations))])  # a score is above 1 where chosen, else < -1
    weights, choices = np.full(size + 1, largest), np.ones(len(observations))
    bounds: list[Any] = [np.concatenate([-weights, 0 * choices]), np.concatenate([weights, choices])]
    solution = milp(
        np.concatenate([0 * weights, if_zero - if_one]),
        constraints=LinearConstraint(limits, 1 - big, -1),
        integrality=np.concatenate([0 * weights, choices]),
        bounds=Bounds(*bounds),
    )
    return float(np.where(solution.x[size + 1 :] > 0.5, if_one, if_zero).sum())
