"""Building an experiment from a recipe: independent of key order, each part initialized by its own random numbers."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from mmbert.data.sampler import StepPlan
from mmbert.errors import RecipeError
from mmbert.evaluation.results import fingerprint
from mmbert.experiment.build import build
from mmbert.experiment.splits import chained
from mmbert.fusion import FUSIONS
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.training.optimizer import make_optimizer
from mmbert.training.step import accumulate_gradients, count_units

DEBUG = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
SMALL = (
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "inputs.image.size=16",
    "inputs.image.width=16",
    "inputs.sound.width=16",
    "inputs.sound.mels=8",
    "inputs.cells.width=16",
    "inputs.graph.width=16",
    "data.generated.absent=0.3",
    "data.generated.rows=48",
    "data.more={type: generated, rows: 20, seed: 5}",
    "inputs.title={type: text, max_length: 16}",
)


def small(*settings):
    return load_recipe(DEBUG, [*SMALL, *settings]).recipe


def reversed_order(recipe: Recipe) -> Recipe:
    """The same recipe with its sources, inputs and tasks in the opposite order."""
    parts = {name: dict(reversed(getattr(recipe, name).items())) for name in ("data", "inputs", "tasks")}
    return recipe.model_copy(update=parts)


def steps(recipe, count=3):
    """The losses of some training steps with dropout, and the weights after them."""
    experiment = build(recipe)
    model, items = experiment.model, experiment.dataset("train")
    plan, optimizer = StepPlan(recipe.train.seed, len(items), 16), make_optimizer(model, recipe.optim)
    losses, weights = [], {name: task.weight for name, task in model.tasks.items()}
    for step in range(count):
        batch = items.batch(plan.batch(step))
        units = count_units(model, [batch], torch.device("cpu"))
        outcome = accumulate_gradients(model, [batch], units, weights, Accelerator(cpu=True), seed=(0, step))
        losses.append(outcome.losses)
        optimizer.step()
        optimizer.zero_grad()
    return losses, model.state_dict()


def test_the_order_of_recipe_keys_does_not_matter():
    recipe = small()
    reordered = reversed_order(recipe)
    assert list(reordered.inputs) != list(recipe.inputs)
    (losses, weights), (reordered_losses, reordered_weights) = steps(recipe), steps(reordered)
    assert losses == reordered_losses
    assert list(weights) == list(reordered_weights)
    torch.testing.assert_close(reordered_weights, weights, rtol=0, atol=0)


def test_the_order_of_sources_does_not_change_the_data():
    recipe = small("inputs.image=null", "inputs.sound=null", "inputs.graph=null")
    first, second = build(recipe), build(reversed_order(recipe))
    for split in first.splits:
        assert [sample.id for sample in chained(first.splits, split)] == [
            sample.id for sample in chained(second.splits, split)
        ]
    fingerprints = [
        fingerprint({name: list(chained(experiment.splits, name)) for name in experiment.splits})
        for experiment in (first, second)
    ]
    assert fingerprints[0] == fingerprints[1]


def test_removing_a_part_does_not_change_the_weights_of_others():
    whole = build(small()).model.state_dict()
    for removed in ("image", "kind"):
        section = "tasks" if removed == "kind" else "inputs"
        rest = build(small(f"{section}.{removed}=null")).model.state_dict()
        weights = {name: tensor for name, tensor in rest.items() if not name.startswith("fusion.")}
        assert not any(f".{removed}." in name for name in weights)
        torch.testing.assert_close(weights, {name: whole[name] for name in weights}, rtol=0, atol=0)


def test_the_seed_decides_the_weights_of_every_part():
    first, second = build(small()).model.state_dict(), build(small("train.seed=1")).model.state_dict()
    for part in ("trunk.model.", "encoders.image.", "encoders.series.", "tasks.kind.", "fusion.shorten."):
        names = [name for name in first if name.startswith(part) and name.endswith("weight") and first[name].ndim > 1]
        assert names
        assert not any(torch.equal(first[name], second[name]) for name in names)


def test_two_parts_of_one_type_start_differently():
    model = build(small("inputs.photo={type: vit, size: 16, width: 16, patch: 8, layers: 1}")).model
    first, second = model.encoders["image"].embed.weight, model.encoders["photo"].embed.weight
    assert first.shape == second.shape
    assert not torch.equal(first, second)


@pytest.mark.parametrize("fusion", FUSIONS.names())
def test_one_dropout_rate_reaches_every_dropout(fusion):
    model = build(small("train.dropout=0.25", "fusion=null", f"fusion.type={fusion}")).model
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    rates += [module.dropout for module in model.modules() if isinstance(module, torch.nn.MultiheadAttention)]
    assert len(rates) > 10
    assert {*rates} == {0.25}


@pytest.mark.parametrize(
    ("settings", "needed"), [(["mag", "after=2"], 3), (["bottleneck", "layers=3"], 3), (["mag", "after=9"], 10)]
)
def test_a_fusion_inside_the_trunk_needs_its_layers(settings, needed):
    kind, option = settings
    with pytest.raises(RecipeError, match=rf"fusion '{kind}' .*needs a trunk of {needed} layers or more.*has 2"):
        build(small("fusion=null", f"fusion.type={kind}", f"fusion.{option}"))
    build(small("fusion=null", f"fusion.type={kind}", f"fusion.{option}", f"trunk.layers={needed}"))


def test_tagging_names_one_of_several_texts():
    two = ["inputs.title={type: text}", "tasks.words.of=text", "inputs.note={type: text}", "inputs.text=null"]
    with pytest.raises(RecipeError, match=r"no input 'text' to tag\. Valid: .*note.*title"):
        build(small(*two))


@pytest.mark.parametrize("fusion", ["joint", "cross_attention", "bottleneck", "perceiver"])
def test_heads_must_divide_the_width(fusion):
    with pytest.raises(RecipeError, match=r"fusion\.heads must divide the trunk's width of 16, however: heads=3"):
        build(small("fusion=null", f"fusion.type={fusion}", "fusion.heads=3"))
