"""Two arms on the same examples: permutations over seeds, McNemar's test against its closed form, what is refused."""

import json
from math import comb

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mmbert.ablation.by_example import compare_by_example, mcnemar
from mmbert.errors import DataError, IntegrityError, RecipeError
from mmbert.evaluation.evaluate import Evaluation, RowsById
from mmbert.evaluation.predictions import PREDICTIONS_FILE, dump_predictions, load_predictions
from tasks.classification import Classification, ClassificationLabel
from tasks.regression import Regression, RegressionLabel

ROWS = 60


def task_of(cls, processor, training):
    processor.fit(training)
    return cls(4, processor)


def folder(path, task, labels, predictions, *, ids=None, groups=None, name="y"):
    """Write a run folder for a comparison, with predictions in two blocks; ``labels`` are raw."""
    ids = [*range(len(labels))] if ids is None else ids
    path.mkdir(parents=True)
    true = [
        int(task.labels(label)["target"]) if isinstance(label, str) else task.labels(label)["target"].item()
        for label in labels
    ]
    half = len(ids) // 2
    parts = [slice(half), slice(half, None)]
    evaluation = Evaluation(
        {},
        {},
        {},
        {name: RowsById([(torch.tensor(ids[part]), torch.as_tensor(predictions[part])) for part in parts])},
        {name: RowsById([(torch.tensor(ids[part]), {"target": torch.tensor(true[part])}) for part in parts])},
    )
    (path / PREDICTIONS_FILE).write_bytes(dump_predictions(evaluation, groups))
    lines = [json.dumps({"id": id, "true": {name: label}}) + "\n" for id, label in zip(ids, labels, strict=True)]
    (path / "examples.jsonl").write_text("".join(lines))
    return path


@pytest.fixture
def number():
    return task_of(Regression, RegressionLabel(), [0.0, 2.0])  # mean 1, deviation 1


@pytest.fixture
def kind():
    return task_of(Classification, ClassificationLabel(), ["apple", "pear", "apple"])


def guesses(labels, rng, rate):
    """Probabilities [rows, 2] whose likeliest class is right at this rate."""
    right = rng.random(len(labels)) < rate
    first = np.array([label == "apple" for label in labels]) == right
    return np.where(first[:, None], [0.9, 0.1], [0.2, 0.8])


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    return [["apple", "pear"][index] for index in rng.integers(2, size=ROWS)], rng


def compared(arm, reference, task, metric, **options):
    return compare_by_example(arm, reference, "y", metric, lambda path: task, **options)


@pytest.mark.parametrize(("gained", "lost"), [(6, 0), (9, 2), (3, 3), (1, 0), (40, 25)])
def test_mcnemar_follows_its_closed_form(gained, lost):
    first = np.array([True] * gained + [False] * lost + [True] * 5 + [False] * 4)
    second = np.array([False] * gained + [True] * lost + [True] * 5 + [False] * 4)
    n, least = gained + lost, min(gained, lost)
    expected = min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-12)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_without_a_row_that_one_alone_gets_right_p_is_1():
    assert mcnemar(np.array([True, False]), np.array([True, False])) == 1.0


def test_equal_runs_do_not_differ(tmp_path, kind):
    labels, rng = drawn()
    runs = {seed: folder(tmp_path / str(seed), kind, labels, guesses(labels, rng, 0.7)) for seed in (1, 2)}
    compared_runs = compared(runs, runs, kind, "log_loss", draws=10)
    assert compared_runs.difference == (0.0, None, None, 1.0, ROWS)
    assert compared_runs.mcnemar == {1: 1.0, 2: 1.0}
    assert (compared_runs.rows, compared_runs.groups) == (ROWS, ROWS)


def test_the_difference_is_that_of_the_means_over_seeds_and_has_the_arms_sign(tmp_path, kind):
    labels, rng = drawn()
    arms = {
        rate: {
            seed: folder(tmp_path / f"{rate} {seed}", kind, labels, guesses(labels, rng, rate)) for seed in (5, 2, 3)
        }
        for rate in (0.95, 0.6)
    }
    forward, backward = (
        compared(*pair, kind, "accuracy", draws=40) for pair in (arms.values(), [*arms.values()][::-1])
    )
    accuracy = {
        rate: np.mean(
            [
                kind.score(*(part.rows() for part in load_predictions(run / PREDICTIONS_FILE)["y"]))["accuracy"]
                for run in runs.values()
            ]
        )
        for rate, runs in arms.items()
    }
    assert forward.difference.difference == pytest.approx(accuracy[0.95] - accuracy[0.6])
    assert 0 < forward.difference.low < forward.difference.difference < forward.difference.high
    assert forward.difference.p == pytest.approx(1 / 41)
    assert (backward.difference.difference, backward.difference.low) == (
        pytest.approx(-forward.difference.difference),
        pytest.approx(-forward.difference.high),
    )
    assert [*forward.mcnemar] == [2, 3, 5]
    assert forward.mcnemar == backward.mcnemar
    assert max(forward.mcnemar.values()) < 0.01


def test_the_interval_of_a_mean_error_follows_normal_theory_and_groups_widen_it(tmp_path, number):
    rng = np.random.default_rng(0)
    size, common = 100, rng.normal(size=100) * 10  # shared by both arms: cancels in a paired test
    a, b = ([np.abs(common) + 20 + shift + rng.normal(size=size) for _ in (0, 1)] for shift in (0.2, 0.0))
    difference = np.mean(a, 0) - np.mean(b, 0)  # labels are 0 and predictions positive: the error is the prediction
    error = difference.std() / size**0.5

    def mae(times):
        groups = {row: row % size for row in range(size * times)}
        ours, theirs = (
            {
                seed: folder(
                    tmp_path / f"{times} {arm} {seed}",
                    number,
                    [0.0] * size * times,
                    np.tile(values, times),
                    groups=groups if times > 1 else None,
                )
                for seed, values in enumerate(runs)
            }
            for arm, runs in (("a", a), ("b", b))
        )
        return compared(ours, theirs, number, "mae", draws=500)

    once, thrice = mae(1), mae(3)
    assert once.mcnemar == {}
    assert once.difference.difference == pytest.approx(difference.mean())
    assert once.difference.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.15 * error)
    assert once.difference.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.15 * error)
    assert once.difference.p == pytest.approx(2 * norm.sf(abs(difference.mean()) / error), abs=0.03)
    assert (thrice.rows, thrice.groups) == (3 * size, size)
    width = once.difference.high - once.difference.low
    assert thrice.difference.high - thrice.difference.low == pytest.approx(width, rel=0.1)  # not divided by 3 ** 0.5


def test_each_run_is_scored_in_the_scale_and_order_of_its_own_labels(tmp_path):
    labels, rng = drawn()
    turned = task_of(Classification, ClassificationLabel(), ["zebra", "pear", "pear", "apple"])
    assert turned.labels.classes[:2] != ["pear", "apple"]  # three classes; the other run has two
    plain = task_of(Classification, ClassificationLabel(), ["apple", "pear"])
    values = guesses(labels, rng, 0.7)
    wide = np.zeros((ROWS, 3))
    for place, name in enumerate(plain.labels.classes):
        wide[:, turned.labels.classes.index(name)] = values[:, place]
    paths = folder(tmp_path / "a", turned, labels, wide), folder(tmp_path / "b", plain, labels, values)
    tasks = dict(zip(paths, (turned, plain), strict=True))
    comparison = compare_by_example({0: paths[0]}, {0: paths[1]}, "y", "accuracy", tasks.__getitem__, draws=20)
    assert (comparison.difference.difference, comparison.mcnemar) == (0.0, {0: 1.0})


def test_other_rows_are_refused(tmp_path, kind):
    labels, rng = drawn()
    values = guesses(labels, rng, 0.7)
    run = folder(tmp_path / "one", kind, labels, values)
    fewer = folder(tmp_path / "fewer", kind, labels[1:], values[1:])
    with pytest.raises(DataError, match="same rows, however: 0 only in the former, 1 only in the latter"):
        compared({0: fewer}, {0: run}, kind, "accuracy")
    with pytest.raises(DataError, match="same rows"):  # between seeds as well
        compared({0: run, 1: run}, {0: run, 1: fewer}, kind, "accuracy")


def test_other_labels_of_the_same_rows_are_refused(tmp_path, kind):
    labels, rng = drawn()
    changed = ["pear" if labels[0] == "apple" else "apple", *labels[1:]]
    paths = [
        folder(tmp_path / str(len(names)) / names[0], kind, names, guesses(labels, rng, 0.7))
        for names in (labels, changed)
    ]
    with pytest.raises(DataError, match=f"1 differs; sample 0 is '{changed[0]}' in the former and '{labels[0]}'"):
        compared({0: paths[1]}, {0: paths[0]}, kind, "accuracy")


def test_other_seeds_an_unknown_metric_and_an_unfinished_run_are_refused(tmp_path, kind):
    labels, rng = drawn()
    run = folder(tmp_path / "one", kind, labels, guesses(labels, rng, 0.7))
    with pytest.raises(RecipeError, match=r"same seeds, at least one; found \[0\] and \[1\]"):
        compared({0: run}, {1: run}, kind, "accuracy")
    with pytest.raises(RecipeError, match=r"found \[\] and \[\]"):
        compared({}, {}, kind, "accuracy")
    with pytest.raises(RecipeError, match=r"no metric 'macrof1'\. Did you mean 'macro_f1'"):
        compared({0: run}, {0: run}, kind, "macrof1")
    with pytest.raises(IntegrityError, match=r"no predictions of a task 'x'\. Valid: y"):
        compare_by_example({0: run}, {0: run}, "x", "accuracy", lambda path: kind)
    with pytest.raises(IntegrityError, match="cannot be read"):
        compared({0: tmp_path / "none"}, {0: run}, kind, "accuracy")
    (run / "examples.jsonl").write_text("{")
    with pytest.raises(IntegrityError, match="one' cannot be read"):
        compared({0: run}, {0: run}, kind, "accuracy")
