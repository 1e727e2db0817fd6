"""The moving average of the weights: its closed form, and where training uses it."""

import pytest
import torch
from torch import nn
from train_parts import fresh, scored, trained

from mmbert.train.average import WeightAverage


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


def test_the_average_is_what_is_evaluated_and_kept_and_training_is_the_same():
    plain, averaged = fresh(), fresh("train.ema=0.05")
    (without, _), (having, _) = trained(plain), trained(averaged)
    assert without.losses == having.losses
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, averaged.model.state_dict()[name])
    assert having.best is not None
    assert without.best is not None
    assert having.best.scores != without.best.scores

    kept = []
    for decay in (0, 0.05):
        built = fresh(f"train.ema={decay}")
        start = [weight.detach().clone() for weight in built.model.parameters()]
        best_first = map(scored, [0.1] + [0.0] * 5)
        trained(
            built,
            best_first,
            keep=lambda model=built.model: kept.append([p.detach().clone() for p in model.parameters()]),
        )
    for first, weight, average in zip(start, *kept, strict=True):
        torch.testing.assert_close(average, torch.lerp(first, weight, 0.95), rtol=0, atol=1e-7)
