"""The trainer: selection of the best step, early stopping, non-finite values, logging and reproducibility."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from accelerate import Accelerator
from train_parts import fresh, scored, trained

from mmbert.errors import NumericalError, Preempted
from mmbert.tracking.run_folder import RunFolder, read_log
from mmbert.training.state import selection_score
from mmbert.training.step import accumulate_gradients, count_units, dropout_seed


def weights_of(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)


RARELY = "train.save_every=100"  # only the best and the last step


@pytest.fixture(scope="module")
def experiment():
    return fresh(RARELY)


@pytest.mark.parametrize(
    ("skills", "best", "saved"),
    [
        ([0.1, 0.3, 0.2, 0.4, 0.1, 0.0], 4, [1, 2, 4, 6]),
        ([-0.5, -0.7, -0.6, -0.9, -0.8, -0.5], 1, [1, 6]),  # of equal scores, the first is kept
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_each_best_step_and_the_last_are_saved(experiment, skills, best, saved):
    progress, saved_steps = trained(experiment, map(scored, skills))
    assert (progress.best_step, saved_steps, progress.step) == (best, saved, 6)
    assert progress.best_score == max(skills)


def test_checkpoints_are_saved_at_each_evaluation_or_every_save_every_steps():
    skills = [0.9, 0.1, 0.1]  # at 2, 4 and 6
    assert trained(fresh(), map(scored, skills), every=2)[1] == [2, 4, 6]
    assert trained(fresh("train.save_every=5"), map(scored, skills), every=2)[1] == [2, 5, 6]
    assert trained(fresh("train.save_every=1"), map(scored, skills), every=2)[1] == [1, 2, 3, 4, 5, 6]


def test_train_select_names_the_metric_that_decides():
    highs = [scored(0.1 * step, kind={"accuracy": value}) for step, value in enumerate([0.5, 0.7, 0.6, 0.9, 0.8, 0.1])]
    assert trained(fresh("train.select=kind/accuracy", RARELY), highs)[1] == [1, 2, 4, 6]
    lows = [scored(0.1 * step, amount={"rmse": value}) for step, value in enumerate([0.5, 0.7, 0.4, 0.9, 0.3, 0.8])]
    progress, saved = trained(fresh("train.select=amount/rmse", RARELY), lows)  # an error: the lowest is the best
    assert (progress.best_step, saved) == (5, [1, 3, 5, 6])


def test_the_selection_score_is_higher_for_better_metrics(experiment):
    evaluation = scored(0.25, amount={"rmse": 3.0, "r2": 0.5})
    assert [selection_score(evaluation, experiment.model, what) for what in ("skill", "amount/rmse", "amount/r2")] == [
        0.25,
        -3.0,
        0.5,
    ]


@pytest.mark.parametrize(
    ("patience", "skills", "steps"),
    [
        (1, [0.1, 0.2, 0.1, 0.3, 0.2, 0.1], 3),
        (2, [0.1, 0.2, 0.2, 0.2, 0.9, 0.9], 4),  # an equal score is no improvement
        (2, [0.1, 0.0, 0.2, 0.1, 0.3, 0.2], 6),  # a better score resets the count
        (3, [0.3, 0.2, 0.1, 0.0, 0.9, 0.9], 4),
    ],
)
def test_patience_counts_evaluations_since_the_best(patience, skills, steps):
    progress, _ = trained(fresh(f"train.patience={patience}"), map(scored, skills))
    assert progress.step == steps


def test_the_last_step_is_evaluated(experiment):
    progress, _ = trained(experiment, map(scored, [0.1, 0.2]), every=4)  # at steps 4 and 6
    assert progress.best_step == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(value, tmp_path):
    def steps(experiment):
        items = experiment.dataset("train")
        return [[items.batch([(row, 0) for row in range(at, at + 4)]) for at in (step, step + 4)] for step in (0, 8)]

    fine, spoiled = fresh(), fresh()
    with pytest.raises(Preempted):
        trained(fine, steps=steps(fine)[:1], every=9)
    good, bad = steps(spoiled)
    bad[0].targets["amount"].tensors["target"][0] = value  # in one micro-batch, the first, only
    folder = RunFolder(tmp_path / "run", writes=True)
    with pytest.raises(NumericalError, match=r"^step 2: the loss of 'amount' is (nan|inf).*lower optim\.lr"):
        trained(spoiled, steps=[good, bad], every=9, folder=folder)
    same(weights_of(spoiled.model), weights_of(fine.model))
    assert {json.loads(line)["step"] for line in (folder.path / "metrics.jsonl").read_text().splitlines()} == {1}


def test_a_gradient_that_is_not_finite_stops_too(experiment, monkeypatch):
    before = weights_of(experiment.model)
    bias = experiment.model.tasks["kind"].head[-1].bias
    handle = bias.register_hook(lambda gradient: gradient * float("inf"))
    try:
        with pytest.raises(NumericalError, match="norm of the gradient"):
            trained(experiment, [])
    finally:
        handle.remove()
        experiment.model.zero_grad()
    same(weights_of(experiment.model), before)


def test_a_weight_that_is_not_finite_is_named():
    experiment = fresh()
    with torch.no_grad():
        experiment.model.tasks["amount"].head[-1].bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match=r"the weights \['tasks\.amount\.head\.1\.bias'\] are not finite"):
        trained(experiment, [])


def losses_and_weights(*settings, workers=0):
    """Log, weights and best score of a run with random augmentation, dropout and input dropout."""
    image = "inputs.image={type: vit, size: 16, width: 16, augment: true}"
    experiment = fresh(image, "data.generated.absent=0.4", "train.steps=4", "train.input_dropout=0.2", *settings)
    with TemporaryDirectory() as path:
        progress, _ = trained(experiment, every=4, workers=workers, folder=RunFolder(Path(path), writes=True))
        lines = [{**line, "time": 0} for line in read_log(Path(path))]
    return lines, weights_of(experiment.model), progress.best_score


def test_two_runs_of_one_seed_are_bit_identical_and_other_seeds_differ():
    first = losses_and_weights()
    torch.manual_seed(99)  # the global random state must not matter
    repeated = losses_and_weights()
    assert first[0] == repeated[0]
    same(first[1], repeated[1])
    reseeded = losses_and_weights("train.seed=1")
    assert reseeded[0] != first[0]
    assert losses_and_weights("train.dropout=0.5")[0] != first[0]


def test_the_number_of_workers_changes_nothing():
    alone, helped = losses_and_weights(), losses_and_weights(workers=2)
    assert alone[0] == helped[0]
    same(alone[1], helped[1])


def test_losses_and_evaluations_are_logged(experiment, tmp_path):
    folder = RunFolder(tmp_path, writes=True)
    trained(experiment, [scored(0.25, kind={"accuracy": 0.5})] * 2, every=3, folder=folder)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    assert {line["metric"] for line in train} == {"loss"}
    assert {line["step"] for line in train} == {1, 2, 3, 4, 5, 6}
    evaluations = [(line["step"], line["task"], line["metric"], line["value"]) for line in lines if line not in train]
    assert evaluations == [
        (step, *rest) for step in (3, 6) for rest in (("kind", "accuracy", 0.5), ("all", "skill", 0.25))
    ]


def test_weights_scale_gradients_and_not_the_reported_losses(experiment):
    items = experiment.dataset("train")
    batch = items.batch([(row, 0) for row in range(8)])
    gradients, losses = {}, {}
    for weights in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        experiment.model.zero_grad()
        chosen = dict.fromkeys(experiment.model.tasks, 0.0) | dict(zip(("kind", "amount"), weights, strict=True))
        units = count_units(experiment.model, [batch], "cpu")
        outcome = accumulate_gradients(experiment.model, [batch], units, chosen, Accelerator(cpu=True), seed=(0, 1))
        losses[weights] = outcome.losses
        gradients[weights] = experiment.model.trunk.model.embeddings.word_embeddings.weight.grad.clone()
    experiment.model.zero_grad()
    combined = 2 * gradients[1.0, 0.0] + 3 * gradients[0.0, 1.0]
    torch.testing.assert_close(gradients[2.0, 3.0], combined, rtol=1e-3, atol=1e-6)
    assert losses[1.0, 0.0] == losses[0.0, 1.0] == losses[2.0, 3.0]
    assert gradients[1.0, 0.0].any()


def test_dropout_masks_differ_by_seed_step_micro_step_and_rank():
    keys = [(seed, step, micro, rank) for seed in (0, 1) for step in (1, 11) for micro in (0, 1) for rank in (0, 1)]
    seeds = [dropout_seed(*key) for key in keys]
    assert len({*seeds}) == len(keys)
    assert seeds == [dropout_seed(*key) for key in keys]
    assert all(0 <= seed < 2**63 for seed in seeds)
