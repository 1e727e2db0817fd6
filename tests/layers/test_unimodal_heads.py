"""Tests of unimodal heads: product of softmaxes, additivity, losses, absent inputs."""

from pathlib import Path

import pytest
import torch

from mmbert.data.collate import Item, collate
from mmbert.errors import RecipeError
from mmbert.experiment.build import build
from mmbert.recipe.load import load_recipe
from mmbert.types import Fused

DEBUG = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
SMALL = (
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "inputs.image.size=16",
    "inputs.image.width=16",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "train.precision=fp64",
    "train.dropout=0",
    "data.generated.absent=0",
)
ROWS = 6
STREAMS = ("cells", "image", "text")
LACKS = {1: {"image"}, 2: {"cells", "text"}, 3: {"text"}, 4: {"image", "cells"}}  # row -> inputs


def built(*settings):
    experiment = build(load_recipe(DEBUG, [*SMALL, *settings]).recipe)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return experiment


def batch_of(experiment, lacks=LACKS):
    items = []
    for row in range(ROWS):
        item = experiment.dataset("train")[row, None]
        inputs = {name: tensors for name, tensors in item.inputs.items() if name not in lacks.get(row, ())}
        items.append(Item(item.id, inputs, item.targets))
    return collate(items, experiment.processors).to("cpu", torch.float64)


def heads_of(experiment, fused, task):
    """stream -> output of its head minus the constant output, for all rows."""
    contributions = {}
    for stream, head in experiment.model.unimodal.heads[task].items():
        read = Fused(experiment.model.unimodal.norms[stream](fused.unimodal[stream].values[:, 0]), {})
        contributions[stream] = head(read) - head.constant(read)
    return contributions


@pytest.mark.parametrize("fusion", ["concat", "joint", "cross_attention"])
def test_the_softmax_is_the_normalised_product_of_the_softmaxes_of_all_that_is_present(fusion):
    experiment = built(f"fusion={{type: {fusion}, logit_sum: true}}")
    batch = batch_of(experiment)
    fused = experiment.model.eval().fuse(batch)
    predicted = experiment.model.predict(batch)["kind"]
    product = experiment.model.tasks["kind"](fused).softmax(-1)
    for stream, logits in heads_of(experiment, fused, "kind").items():
        for row in range(ROWS):
            if stream not in LACKS.get(row, ()):
                product[row] *= logits[row].softmax(-1)
    torch.testing.assert_close(predicted, product / product.sum(-1, keepdim=True), rtol=1e-12, atol=1e-12)
    alone = experiment.model.tasks["kind"](fused).softmax(-1)
    assert (predicted - alone).abs().amax(1).min() > 1e-4  # no row is without anything


def test_numbers_and_labels_are_summed_as_well():
    experiment = built("fusion={type: concat, logit_sum: true}")
    fused = experiment.model.eval().fuse(batch_of(experiment, {}))
    for task in ("amount", "topics"):
        expected = experiment.model.tasks[task](fused) + sum(heads_of(experiment, fused, task).values())
        torch.testing.assert_close(experiment.model.output(task, fused), expected, rtol=1e-12, atol=1e-12)


def test_training_starts_near_the_constant_counted_once():
    experiment = build(load_recipe(DEBUG, [*SMALL, "fusion={type: concat, logit_sum: true}"]).recipe)
    fused = experiment.model.eval().fuse(batch_of(experiment, {}))
    task = experiment.model.tasks["kind"]
    assert (experiment.model.output("kind", fused) - task.constant(fused)).abs().max() < 0.6
    torch.testing.assert_close(task.constant(fused)[0].exp().sum(), torch.tensor(1.0).double())


def crossed(experiment):
    """Four rows: two values of the text with two of the image; the cells are the same."""
    first, second = (experiment.dataset("train")[row, None] for row in (0, 1))
    items = [
        Item(place, {"text": text.inputs["text"], "image": image.inputs["image"], "cells": first.inputs["cells"]}, {})
        for place, (text, image) in enumerate([(first, first), (first, second), (second, first), (second, second)])
    ]
    return collate(items, experiment.processors).to("cpu", torch.float64)


@pytest.mark.parametrize(
    ("fusion", "additive"),
    [("type: logit_sum", True), ("type: concat", False), ("type: concat, logit_sum: true", False)],
)
def test_without_a_joint_term_inputs_add_up_and_never_interact(fusion, additive):
    experiment = built(f"fusion={{{fusion}}}")
    batch = crossed(experiment)
    fused = experiment.model.eval().fuse(batch)
    for task in ("kind", "topics", "amount"):
        output = experiment.model.output(task, fused)
        assert min((output[0] - output[1]).abs().max(), (output[0] - output[2]).abs().max()) > 1e-3  # both matter
        interaction = (output[0] - output[1] - output[2] + output[3]).abs().max()
        assert (interaction < 1e-12) == additive


def test_a_row_of_text_alone_takes_the_plain_trunk_and_the_tasks_own_head_reads_it():
    experiment = built("fusion={type: logit_sum}")
    assert {stream for heads in experiment.model.unimodal.heads.values() for stream in heads} == {"cells", "image"}
    fused = experiment.model.eval().fuse(batch_of(experiment))
    torch.testing.assert_close(fused.summary[4], fused.unimodal["text"].values[4, 0])
    torch.testing.assert_close(experiment.model.output("kind", fused)[4], experiment.model.tasks["kind"](fused)[4])
    assert not fused.summary[2].any()  # an image alone


@pytest.mark.parametrize("settings", ["fusion={type: joint}", "fusion={type: logit_sum}"])
def test_each_has_a_loss_of_its_own_over_the_rows_that_have_it(settings):
    experiment = built(settings, "balance.unimodal_aux=0.25", "tasks.kind.weight=2")
    batch, model = batch_of(experiment), experiment.model
    losses, fused, counts = model(batch), model.fuse(batch), model.count_labelled(batch)
    task, kinds = model.tasks["kind"], batch.targets["kind"].tensors["target"]
    for stream in STREAMS:
        rows = [row for row in range(ROWS) if stream not in LACKS.get(row, ())]
        assert counts[f"kind/{stream}"] == len(rows) < counts["kind"] == ROWS
        if stream in model.unimodal.heads["kind"]:
            read = Fused(model.unimodal.norms[stream](fused.unimodal[stream].values[:, 0]), {})
            output = model.unimodal.heads["kind"][stream](read)
        else:
            output = task(fused)
        torch.testing.assert_close(losses[f"kind/{stream}"], task.loss(output[rows], {"target": kinds[rows]}))
        likelihood = output[rows].softmax(-1)[range(len(rows)), kinds[rows]].sum()
        torch.testing.assert_close(losses[f"kind/{stream}/likelihood"], likelihood)
        assert model.loss_weights[f"kind/{stream}"] == 0.5
    assert not any(name.startswith("amount/") and name.endswith("likelihood") for name in losses)
    assert not any(name.startswith("words/") for name in losses)  # a task of units, not of rows


def test_their_losses_alone_leave_the_outputs_to_the_fusion():
    experiment = built("fusion={type: concat}", "balance.unimodal_aux=0.5")
    fused = experiment.model.eval().fuse(batch_of(experiment))
    assert torch.equal(experiment.model.output("kind", fused), experiment.model.tasks["kind"](fused))


@pytest.mark.parametrize("fusion", ["concat", "joint", "cross_attention", "logit_sum"])
def test_no_other_input_reaches_what_is_read_of_one_alone(fusion):
    experiment = built(f"fusion.type={fusion}", "balance.unimodal_aux=0.5")
    model = experiment.model.eval()
    whole = model.fuse(batch_of(experiment, {}))
    for stream in STREAMS:
        others = dict.fromkeys(range(ROWS), {*STREAMS} - {stream})
        alone = model.fuse(batch_of(experiment, others)).unimodal[stream]
        assert alone.mask.all()
        torch.testing.assert_close(alone.values, whole.unimodal[stream].values, rtol=1e-9, atol=1e-9)


def test_heads_are_the_same_whatever_else_the_recipe_has():
    recipes = [["fusion={type: concat, logit_sum: true}", "inputs.image=null"], ["fusion.logit_sum=true"]]
    few, many = (build(load_recipe(DEBUG, [*SMALL, *settings]).recipe).model.unimodal for settings in recipes)
    for stream in ("cells", "text"):
        first, second = (heads.heads["kind"][stream].state_dict() for heads in (few, many))
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["balance.unimodal_aux=1", *(f"tasks.{name}=null" for name in ("kind", "topics", "amount"))], "of whole rows"),
        (["balance.ogm_ge={}", *(f"tasks.{name}=null" for name in ("kind", "topics"))], "compares probabilities"),
    ],
)
def test_what_can_do_nothing_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        built(*settings)
