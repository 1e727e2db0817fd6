"""From a recipe to live objects: the order of its keys means nothing, and parts do not share their chance."""

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
    "trunk.hidden_size=16", "trunk.heads=2", "inputs.image.size=16", "inputs.image.width=16", "inputs.sound.width=16",
    "inputs.sound.mels=8", "inputs.cells.width=16", "inputs.graph.width=16", "data.generated.absent=0.3",
    "data.generated.rows=48",
    "data.more={type: generated, rows: 20, seed: 5}", "inputs.title={type: text, max_length: 16}",
)  # fmt: skip


def small(*settings):
    return load_recipe(DEBUG, [*SMALL, *settings]).recipe


def turned(recipe: Recipe) -> Recipe:
    """The same recipe with its sources, inputs and tasks in the opposite order."""
    parts = {name: dict(reversed(getattr(recipe, name).items())) for name in ("data", "inputs", "tasks")}
    return recipe.model_copy(update=parts)


def steps(recipe, count=3):
    """The losses of some steps of training, with dropout on, and what the weights have become."""
    experiment = build(recipe)
    model, items = experiment.model, experiment.dataset("train")
    plan, optimizer = StepPlan(recipe.train.seed, len(items), 16), make_optimizer(model, recipe.optim)
    losses, weights = [], {name: task.weight for name, task in model.tasks.items()}
    for step in range(count):
        batch = items.batch(plan.batch(step))
        units = count_units(model, [batch], torch.device("cpu"))
        found = accumulate_gradients(model, [batch], units, weights, Accelerator(cpu=True), seed=(0, step))
        losses.append(found.losses)
        optimizer.step()
        optimizer.zero_grad()
    return losses, model.state_dict()


def test_the_order_of_recipe_keys_does_not_matter():
    recipe = small()
    other = turned(recipe)
    assert list(other.inputs) != list(recipe.inputs)
    (losses, weights), (other_losses, other_weights) = steps(recipe), steps(other)
    assert losses == other_losses
    assert list(weights) == list(other_weights)
    torch.testing.assert_close(other_weights, weights, rtol=0, atol=0)


def test_the_order_of_sources_does_not_matter_to_the_data():
    recipe = small("inputs.image=null", "inputs.sound=null", "inputs.graph=null")
    first, second = build(recipe), build(turned(recipe))
    for split in first.splits:
        assert [one.id for one in chained(first.splits, split)] == [one.id for one in chained(second.splits, split)]
    found = [fingerprint({name: list(chained(one.splits, name)) for name in one.splits}) for one in (first, second)]
    assert found[0] == found[1]


def test_parts_start_from_weights_of_their_own():
    whole = build(small()).model.state_dict()
    for gone in ("image", "kind"):
        section = "tasks" if gone == "kind" else "inputs"
        rest = build(small(f"{section}.{gone}=null")).model.state_dict()
        kept = {name: tensor for name, tensor in rest.items() if not name.startswith("fusion.")}
        assert not any(f".{gone}." in name for name in kept)
        torch.testing.assert_close(kept, {name: whole[name] for name in kept}, rtol=0, atol=0)


def test_the_seed_decides_the_weights_of_every_part():
    one, other = build(small()).model.state_dict(), build(small("train.seed=1")).model.state_dict()
    for part in ("trunk.model.", "encoders.image.", "encoders.series.", "tasks.kind.", "fusion.shorten."):
        names = [name for name in one if name.startswith(part) and name.endswith("weight") and one[name].ndim > 1]
        assert names
        assert not any(torch.equal(one[name], other[name]) for name in names)


def test_two_parts_of_one_type_start_differently():
    model = build(small("inputs.photo={type: vit, size: 16, width: 16, patch: 8, layers: 1}")).model
    one, other = model.encoders["image"].embed.weight, model.encoders["photo"].embed.weight
    assert one.shape == other.shape
    assert not torch.equal(one, other)


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


def test_tagging_says_which_of_several_texts_it_means():
    two = ["inputs.title={type: text}", "tasks.words.of=text", "inputs.note={type: text}", "inputs.text=null"]
    with pytest.raises(RecipeError, match=r"no input 'text' to tag\. Valid: .*note.*title"):
        build(small(*two))


@pytest.mark.parametrize("fusion", ["joint", "cross_attention", "bottleneck", "perceiver"])
def test_heads_must_divide_the_width(fusion):
    with pytest.raises(RecipeError, match=r"fusion\.heads must divide the trunk's width of 16, however: heads=3"):
        build(small("fusion=null", f"fusion.type={fusion}", "fusion.heads=3"))
