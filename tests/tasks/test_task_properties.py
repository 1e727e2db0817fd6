"""Contract tests of every task: sums over rows, the best constant, gradients, finite results."""

import json
import pickle

import numpy as np
import pytest
import torch

from mmbert.contracts import Task
from mmbert.registry import recipe_options
from mmbert.types import Fused, Tokens
from tasks import TASKS

DIM, ROWS = 6, 25  # odd: at the median of an even number the slope of the absolute error is 0
OPTIONS = {
    "classification": [{}, {"label_smoothing": 0.2}, {"hidden": 5}],
    "multilabel": [{}, {"positive_weight": 0.5}, {"hidden": 5}],
    "regression": [{}, {"objective": "mae"}, {"objective": "huber"}, {"hidden": 5}],
    "tagging": [{}, {"hidden": 5}],
}
CASES = [(name, case) for name, cases in OPTIONS.items() for case in cases]


def fused(rows: int = ROWS, length: int = 8) -> Fused:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, length, DIM, generator=generator, dtype=torch.float64)
    mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=generator)
    unit = (torch.arange(length) // 2).expand(rows, -1)
    return Fused(values.mean(1), {"text": Tokens(values, mask, torch.where(mask, unit, -1))})


def make_task(name: str, case: dict) -> tuple[Task, dict, list]:
    rng = np.random.default_rng(0)
    kind = TASKS.get(name)
    labels = kind.processor()
    raw = [kind.processor.example(rng) for _ in range(ROWS)]
    labels.fit(raw)
    items = [labels(value) for value in raw]
    torch.manual_seed(0)
    return kind(DIM, labels, **case).double().eval(), labels.collate(items), items


def test_every_task_is_among_the_cases():
    assert sorted(OPTIONS) == TASKS.names()


@pytest.mark.parametrize(("name", "case"), CASES)
def test_losses_and_counts_of_any_partition_add_up(name, case):
    task, targets, _ = make_task(name, case)
    at_once = task.loss(task(fused()), targets).item()
    parts, count = 0.0, 0
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    for rows in order.split([1, 4, 7, 13]):
        some = {key: tensor[rows] for key, tensor in targets.items()}
        parts += task.loss(task(fused().at(rows)), some).item()
        count += task.count(some)
    assert parts == pytest.approx(at_once, rel=1e-9)
    assert count == task.count(targets)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_constant_minimises_the_loss_on_training_labels(name, case):
    task, targets, _ = make_task(name, case)
    constant = task.constant(fused())
    # the slope of the loss along each output, by a small shift of all rows at once
    per_row = constant.ndim == 1  # one output a row, else the last axis has several
    for place in range(1 if per_row else constant.shape[-1]):
        for shift in (0.02, -0.02):
            moved = constant.clone()
            moved[... if per_row else (..., place)] += shift
            if name == "tagging" and place == constant.shape[-1] - 1:
                continue  # the channel of real units is no logit
            assert task.loss(moved, targets) >= task.loss(constant, targets) - 1e-7
    assert constant.shape == task(fused()).shape


@pytest.mark.parametrize(("name", "case"), CASES)
def test_training_starts_near_the_constant_predictor(name, case):
    task, targets, _ = make_task(name, case)
    start, constant = task.loss(task(fused()), targets), task.loss(task.constant(fused()), targets)
    assert start.item() == pytest.approx(constant.item(), rel=0.05)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_every_parameter_and_the_fused_vectors_learn_from_the_first_step(name, case):
    task, targets, _ = make_task(name, case)
    inputs = fused()
    read = inputs.streams["text"].values if name == "tagging" else inputs.summary
    read.requires_grad_()
    task.loss(task(inputs), targets).backward()
    assert read.grad is not None
    assert read.grad.abs().sum() > 0
    for parameter in task.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", OPTIONS)
def test_rows_do_not_influence_each_other(name):
    task, *_ = make_task(name, {})
    together = task.predict(task(fused()))
    for row in range(ROWS):
        alone = task.predict(task(fused().at(torch.tensor([row]))))[0]
        expected = together[row, : len(alone)] if name == "tagging" else together[row]  # less padding
        torch.testing.assert_close(alone, expected)
        assert json.dumps(task.decode(alone))[:12] == json.dumps(task.decode(together[row]))[:12]  # but for rounding


@pytest.mark.parametrize("name", OPTIONS)
def test_no_row_costs_nothing(name):
    task, targets, _ = make_task(name, {})
    none = torch.arange(0)
    targets = {key: tensor[none] for key, tensor in targets.items()}
    assert task.loss(task(fused().at(none)), targets).item() == 0
    assert task.count(targets) == 0


@pytest.mark.parametrize("name", OPTIONS)
def test_scores_are_finite_also_of_the_constant_and_decoded_values_are_json(name):
    task, _, items = make_task(name, {})
    for output in (task(fused()), task.constant(fused())):
        predictions = list(task.predict(output))
        scores = task.score(predictions, items)
        assert all(type(value) is float and np.isfinite(value) for value in scores.values())
        assert tuple(scores) == task.metrics
        assert task.lower_is_better <= set(scores)
        json.dumps([task.decode(prediction) for prediction in predictions])


@pytest.mark.parametrize("name", OPTIONS)
def test_processors_are_picklable_and_plain(name):
    task, *_ = make_task(name, {})
    labels = task.labels
    assert vars(pickle.loads(pickle.dumps(labels))) == vars(labels)
    assert json.loads(json.dumps(vars(labels))) == vars(labels)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_registrable_with_weight_among_them(name):
    assert recipe_options(TASKS.get(name))["weight"].default == 1.0


@pytest.mark.parametrize("name", OPTIONS)
def test_weight_is_left_to_the_sum_over_tasks(name):
    task, targets, _ = make_task(name, {"weight": 3.0})
    plain, _, _ = make_task(name, {})
    assert task.weight == 3.0
    assert task.loss(task(fused()), targets) == plain.loss(plain(fused()), targets)
