"""Whether probabilities mean what they say: calibration error, Brier score, log loss, and a temperature that helps."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax

BINS = 15
RANGE = (0.05, 20.0)  # of temperatures


class Calibration(NamedTuple):
    """All three are 0 for a predictor that is sure of what is true, and only ``ece`` for others that are calibrated."""

    ece: float
    brier: float
    nll: float  # nats


def ece(confidence: np.ndarray, hit: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error: the mean of |share of hits - mean confidence| over bins, weighted by their size.

    Bins of equal width, closed above (Guo et al. 2017). Of many predictions, [any] each.

    >>> ece(np.full(4, 0.75), np.array([True, True, True, False]))
    0.0
    """
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, hit, bins) - np.bincount(places, confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))


def of_classes(logits: np.ndarray, target: np.ndarray, temperature: float = 1.0) -> Calibration:
    """Of logits [rows, classes] and true classes [rows].

    ``ece`` is that of the likeliest class, ``brier`` the squared error summed over classes (Brier 1950).
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


def of_labels(logits: np.ndarray, target: np.ndarray, known: np.ndarray, temperature: float = 1.0) -> Calibration:
    """Of logits and truths [rows, labels], 0 or 1, over what is ``known``: each label of each row is a prediction.

    ``ece`` is that of the probability of the label being true.
    """
    scaled, true = logits[known] / temperature, target[known] > 0.5
    probability = expit(scaled)
    nll = -np.where(true, log_expit(scaled), log_expit(-scaled))
    return Calibration(ece(probability, true), float(np.square(probability - true).mean()), float(nll.mean()))


def calibration(
    logits: np.ndarray, target: np.ndarray, known: np.ndarray | None = None, *, temperature: float = 1.0
) -> Calibration:
    """Of classes or, where ``known`` is given, of labels."""
    if known is None:
        return of_classes(logits, target, temperature)
    return of_labels(logits, target, known, temperature)


def best_temperature(logits: np.ndarray, target: np.ndarray, known: np.ndarray | None = None) -> float:
    """The temperature that minimises ``nll`` (Guo et al. 2017); of labels where ``known`` is given.

    It lies in ``RANGE``, at whose lower end it is where all is predicted right.

    >>> logits = np.log([[0.75, 0.25]] * 4)
    >>> round(best_temperature(3 * logits, np.array([0, 0, 0, 1])), 4)
    3.0
    """

    def loss(log_temperature: float) -> float:
        return calibration(logits, target, known, temperature=float(np.exp(log_temperature))).nll

    found: float = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-8}).x
    return float(np.exp(found))
