"""Exact evaluation: independent of batches and processes; skill relative to the constant predictor."""

import math
from pathlib import Path

import pytest
import torch

from mmbert.data.loader import evaluation_batches
from mmbert.data.sampler import Shard
from mmbert.errors import IntegrityError
from mmbert.evaluation import evaluate as evaluate_module
from mmbert.evaluation.evaluate import Evaluation, evaluate
from mmbert.experiment.build import build
from mmbert.recipe.load import load_recipe
from mmbert.types import Batch

SMALL = (
    "inputs.image=null",
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "train.precision=fp64",
    "data.generated.absent=0.3",
)
TASKS = {"amount", "kind", "topics", "words"}


@pytest.fixture(scope="module")
def experiment():
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
    return build(load_recipe(recipe, SMALL).recipe)


def batches(experiment, size=16, **share):
    return list(evaluation_batches(experiment.dataset("train"), size, **share))


def same(actual: Evaluation, expected: Evaluation, bound=1e-9):
    assert actual.loss == pytest.approx(expected.loss, rel=bound)
    assert actual.skill == pytest.approx(expected.skill, rel=bound)
    assert actual.scores == {task: pytest.approx(scores, rel=bound) for task, scores in expected.scores.items()}
    for task, rows in expected.predictions.items():
        assert list(actual.predictions[task]) == list(rows) == sorted(rows)
        for row, prediction in rows.items():
            actual_prediction = actual.predictions[task][row]
            if task == "words":  # padded to the longest row of the batch
                actual_prediction, prediction = actual_prediction[actual_prediction >= 0], prediction[prediction >= 0]
            torch.testing.assert_close(actual_prediction, prediction, rtol=bound, atol=bound)


@pytest.mark.parametrize("size", [1, 5, 81])
def test_results_do_not_depend_on_the_batch_size(experiment, size):
    same(evaluate(experiment.model, batches(experiment, size)), evaluate(experiment.model, batches(experiment)))


@pytest.mark.parametrize("world", [2, 3])
def test_results_do_not_depend_on_the_number_of_processes(experiment, world, monkeypatch):
    parts = []
    monkeypatch.setattr(evaluate_module, "gather_object", lambda share: parts.append(share) or share)
    for rank in range(world):
        evaluate(experiment.model, batches(experiment, 8, shard=Shard(rank, world)))
    monkeypatch.setattr(evaluate_module, "gather_object", lambda _: [part for share in parts for part in share])
    gathered = evaluate(experiment.model, [])
    monkeypatch.undo()
    same(gathered, evaluate(experiment.model, batches(experiment)))


def test_every_labelled_row_is_scored_once(experiment):
    evaluation = evaluate(experiment.model, batches(experiment))
    samples = list(experiment.splits["train"][0])
    assert evaluation.predictions.keys() == evaluation.targets.keys() == TASKS
    for task in TASKS:
        labelled = sorted(sample.id for sample in samples if task in sample.targets)
        assert list(evaluation.predictions[task]) == list(evaluation.targets[task]) == labelled
        assert 0 < len(labelled) < len(samples)


def test_the_loss_is_the_mean_over_labelled_units_in_closed_form(experiment):
    evaluation = evaluate(experiment.model, batches(experiment, 7))
    classes, tags = (len(experiment.processors.targets[task].classes) for task in ("kind", "words"))
    costs = [
        -evaluation.predictions["kind"][row][int(item["target"])].log()
        for row, item in evaluation.targets["kind"].items()
    ]
    assert evaluation.loss["kind"] == pytest.approx(float(torch.stack(costs).mean()) / math.log(classes))
    assert evaluation.loss["kind"] == pytest.approx(evaluation.scores["kind"]["log_loss"] / math.log(classes))
    std = experiment.processors.targets["amount"].std
    assert evaluation.loss["amount"] == pytest.approx((evaluation.scores["amount"]["rmse"] / std) ** 2, rel=1e-6)
    assert tags > 1
    assert evaluation.mean_skill == pytest.approx(sum(evaluation.skill.values()) / 4)


def set_heads(experiment, monkeypatch, give_output):
    """Let each head return ``give_output(task, fused)``."""
    for task in experiment.model.tasks.values():
        monkeypatch.setattr(task, "forward", lambda fused, task=task: give_output(task, fused))


def test_the_constant_predictor_has_skill_0(experiment, monkeypatch):
    set_heads(experiment, monkeypatch, lambda task, fused: task.constant(fused))
    evaluation = evaluate(experiment.model, batches(experiment))
    assert evaluation.skill == dict.fromkeys(TASKS, 0.0)
    assert evaluation.mean_skill == 0
    # on the training split it is the best constant, in whose loss labels cost about 1 each
    assert all(0.8 < loss < 1.01 for loss in evaluation.loss.values())


def test_skill_is_one_minus_the_share_of_the_constants_loss(experiment, monkeypatch):
    amount = experiment.model.tasks["amount"]
    for method, value in (("forward", 0.5), ("constant", 2.0)):
        monkeypatch.setattr(amount, method, lambda fused, value=value: torch.full_like(fused.summary[:, 0], value))
    evaluation = evaluate(experiment.model, batches(experiment, 7))
    labels = torch.stack([item["target"] for item in evaluation.targets["amount"].values()])
    expected = 1 - (labels - 0.5).square().sum() / (labels - 2.0).square().sum()
    assert evaluation.skill["amount"] == pytest.approx(float(expected))
    # a perfect predictor and a perfect constant: nothing can be gained
    monkeypatch.setattr(amount, "loss", lambda output, targets: (output - output).sum())
    assert evaluate(experiment.model, batches(experiment)).skill["amount"] == 0.0


def test_a_row_in_two_shares_is_refused(experiment):
    twice = [*batches(experiment), batches(experiment)[1]]
    with pytest.raises(IntegrityError, match=r"^task 'amount': \d+ rows were evaluated, some of them twice$"):
        evaluate(experiment.model, twice)


def test_a_task_without_a_label_has_no_entry(experiment):
    some = [Batch(batch.ids, batch.inputs, {"kind": batch.targets["kind"]}) for batch in batches(experiment)]
    evaluation = evaluate(experiment.model, some)
    assert (
        evaluation.loss.keys()
        == evaluation.skill.keys()
        == evaluation.scores.keys()
        == evaluation.predictions.keys()
        == {"kind"}
    )
    assert evaluation.mean_skill == evaluation.skill["kind"]


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_changes_no_state_of_the_model(experiment, mode):
    experiment.model.train(mode)
    before = {name: tensor.clone() for name, tensor in experiment.model.state_dict().items()}
    first, second = evaluate(experiment.model, batches(experiment)), evaluate(experiment.model, batches(experiment))
    assert experiment.model.training is mode
    assert first.loss == second.loss  # without dropout
    torch.testing.assert_close(experiment.model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in experiment.model.parameters())


@pytest.mark.parametrize("names", [["text"], ["cells"], ["text", "cells"]])
def test_a_removed_input_equals_an_absent_input(experiment, names):
    evaluation = evaluate(experiment.model, batches(experiment), without=names)
    bare = [
        Batch(batch.ids, {name: present for name, present in batch.inputs.items() if name not in names}, batch.targets)
        for batch in batches(experiment)
    ]
    same(evaluation, evaluate(experiment.model, bare), bound=1e-12)
    assert evaluation.loss != evaluate(experiment.model, batches(experiment)).loss
