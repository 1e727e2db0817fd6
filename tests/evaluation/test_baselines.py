"""Constant, linear and boosting baselines: against scikit-learn, on planted signals, with missing values."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from mmbert.contracts import Processor, Processors
from mmbert.evaluation import baseline_models
from mmbert.evaluation.baseline_features import Features, text_features, value_features
from mmbert.evaluation.baseline_models import LabelledRows, fit_linear
from mmbert.evaluation.baselines import run_baselines
from mmbert.types import Sample
from tasks.classification import Classification, ClassificationLabel
from tasks.multilabel import Multilabel, MultilabelLabel
from tasks.regression import Regression, RegressionLabel
from tasks.tagging import Tagging, TaggingLabel


class Vector(Processor):
    """A list of numbers; an empty list is an absent value."""

    def __call__(self, value, rng=None):
        return {"values": torch.tensor(value, dtype=torch.float64)} if len(value) else {}

    def features(self, item):
        return item["values"].numpy()

    @classmethod
    def example(cls, rng):
        return list(rng.normal(size=3))


class Opaque(Vector):
    def features(self, item):
        return None


COLOURS = ("red", "green", "blue")


def samples(count=500, seed=0):
    """Samples whose text has the name of the colour, and whose number is the sum of the first two numbers."""
    rng = np.random.default_rng(seed)
    result = []
    for row in range(count):
        colour, numbers = COLOURS[rng.integers(3)], rng.normal(size=4)
        number = numbers[0] - 2 * numbers[1] + rng.normal() * 0.1
        inputs = {"name": f"a {colour} thing of {rng.integers(100)}", "numbers": list(numbers)}
        if row % 10 == 9:
            del inputs["numbers"]
        targets = {
            "colour": colour,
            "number": 100 + 10 * number,
            "signs": {"up": numbers[0] > 0, "red": colour == "red" if row % 3 else None},
            "tags": ["x"] * (row % 3 + 1) + ["y"] * (row % 2),
        }
        if row % 7 == 0:
            del targets["colour"]
        result.append(Sample(row, "fake", inputs, targets))
    return result


def prepared(rows):
    splits = {"train": rows[:300], "validation": rows[300:400], "test": rows[400:]}
    kinds = {
        "colour": (Classification, ClassificationLabel()),
        "number": (Regression, RegressionLabel()),
        "signs": (Multilabel, MultilabelLabel()),
        "tags": (Tagging, TaggingLabel()),
    }
    for name, (_, label) in kinds.items():
        label.fit([sample.targets[name] for sample in splits["train"] if name in sample.targets])
    tasks = {name: kind(8, label) for name, (kind, label) in kinds.items()}
    labels = {name: label for name, (_, label) in kinds.items()}
    return splits, Processors({"numbers": Vector()}, labels), {"name"}, tasks


@pytest.fixture(scope="module")
def rows():
    return list(run_baselines(*prepared(samples())))


def get(rows, task, baseline, inputs, split="test"):
    matches = [
        row for row in rows if (row.task, row.baseline, row.inputs, row.split) == (task, baseline, inputs, split)
    ]
    assert len(matches) == 1
    return matches[0]


def test_each_baseline_is_run_for_all_inputs_and_for_each(rows):
    both, ways = ("name", "numbers"), ("linear", "boosting")
    groups = [both, ("name",), ("numbers",)]
    expected = {(task, way, group) for task in ("colour", "number", "signs") for way in ways for group in groups}
    expected |= {(task, "constant", ()) for task in ("colour", "number", "signs", "tags")}
    assert {(row.task, row.baseline, row.inputs) for row in rows} == expected
    assert {row.split for row in rows} == {"validation", "test"}
    assert len(rows) == 2 * len(expected)


@pytest.mark.parametrize("baseline", ["linear", "boosting"])
def test_a_planted_signal_is_found_where_it_is_and_only_there(rows, baseline):
    assert get(rows, "colour", baseline, ("name",)).metrics["accuracy"] > 0.95
    assert get(rows, "colour", baseline, ("numbers",)).metrics["accuracy"] < 0.6
    assert get(rows, "number", baseline, ("numbers",)).metrics["r2"] > 0.7
    assert get(rows, "number", baseline, ("name",)).metrics["r2"] < 0.15
    assert get(rows, "signs", baseline, ("name", "numbers")).metrics["micro_f1"] > 0.85
    both = get(rows, "number", baseline, ("name", "numbers"))
    assert both.metrics["rmse"] < get(rows, "number", "constant", ()).metrics["rmse"]


def test_the_constant_is_the_mean_or_the_commonest_class(rows):
    train, test = samples()[:300], samples()[400:]
    mean = np.mean([sample.targets["number"] for sample in train])
    row = get(rows, "number", "constant", ())
    assert row.metrics["rmse"] == pytest.approx(np.std([s.targets["number"] - mean for s in test]), rel=0.05)
    assert torch.stack(list(row.predictions.values())).numpy() == pytest.approx(mean)
    tags = get(rows, "tags", "constant", ())
    share = np.mean([tag == "x" for sample in test for tag in sample.targets["tags"]])
    assert tags.metrics["accuracy"] == pytest.approx(share)


def test_predictions_carry_the_ids_of_the_labelled_rows(rows):
    labelled = [sample.id for sample in samples()[400:] if "colour" in sample.targets]
    for row in rows:
        if row.split == "test":
            assert list(row.predictions) == (labelled if row.task == "colour" else list(range(400, 500)))


def test_metrics_are_those_of_the_task(rows):
    _, processors, _, tasks = prepared(samples())
    for row in rows:
        items = [
            processors.targets[row.task](sample.targets[row.task])
            for sample in samples()
            if sample.id in row.predictions
        ]
        assert tasks[row.task].score(list(row.predictions.values()), items) == row.metrics


def test_two_runs_agree(rows):
    second_run = list(run_baselines(*prepared(samples())))
    assert [row.metrics for row in second_run] == [row.metrics for row in rows]


def test_inputs_without_features_leave_the_others_and_no_input_the_constant():
    splits, processors, texts, tasks = prepared(samples())
    opaque, some = Processors({"numbers": Opaque()}, processors.targets), {"number": tasks["number"]}
    assert {row.inputs for row in run_baselines(splits, opaque, texts, some)} == {(), ("name",)}
    assert {row.inputs for row in run_baselines(splits, opaque, (), some)} == {()}


def test_without_validation_labels_a_model_is_none_and_says_why_and_the_constant_is_scored():
    splits, processors, texts, tasks = prepared(samples())
    bare = [Sample(sample.id, "fake", sample.inputs, {}) for sample in splits["validation"]]
    tasks = {"colour": tasks["colour"]}
    rows = list(run_baselines({**splits, "validation": bare}, processors, texts, tasks))
    assert {row.split for row in rows} == {"test"}
    assert {row.baseline for row in rows if not row.failure} == {"constant"}
    reasons = {row.failure for row in rows if row.baseline != "constant"}
    assert len(reasons) == 1
    assert "the task 'colour' in the split 'validation'" in reasons.pop()


def dense(matrix):
    blocks = {split: [part[:, :2], sparse.csr_array(part[:, 2:])] for split, part in matrix.items()}
    return Features(blocks, matrix)


def problem(label, targets, rng):
    """Equal random features in every split, so that the result can be compared to scikit-learn."""
    features = rng.normal(size=(80, 6)).astype(np.float32)
    items = [label(target) for target in targets(features)]
    part = LabelledRows(np.arange(80), list(range(80)), items, label.collate(items))
    return features, {"train": part, "validation": part}


def test_linear_is_ridge_regression(monkeypatch):
    monkeypatch.setattr(baseline_models, "PENALTIES", (3.0,))
    label, rng = RegressionLabel(), np.random.default_rng(0)
    label.fit(rng.normal(size=50))
    features, known = problem(label, lambda x: x[:, 0] - x[:, 3] + rng.normal(size=80), rng)
    output = fit_linear(Regression(4, label), known, [dense({"train": features, "validation": features})])["train"]
    expected = Ridge(alpha=1.5).fit(features, known["train"].targets["target"])  # half the penalty
    np.testing.assert_allclose(output.numpy(), expected.predict(features), atol=5e-3)


def test_linear_is_multinomial_logistic_regression(monkeypatch):
    monkeypatch.setattr(baseline_models, "PENALTIES", (3.0,))
    label, rng = ClassificationLabel(), np.random.default_rng(0)
    label.fit("abc")
    features, known = problem(label, lambda x: ["abc"[k] for k in (x[:, :3] + rng.normal(size=(80, 3))).argmax(1)], rng)
    task = Classification(4, label)
    output = fit_linear(task, known, [dense({"train": features, "validation": features})])["train"]
    # the loss is divided by log 3, so the penalty has log 3 times the weight
    expected = LogisticRegression(C=1 / (3.0 * math.log(3)), tol=1e-8).fit(features, known["train"].targets["target"])
    np.testing.assert_allclose(task.predict(output).numpy(), expected.predict_proba(features), atol=5e-3)


def test_linear_is_one_against_the_rest_on_the_known_labels(monkeypatch):
    monkeypatch.setattr(baseline_models, "PENALTIES", (3.0,))
    label, rng = MultilabelLabel(), np.random.default_rng(0)
    label.fit([{"a": True, "b": False}])
    hide = rng.random((80, 2)) < 0.3

    def targets(x):
        true = x[:, :2] + x[:, 2:4] + rng.normal(size=(80, 2)) > 0
        hidden = np.where(hide, None, true)
        hidden[hide.all(1), 1] = False  # at least one label of a row is known
        return [dict(zip("ab", row, strict=True)) for row in hidden]

    features, known = problem(label, targets, rng)
    task = Multilabel(4, label)
    output = fit_linear(task, known, [dense({"train": features, "validation": features})])["train"]
    target, mask = known["train"].targets["target"].numpy(), known["train"].targets["known"].numpy()
    assert not mask.all()
    for column in range(2):
        some = mask[:, column]
        expected = LogisticRegression(C=1 / (3.0 * math.log(2)), tol=1e-8).fit(features[some], target[some, column])
        probabilities = task.predict(output)[:, column].numpy()
        np.testing.assert_allclose(probabilities, expected.predict_proba(features)[:, 1], atol=5e-3)


def test_the_penalty_is_chosen_on_validation():
    rng = np.random.default_rng(0)
    label = RegressionLabel()
    label.fit(rng.normal(size=50))
    features, known = problem(label, lambda x: x[:, 0], rng)
    noise = LabelledRows(known["train"].rows, known["train"].ids, [], {"target": torch.from_numpy(rng.normal(size=80))})
    block = [dense({"train": features, "validation": features})]
    spread = {
        name: float(fit_linear(Regression(4, label), {**known, "validation": part}, block)["train"].std())
        for name, part in (("signal", known["validation"]), ("noise", noise))
    }
    # ridge with the strongest penalty shrinks 80 rows of unit variance by 160 / (160 + 30), with the weakest hardly
    assert spread["noise"] < 0.9 * spread["signal"]


def test_text_features_learn_from_training_only_and_say_what_is_absent():
    texts = {"train": ["red apple", "green pear", None, ["red", "pear"]], "test": ["violet plum", None, "red pear"]}
    features = text_features(texts)
    wide, absent = features.linear["test"]
    assert absent.ravel().tolist() == [0, 1, 0]
    assert wide.shape[1] == features.linear["train"][0].shape[1]
    norms = np.sqrt(np.square(wide.toarray()).sum(1))
    assert norms[1] == 0
    assert norms[2] == pytest.approx(1, abs=1e-6)
    # words are joined to a text
    assert features.linear["train"][0][[3]].toarray() == pytest.approx(wide[[2]].toarray())
    assert features.trees["test"].shape == (3, features.trees["train"].shape[1])


@pytest.mark.parametrize("texts", [[None, ""], ["!", "?!"], ["one"] * 3, ["a"], [" ", "\0"]])
def test_degenerate_texts_give_finite_features(texts):
    features = text_features({"train": texts, "test": ["new", None]})
    assert all(np.isfinite(part).all() for part in features.trees.values())
    assert len(features.trees["test"]) == 2


def test_value_features_are_standardised_by_training_and_constant_columns_left_out():
    rng = np.random.default_rng(0)
    train = [[*row, 7.0] for row in rng.normal(5, 3, size=(50, 2))] + [None, []]
    features = value_features({"train": train, "test": [[5.0, 1e9, 8.0], [float("nan"), 5.0, 7.0], None]}, Vector())
    assert features is not None
    assert features.trees["train"].shape == (52, 3)  # two columns that vary and the indicator of absence
    assert features.trees["train"][:50, :2].mean(0) == pytest.approx([0, 0], abs=1e-6)
    assert features.trees["train"][:50, :2].std(0) == pytest.approx([1, 1], abs=1e-6)
    assert features.trees["train"][50:].tolist() == [[0, 0, 1]] * 2
    assert features.trees["test"][0, 1] == 10
    assert features.trees["test"][1, 0] == 0
    norms = np.square(features.linear["train"][0][:50]).sum(1)
    assert norms.mean() == pytest.approx(1, abs=1e-5)
