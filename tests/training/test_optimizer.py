"""The optimizer: learning rate and weight decay of every parameter, and the size of the first step."""

import pytest
import torch
from torch import nn
from train_parts import fresh

from mmbert.contracts import Encoder
from mmbert.recipe.training import Optim
from mmbert.training.optimizer import make_optimizer, named_by_origin

OPTIM = Optim.model_validate({"lr": {"trunk": 1e-5, "pretrained": 2e-4, "new": 3e-3}, "weight_decay": 0.25})


@pytest.fixture(scope="module")
def experiment():
    """Two texts, so that there is a facet embedding; and a table input named like a facet."""
    return fresh("inputs.cells=null", "inputs.facets={type: table, width: 16}", "inputs.other={type: text}")


def groups(model, optim=OPTIM):
    """Name -> (peak rate, decay)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates_and_decays = {}
    for group in make_optimizer(model, optim).param_groups:
        assert group["lr"] == group["base_lr"]
        for parameter in group["params"]:
            assert names[id(parameter)] not in rates_and_decays
            rates_and_decays[names[id(parameter)]] = (group["base_lr"], group["weight_decay"])
    return rates_and_decays


def test_every_parameter_is_in_one_group(experiment):
    assert groups(experiment.model).keys() == dict(experiment.model.named_parameters()).keys()


def test_rates_follow_the_origin(experiment):
    rates = {name: rate for name, (rate, _) in groups(experiment.model).items()}
    assert {rate for name, rate in rates.items() if name.startswith("trunk.model.")} == {1e-5}
    assert rates["trunk.facet.weight"] == 3e-3
    assert {rate for name, rate in rates.items() if not name.startswith("trunk.")} == {3e-3}


class Backbone(Encoder):
    """Half pretrained, half new."""

    def __init__(self):
        super().__init__()
        self.body, self.project = nn.Linear(3, 4), nn.Linear(4, 5)

    def pretrained(self):
        return self.body

    def forward(self, values):
        raise NotImplementedError


def test_a_pretrained_part_has_its_own_learning_rate(experiment):
    encoders, experiment.model.encoders = experiment.model.encoders, nn.ModuleDict({"photo": Backbone()})
    assigned = groups(experiment.model)
    origins = {name: origin for origin, name, _ in named_by_origin(experiment.model)}
    experiment.model.encoders = encoders
    assert assigned["encoders.photo.body.weight"] == (2e-4, 0.25)
    assert assigned["encoders.photo.body.bias"] == (2e-4, 0.0)
    assert assigned["encoders.photo.project.weight"] == (3e-3, 0.25)
    assert origins["encoders.photo.body.bias"] == "pretrained"
    assert {origin for name, origin in origins.items() if name.startswith("tasks.")} == {"new"}


def test_matrices_decay_and_biases_norms_and_facets_do_not(experiment):
    decays = {name: decay for name, (_, decay) in groups(experiment.model).items()}
    modules = dict(experiment.model.named_modules())
    for name, parameter in experiment.model.named_parameters():
        inside, _, leaf = name.rpartition(".")
        still = leaf.endswith("bias") or isinstance(modules[inside], nn.LayerNorm) or parameter.ndim < 2
        still |= name == "trunk.facet.weight"
        assert decays[name] == (0.0 if still else 0.25), name
    assert decays["encoders.facets.numeric.bias"] == 0.0  # a matrix: one bias for each column
    assert decays["encoders.facets.out.weight"] == 0.25  # the name of the input does not matter
    assert decays["fusion.facets.facets"] == 0.0


def test_frozen_parameters_are_in_no_group(experiment):
    trained = [parameter for parameter in experiment.model.trunk.model.parameters() if parameter.requires_grad]
    experiment.model.trunk.model.requires_grad_(False)
    assigned = groups(experiment.model)
    for parameter in trained:
        parameter.requires_grad_(True)
    assert assigned.keys() == {
        name for name, _ in experiment.model.named_parameters() if not name.startswith("trunk.model.")
    }


def test_the_first_step_has_the_size_of_the_rate_and_the_sign_of_the_gradient(experiment):
    optimizer = make_optimizer(experiment.model, OPTIM)
    rates = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    generator = torch.Generator().manual_seed(0)
    before = {name: parameter.detach().clone() for name, parameter in experiment.model.named_parameters()}
    for parameter in experiment.model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.grad = drawn + 0.1 * drawn.sign()
    optimizer.step()
    for name, parameter in experiment.model.named_parameters():
        group = rates[id(parameter)]
        rate, decay = group["lr"], group["weight_decay"]
        shrunk = before[name] * (1 - rate * decay)  # decoupled decay: not part of the moments
        expected = shrunk - rate * parameter.grad.sign()
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=rate * 1e-3)
