"""Tests of classification: one label per row."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn import functional

from mmbert.errors import DataError, SampleError
from mmbert.preprocessing.labels import UNSEEN
from mmbert.types import Fused
from tasks.classification import Classification, ClassificationLabel


def fitted(values) -> ClassificationLabel:
    labels = ClassificationLabel()
    labels.fit(values)
    return labels


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([10, 9, np.int64(9)], [9, 10]),
        ([2.0, 1], [1, 2]),
        ([np.True_, False], [False, True]),
        (["1", 2], [2, "1"]),
    ],
)
def test_classes_are_sorted_whatever_the_order(values, classes):
    labels = fitted(values)
    assert labels.classes == fitted(reversed(values)).classes == classes
    assert [type(label) for label in labels.classes] == [type(label) for label in classes]
    assert [labels(label)["target"].item() for label in classes] == list(range(len(classes)))


@pytest.mark.parametrize(("training", "label"), [(["spam", "ham"], "spamm"), (range(5), 12), ([True, False], "True")])
def test_a_label_that_training_does_not_have_is_unseen(training, label):
    labels = fitted(training)
    assert labels(label)["target"] == UNSEEN
    assert [*labels.unseen(label)] == [label]
    assert not labels.unseen(labels.classes[0])


@pytest.mark.parametrize("value", [None, 1.5, float("nan"), ["a"], {"a": 1}])
def test_what_is_no_label_is_refused(value):
    with pytest.raises(SampleError, match="expected a label"):
        fitted(["a", "b"])(value)


@pytest.mark.parametrize("values", [[], ["a", "a"]])
def test_fewer_than_two_classes_are_refused(values):
    with pytest.raises(DataError, match="at least two classes"):
        fitted(values)


def test_the_loss_is_cross_entropy_over_log_classes():
    task = Classification(4, fitted("abc"))
    output, target = torch.randn(7, 3, dtype=torch.float64), torch.randint(3, (7,))
    expected = functional.cross_entropy(output, target, reduction="sum") / math.log(3)
    torch.testing.assert_close(task.loss(output, {"target": target}), expected)
    assert task.loss(torch.zeros(7, 3), {"target": target}).item() == pytest.approx(7)  # a uniform guess costs 1 a row


def test_smoothing_mixes_in_the_uniform_label():
    plain, smooth = Classification(4, fitted("abc")), Classification(4, fitted("abc"), label_smoothing=0.3)
    output, target = torch.randn(7, 3, dtype=torch.float64), torch.randint(3, (7,))
    uniform = sum(plain.loss(output, {"target": torch.full((7,), label)}) for label in range(3)) / 3
    expected = 0.7 * plain.loss(output, {"target": target}) + 0.3 * uniform
    torch.testing.assert_close(smooth.loss(output, {"target": target}), expected)


def test_the_constant_is_the_training_frequency():
    task = Classification(4, fitted("aaab"))
    probabilities = task.predict(task.constant(Fused(torch.randn(2, 4), {})))
    torch.testing.assert_close(probabilities, torch.tensor([[0.75, 0.25]] * 2))


def test_scores_and_decoding():
    task = Classification(4, fitted("abc"))
    predictions = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.8, 0.1, 0.1]])
    true = torch.tensor([0, 1, 2, 0])
    score = task.score(list(predictions), [{"target": label} for label in true])
    assert list(score) == ["accuracy", "macro_f1", "log_loss"]
    assert score["accuracy"] == 0.75
    assert score["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert score["log_loss"] == pytest.approx(log_loss(true, predictions.double().round(decimals=3)), rel=1e-6)
    assert task.decode(predictions[1]) == {"label": "b", "probability": pytest.approx(0.6)}
