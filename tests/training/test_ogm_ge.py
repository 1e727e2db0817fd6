"""OGM-GE: factors computed by hand, what is scaled, the noise, and independence of micro-batches."""

import math

import pytest
import torch
from accelerate import Accelerator
from train_parts import fresh

from mmbert.recipe.training import OgmGe
from mmbert.training.ogm_ge import Modulation, stream_factors
from mmbert.training.optimizer import make_optimizer
from mmbert.training.step import Outcome, accumulate_gradients, count_units

AHEAD = Outcome({}, {"kind/text": 0.2, "kind/cells": 0.6})  # cells is three times as confident


def slowed(alpha=0.5, ratio=3.0):
    return 1 - math.tanh(alpha * ratio)


def test_only_the_stream_ahead_is_slowed():
    assert stream_factors(AHEAD.likelihoods, 0.5) == {"cells": pytest.approx(slowed()), "text": 1.0}
    assert stream_factors({"kind/text": 0.3, "kind/cells": 0.3}, 0.5) == {"cells": 1.0, "text": 1.0}


def test_each_stream_is_compared_to_the_mean_of_the_others():
    factors = stream_factors({"kind/a": 0.6, "kind/b": 0.3, "kind/c": 0.1}, 1.0)
    assert factors == {"a": pytest.approx(slowed(1.0, 3.0)), "b": 1.0, "c": 1.0}


def test_ratios_are_averaged_over_tasks_with_several_streams():
    tasks = {
        "kind/a": 0.6,
        "kind/b": 0.2,
        "topics/a": 0.5,
        "topics/b": 0.5,
        "alone/a": 0.9,
        "amount/a": 0,
        "amount/b": 0,
    }
    assert stream_factors(tasks, 0.5) == {"a": pytest.approx(slowed(0.5, 2.0)), "b": 1.0}
    assert stream_factors({"kind/a": 0.9}, 0.5) == stream_factors({}, 0.5) == {}


@pytest.fixture(scope="module")
def experiment():
    return fresh("fusion={type: concat}", "balance.ogm_ge={mode: gradient, alpha: 0.5}")


def gradients(experiment, cuts, outcome=None, **options):
    """Gradients of the first step, cut into micro-batches, before and after modulation; and the factors."""
    model, accelerator = experiment.model, Accelerator(cpu=True)
    model.zero_grad()
    batches = [experiment.dataset("train").batch([(row, 0) for row in rows]) for rows in cuts]
    units = count_units(model, batches, accelerator.device)
    measured = accumulate_gradients(model, batches, units, model.loss_weights, accelerator, seed=(0, 1))
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    modulation = Modulation(model, OgmGe(mode="gradient", alpha=0.5), options.get("seed", 0))
    factors = modulation.apply(
        outcome or measured, make_optimizer(model, experiment.recipe.optim), options.get("step", 1)
    )
    after = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return before, after, factors


def test_encoders_are_scaled_and_get_noise_as_large_as_their_gradient(experiment):
    before, after, factors = gradients(experiment, [range(16)], AHEAD)
    assert factors == {"cells": pytest.approx(slowed()), "text": 1.0}
    for name, gradient in after.items():
        stream = {"encoders.cells": "cells", "trunk.model": "text"}.get(".".join(name.split(".")[:2]))
        if stream is None:
            assert torch.equal(gradient, before[name])
        elif before[name].numel() >= 256:
            noise = gradient - factors[stream] * before[name]
            size = before[name].std(correction=0)
            assert noise.std() == pytest.approx(float(size), rel=0.2)
            assert abs(float((noise * before[name]).mean())) < 0.3 * float(size) ** 2 + 1e-12  # independent of it


def test_the_noise_is_keyed_by_seed_and_step(experiment):
    cuts = [range(8)]
    first = gradients(experiment, cuts, AHEAD)[1]
    torch.manual_seed(5)
    repeated = gradients(experiment, cuts, AHEAD)[1]
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    for changed in (gradients(experiment, cuts, AHEAD, seed=1)[1], gradients(experiment, cuts, AHEAD, step=2)[1]):
        assert any(not torch.equal(first[name], changed[name]) for name in first)


def test_micro_batches_give_the_factors_of_the_whole_step():
    experiment = fresh("fusion={type: concat}", "balance.ogm_ge={}", "train.dropout=0", "train.precision=fp64")
    _, whole, factors_of_whole = gradients(experiment, [range(24)])
    _, cut, factors_of_cut = gradients(experiment, [range(3), range(3, 17), range(17, 24)])
    assert factors_of_whole.keys() == {"cells", "text"}
    assert min(factors_of_whole.values()) < 1 == max(factors_of_whole.values())
    assert factors_of_cut == pytest.approx(factors_of_whole, rel=1e-9)
    assert max(float((whole[name] - cut[name]).abs().max()) for name in whole if whole[name].numel()) < 1e-9


def test_a_trunk_that_reads_other_inputs_is_not_scaled():
    joint = fresh("balance.ogm_ge={mode: gradient}")
    before, after, factors = gradients(joint, [range(8)], Outcome({}, {"kind/text": 0.6, "kind/cells": 0.2}))
    assert factors["text"] < 1
    trunk = [name for name in before if name.startswith("trunk.")]
    assert all(torch.equal(before[name], after[name]) for name in trunk)


def test_only_learning_rates_of_encoders_are_scaled():
    options = OgmGe(mode="learning_rate", alpha=0.5)
    experiment = fresh("fusion={type: concat}", "balance.ogm_ge={}")
    optimizer = make_optimizer(experiment.model, experiment.recipe.optim, options)
    Modulation(experiment.model, options, 0).apply(AHEAD, optimizer, 1)
    names = {id(parameter): name for name, parameter in experiment.model.named_parameters()}
    plain = {
        id(parameter): group
        for group in make_optimizer(experiment.model, experiment.recipe.optim).param_groups
        for parameter in group["params"]
    }
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            unscaled = plain.pop(id(parameter))
            expected = slowed() if names[id(parameter)].startswith("encoders.cells.") else 1.0
            assert group["lr"] == pytest.approx(unscaled["lr"] * expected)
            assert {key: group[key] for key in ("base_lr", "weight_decay")} == {
                key: unscaled[key] for key in ("base_lr", "weight_decay")
            }
    assert not plain


def test_unimodal_heads_without_weight_send_no_gradient_to_their_inputs():
    """Without a logit sum or a loss weight, no gradient of unimodal heads flows into the vectors they read."""
    experiment = fresh("fusion={type: concat}", "balance.ogm_ge={}", "train.dropout=0")
    model, batch = experiment.model, experiment.dataset("train").batch([(row, 0) for row in range(8)])
    losses = model(batch)
    sum(losses[name] for name in model.unimodal.loss_terms()).backward()
    moved = {
        name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert moved
    assert all(name.startswith("unimodal.") for name in moved)
    model.zero_grad()
