"""Tests of multilabel classification: any number of labels per row."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from torch.nn import functional

from mmbert.errors import DataError, SampleError
from mmbert.types import Fused
from tasks.multilabel import Multilabel, MultilabelLabel

ROWS = [["b", "a"], [], ["a"], {"a": False, "c": True}, {"b": None, "c": np.False_}]


def fitted(rows=ROWS) -> MultilabelLabel:
    labels = MultilabelLabel()
    labels.fit(rows)
    return labels


def test_fit_counts_known_cases_only():
    labels = fitted()
    assert labels.classes == ["a", "b", "c"]
    assert labels.positives == [2, 1, 1]  # c: of the fourth row
    assert labels.negatives == [2, 2, 4]  # c: false in the three lists and in the fifth row


def test_a_list_says_all_and_a_mapping_what_it_names():
    labels = fitted()
    assert labels(["c"])["target"].tolist() == [0, 0, 1]
    assert labels(["c"])["known"].tolist() == [True, True, True]
    item = labels({"a": 1, "b": float("nan"), "c": False})
    assert item["target"].tolist() == [1, 0, 0]
    assert item["known"].tolist() == [True, False, True]
    assert labels([])["known"].all()


@pytest.mark.parametrize("value", [{}, {"a": None}])
def test_a_row_of_which_nothing_is_known_is_absent(value):
    assert fitted()(value) == {}


def test_true_labels_that_training_does_not_have_are_counted():
    labels = fitted([["round", "red"]])
    assert labels(["rouund", "red", "big"])["unseen"] == 2
    assert [*labels.unseen(["rouund", "red", "big"])] == ["rouund", "big"]
    assert labels({"rouund": True})["unseen"] == 1  # a row of nothing else is scored too
    assert labels({"rouund": False, "big": None}) == {}  # false is right, and None is unknown
    assert not labels.unseen({"rouund": False, "big": None})


@pytest.mark.parametrize("value", ["a", 3, None, {"a": 2}, {"a": "yes"}, [None]])
def test_what_is_no_set_of_labels_is_refused(value):
    with pytest.raises(SampleError, match="expected"):
        fitted()(value)


def test_no_label_at_all_is_refused():
    with pytest.raises(DataError, match="at least one label"):
        fitted([[], []])


def batch(rows=9):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(2, (rows, 3), generator=generator).float()
    known = torch.rand(rows, 3, generator=generator) < 0.7
    return output, target, known


def test_the_loss_is_cross_entropy_over_known_labels_in_bits():
    task = Multilabel(4, fitted())
    output, target, known = batch()
    expected = functional.binary_cross_entropy_with_logits(output[known], target[known].double(), reduction="sum")
    loss = task.loss(output, {"target": target, "known": known})
    torch.testing.assert_close(loss, expected / math.log(2))
    assert task.count({"target": target, "known": known}) == known.sum()
    zero = task.loss(torch.zeros(9, 3), {"target": target, "known": known})
    assert zero.item() == pytest.approx(int(known.sum()), rel=1e-6)  # an even guess costs 1 a label


def test_what_is_not_known_reaches_neither_loss_nor_gradient():
    task = Multilabel(4, fitted())
    output, target, known = batch()
    output.requires_grad_()
    task.loss(output, {"target": target, "known": known}).backward()
    assert (output.grad[~known] == 0).all()
    flipped = torch.where(known, target, 1 - target)
    assert task.loss(output, {"target": target, "known": known}) == task.loss(
        output, {"target": flipped, "known": known}
    )


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_positive_weight_is_a_power_of_the_ratio_of_false_to_true_cases(power):
    plain, weighted = Multilabel(4, fitted()), Multilabel(4, fitted(), positive_weight=power)
    output, _, _ = batch()
    for target, factor in ((torch.zeros(9, 3), [1, 1, 1]), (torch.ones(9, 3), [1, 2, 4])):
        for label in range(3):
            known = (torch.arange(3) == label).expand(9, -1)
            targets = {"target": target, "known": known}
            expected = factor[label] ** power * plain.loss(output, targets)
            torch.testing.assert_close(weighted.loss(output, targets), expected)
    balanced = fitted([["a"], ["b"]])
    targets = {"target": torch.ones(9, 2), "known": torch.ones(9, 2, dtype=torch.bool)}
    output = output[:, :2]
    assert Multilabel(4, balanced, positive_weight=power).loss(output, targets) == Multilabel(4, balanced).loss(
        output, targets
    )


def test_the_constant_is_the_frequency_and_finite_for_labels_without_a_case():
    task = Multilabel(4, fitted([["a", "b"], ["b"], ["b"], {"c": False}]))
    probabilities = task.predict(task.constant(Fused(torch.randn(1, 4), {})))[0]
    torch.testing.assert_close(probabilities, torch.tensor([1 / 3, 3 / 3.5, 0.5 / 4.5]))


def test_scores_agree_with_scikit_learn_where_all_is_known():
    generator = np.random.default_rng(0)
    task = Multilabel(4, fitted())
    true, probability = generator.random((40, 3)) < [0.5, 0.2, 0], generator.random((40, 3))
    score = score_of(task, probability, true, np.ones_like(true))
    assert next(iter(score)) == "micro_f1"
    assert score["micro_f1"] == pytest.approx(f1_score(true, probability > 0.5, average="micro"))
    assert score["macro_f1"] == pytest.approx(f1_score(true, probability > 0.5, average="macro", zero_division=0))
    assert score["average_precision"] == pytest.approx(average_precision_score(true.ravel(), probability.ravel()))


def test_scores_ignore_what_is_not_known():
    generator = np.random.default_rng(0)
    task = Multilabel(4, fitted())
    true, probability = generator.random((40, 3)) < 0.4, generator.random((40, 3))
    known = generator.random((40, 3)) < 0.5
    assert score_of(task, probability, true, known) == score_of(task, probability, true ^ ~known, known)
    noise = np.where(known, probability, generator.random((40, 3)))
    assert score_of(task, probability, true, known) == score_of(task, noise, true, known)


def score_of(task, probability, true, known):
    items = [
        {"target": torch.tensor(a, dtype=torch.float32), "known": torch.tensor(b)}
        for a, b in zip(true, known, strict=True)
    ]
    return task.score(list(torch.tensor(probability)), items)


def test_decoding_names_the_labels_above_one_half():
    assert Multilabel(4, fitted()).decode(torch.tensor([0.9, 0.5, 0.6])) == ["a", "c"]


@pytest.mark.parametrize(
    ("delimiter", "text"), [(",", "red, round"), (";", "red;round ;"), ("|", " round|red"), (" ", "red  round")]
)
def test_text_is_split_into_labels(delimiter, text):
    labels = MultilabelLabel(delimiter=delimiter)
    labels.fit([text, "sweet", ["red"]])
    assert labels.classes == ["red", "round", "sweet"]
    assert labels(text)["target"].tolist() == [1, 1, 0]
    assert labels(["red", "round"])["target"].equal(labels(text)["target"])
    assert labels("")["target"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", ["red, round", "red", "['red', 'round']"])
def test_text_without_a_delimiter_says_how_to_go_on(value):
    with pytest.raises(SampleError, match="Parquet hold lists; the option 'delimiter' of the task splits text"):
        MultilabelLabel().fit([value])


def test_columns_of_0_and_1_are_a_mapping():
    labels = MultilabelLabel()
    labels.fit([{"toxic": 0, "rude": 1}, {"toxic": 1.0}, {"rude": False}])
    assert (labels.classes, labels.positives, labels.negatives) == (["rude", "toxic"], [1, 1], [1, 1])
