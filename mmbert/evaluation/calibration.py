"""Calibration of probabilities: expected calibration error, Brier score, log loss, temperature scaling."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax

BINS = 15
TEMPERATURES = (0.05, 20.0)  # the range that is searched


class Calibration(NamedTuple):
    """Measures of calibration; lower is better, 0 for a predictor that is certain and right.

    Attributes:
        ece: expected calibration error; 0 also for a calibrated predictor that is not certain.
        brier: mean squared error of the probabilities.
        nll: negative log-likelihood in nats.
    """

    ece: float
    brier: float
    nll: float


def ece(confidence: np.ndarray, hit: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: the mean of |share of hits - mean confidence| over bins, weighted by their size.

    Args:
        confidence: probability of each prediction, [any].
        hit: whether it is right, [any].
        bins: number of bins of equal width, closed above.

    Example:
        >>> ece(np.full(4, 0.75), np.array([True, True, True, False]))
        0.0

    Reference:
        Guo et al. 2017, "On calibration of modern neural networks".
    """
    members = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(members, hit, bins) - np.bincount(members, confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))


def class_calibration(logits: np.ndarray, target: np.ndarray, temperature: float = 1.0) -> Calibration:
    """Calibration of class probabilities.

    Args:
        logits: [rows, classes].
        target: true classes, int [rows].
        temperature: divides the logits.

    Returns:
        ``ece`` of the likeliest class; ``brier`` summed over classes (Brier 1950).
    """
    logs = log_softmax(logits / temperature, 1)
    probabilities = np.exp(logs)
    rows = np.arange(len(target))
    true = np.zeros_like(probabilities)
    true[rows, target] = 1
    return Calibration(
        ece(probabilities.max(1), probabilities.argmax(1) == target),
        float(np.square(probabilities - true).sum(1).mean()),
        float(-logs[rows, target].mean()),
    )


def label_calibration(
    logits: np.ndarray, target: np.ndarray, known: np.ndarray, temperature: float = 1.0
) -> Calibration:
    """Calibration of binary labels; each known label of each row is one prediction.

    Args:
        logits: [rows, labels].
        target: 0 or 1, [rows, labels].
        known: which targets are known, bool [rows, labels].
        temperature: divides the logits.

    Returns:
        ``ece`` and ``brier`` of the probability that a label is true.
    """
    scaled, true = logits[known] / temperature, target[known] > 0.5
    probability = expit(scaled)
    nll = -np.where(true, log_expit(scaled), log_expit(-scaled))
    return Calibration(ece(probability, true), float(np.square(probability - true).mean()), float(nll.mean()))


def calibration(
    logits: np.ndarray, target: np.ndarray, known: np.ndarray | None = None, *, temperature: float = 1.0
) -> Calibration:
    """Calibration of classes or, where ``known`` is passed, of binary labels.

    Args:
        logits: [rows, classes] or [rows, labels].
        target: int [rows] or 0 and 1, [rows, labels].
        known: which labels are known, bool [rows, labels]; None for classes.
        temperature: divides the logits.
    """
    if known is None:
        return class_calibration(logits, target, temperature)
    return label_calibration(logits, target, known, temperature)


def best_temperature(logits: np.ndarray, target: np.ndarray, known: np.ndarray | None = None) -> float:
    """The temperature in ``TEMPERATURES`` that minimises ``nll`` (Guo et al. 2017).

    Where every prediction is right it is the lower end of that range.

    Args:
        logits: [rows, classes] or [rows, labels].
        target: int [rows] or 0 and 1, [rows, labels].
        known: which labels are known, bool [rows, labels]; None for classes.

    Example:
        >>> logits = np.log([[0.75, 0.25]] * 4)
        >>> round(best_temperature(3 * logits, np.array([0, 0, 0, 1])), 4)
        3.0
    """

    def loss(log_temperature: float) -> float:
        return calibration(logits, target, known, temperature=float(np.exp(log_temperature))).nll

    bounds = np.log(TEMPERATURES)
    log_temperature: float = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x
    return float(np.exp(log_temperature))
