"""Inputs and tasks may have any valid name, those of methods of ``nn.ModuleDict`` and ``nn.ParameterDict`` included."""

import pytest
import torch
from torch import nn
from train_parts import DEBUG

from mmbert.errors import RecipeError
from mmbert.experiment.build import build
from mmbert.fusion import FUSIONS
from mmbert.layers.by_name import ModulesByName, ParametersByName
from mmbert.recipe.load import load_recipe

NAMES = sorted({*dir(nn.ModuleDict()), *dir(nn.ParameterDict()), "plain"})
RECIPE = """\
name: names
data: {letters: {type: generated, rows: 40}}
trunk: {checkpoint: null, layers: 2, hidden_size: 16, heads: 2, vocabulary: 200, max_positions: 32}
inputs:
  text: {type: text, max_length: 8}
  keys: {type: table, width: 8, layers: 1}
  type: {type: series, width: 32, layers: 1}
tasks:
  items: {type: regression}
  to: {type: classification}
train: {steps: 1, batch_size: 4}
"""


def test_every_name_is_accepted_and_the_state_has_the_same_keys():
    modules = ModulesByName({name: nn.Linear(1, 2) for name in NAMES})
    parameters = ParametersByName({name: nn.Parameter(torch.full((1,), float(i))) for i, name in enumerate(NAMES)})
    assert list(modules) == NAMES
    assert list(parameters) == NAMES
    assert all(isinstance(module, nn.Linear) for module in modules.values())
    assert [parameters[name].item() for name in NAMES] == list(range(len(NAMES)))
    assert {*modules.state_dict()} == {f"{name}.{part}" for name in NAMES for part in ("weight", "bias")}
    assert {*parameters.state_dict()} == {*NAMES}
    again = ModulesByName({name: nn.Linear(1, 2) for name in NAMES})
    again.load_state_dict(modules.state_dict())
    assert all(torch.equal(again[name].weight, modules[name].weight) for name in NAMES)
    modules.double()
    parameters.double()
    assert {tensor.dtype for tensor in (*modules.parameters(), *parameters.parameters())} == {torch.float64}


def test_ordinary_names_give_the_state_of_the_classes_of_torch():
    linear, parameter = nn.Linear(1, 2), nn.Parameter(torch.ones(2))
    assert [*ModulesByName({"b": linear, "a": linear}).state_dict()] == [
        *nn.ModuleDict({"b": linear, "a": linear}).state_dict()
    ]
    ours, theirs = (
        ParametersByName({"b": parameter, "a": parameter}),
        nn.ParameterDict({"b": parameter, "a": parameter}),
    )
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert [*ours] == [*theirs]


@pytest.mark.parametrize("name", ["", "a.b"])
def test_a_name_that_would_spoil_the_keys_of_the_state_is_refused(name):
    with pytest.raises(KeyError, match="dot"):
        ModulesByName({name: nn.Linear(1, 1)})


@pytest.mark.parametrize("fusion", FUSIONS.names())
def test_a_model_with_such_names_is_built(tmp_path, fusion):
    (tmp_path / "names.yaml").write_text(RECIPE)
    heads = [] if fusion == "logit_sum" else ["fusion.logit_sum=true"]
    experiment = build(load_recipe(tmp_path / "names.yaml", [f"fusion.type={fusion}", *heads]).recipe)
    assert {*experiment.model.encoders} == {"keys", "type"}
    assert {*experiment.model.tasks} == {"items", "to"}
    assert any(".type." in key or ".keys." in key for key in experiment.model.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tasks={all: {type: regression}}"], "logs call the mean over tasks 'all'"),
        ([f"inputs.{'x' * 300}={{type: table}}"], "at most 100 letters, found 300"),
        ([f"name={'y' * 101}"], "at most 100 letters, found 101"),
        (["inputs.a b={type: table}"], "expected a name of letters"),
    ],
)
def test_names_that_cannot_work_are_refused_by_the_check(settings, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(DEBUG, settings)
