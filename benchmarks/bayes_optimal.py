"""Bayes-optimal accuracy on the samples of the source ``oracle``, exact, from every subset of the inputs."""

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from mmbert.data.keyed_random import Rate
from mmbert.data.sources.oracle import NOISE

Accuracies = dict[tuple[str, ...], float]  # the inputs that are there, in the order of their names -> accuracy


def joint_probabilities(carries: Mapping[str, str], flip: Rate) -> np.ndarray:
    """The joint probability [2, 2, ..., 2] of the label and of the bits shown by the inputs, in the order of names.

    ``carries`` and ``flip`` are those of ``OracleSource``.

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

    >>> best = bayes_accuracies({"image": "b", "text": "a"}, 0.1)
    >>> {inputs: round(accuracy, 3) for inputs, accuracy in best.items()}
    {(): 0.5, ('image',): 0.5, ('text',): 0.5, ('image', 'text'): 0.82}
    """
    return {names: float(part.max(0).sum()) for names, part in _parts(carries, flip).items()}


def additive_accuracies(carries: Mapping[str, str], flip: Rate) -> Accuracies:
    """The accuracy of the best predictor that only adds up scores of the single inputs, from each subset of them.

    Late fusions without interaction are such: 1 where the sum of a function of each input is positive, else 0. As an
    input shows one of two bits, these are the linear threshold functions of the bits. A mixed-integer program finds the
    best of them; meant for up to 5 inputs.

    >>> round(additive_accuracies({"image": "b", "text": "a"}, 0.1)["image", "text"], 3)
    0.66
    """
    return {names: _threshold(part) for names, part in _parts(carries, flip).items()}


def _parts(carries: Mapping[str, str], flip: Rate) -> dict[tuple[str, ...], np.ndarray]:
    """The joint probability [2, ...] of the label and each subset of the inputs."""
    whole, names = joint_probabilities(carries, flip), sorted(carries)
    places = range(len(names))
    subsets = [subset for size in range(len(names) + 1) for subset in combinations(places, size)]
    return {
        tuple(names[place] for place in subset): whole.sum(tuple(1 + place for place in places if place not in subset))
        for subset in subsets
    }


def _threshold(part: np.ndarray) -> float:
    """The accuracy of the best linear threshold function of the bits, given their joint probability with the label."""
    size = part.ndim - 1
    seen = np.array([*product((0, 1), repeat=size)]).reshape(2**size, size)
    zero, one = part.reshape(2, -1)
    # unknowns: an offset, a weight for each input, and for each observation whether the prediction is 1
    scores, largest = np.hstack([np.ones((len(seen), 1)), seen]), 2.0 * 2**size
    beyond = (size + 1) * largest + 1  # any score
    limits: Any = np.hstack([scores, -beyond * np.eye(len(seen))])  # of a score: above 1 where chosen, else below -1
    weights, choices = np.full(size + 1, largest), np.ones(len(seen))
    bounds: list[Any] = [np.concatenate([-weights, 0 * choices]), np.concatenate([weights, choices])]
    found = milp(
        np.concatenate([0 * weights, zero - one]),
        constraints=LinearConstraint(limits, 1 - beyond, -1),
        integrality=np.concatenate([0 * weights, choices]),
        bounds=Bounds(*bounds),
    )
    return float(np.where(found.x[size + 1 :] > 0.5, one, zero).sum())
