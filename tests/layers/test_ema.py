"""Tests of the exponential moving average: its closed form, and its use in training."""

import pytest
import torch
from torch import nn
from train_parts import fresh, scored, trained

from mmbert.layers.ema import WeightAverage
from mmbert.tracking.run_folder import RunFolder, read_log

SPLITS = ("train", "validation")


def test_it_follows_its_recursion_and_leaves_the_weights_alone():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    average, expected = WeightAverage(layer, 0.3), layer.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            layer.weight.normal_()
            layer.bias.normal_()
        average.update()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with average.applied():
        torch.testing.assert_close(layer.weight.detach(), expected)
        assert torch.equal(layer.bias, before["bias"])  # frozen: as it is
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_weights_return_after_an_error():
    layer = nn.Linear(1, 1)
    average, before = WeightAverage(layer, 0.9), layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    with pytest.raises(ZeroDivisionError), average.applied():
        layer.weight.sum().item() / 0
    assert torch.equal(layer.weight, before + 1)


def test_the_average_is_what_is_evaluated_and_training_is_the_same(tmp_path):
    plain, averaged = fresh(), fresh("train.ema=0.05")
    logs = []
    for name, experiment in (("plain", plain), ("averaged", averaged)):
        trained(experiment, folder=RunFolder(tmp_path / name, writes=True))
        logs.append([{**line, "time": 0} for line in read_log(tmp_path / name)])
    train, validation = ([[line for line in log if line["split"] == split] for log in logs] for split in SPLITS)
    assert train[0] == train[1]
    assert validation[0] != validation[1]
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, averaged.model.state_dict()[name])


def test_the_average_of_the_first_step_is_nearly_its_weights():
    experiment = fresh("train.ema=0.05")
    start, first = [weight.detach().clone() for weight in experiment.model.parameters()], []

    def keep(state):
        if state.progress.step == 1:
            first.extend((state.average.state(), {k: v.clone() for k, v in state.average.raw().items()}))
            first[0] = {k: v.clone() for k, v in first[0].items()}

    trained(experiment, map(scored, [0.1] + [0.0] * 5), save=keep)
    for begun, (name, parameter) in zip(start, experiment.model.named_parameters(), strict=True):
        if parameter.requires_grad:
            expected = torch.lerp(begun, first[1][name], 0.95)
            torch.testing.assert_close(first[0][name], expected, rtol=0, atol=1e-7)
