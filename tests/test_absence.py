"""Absent inputs: masked or replaced by a learned token, equally in training and inference."""

from pathlib import Path

import pytest
import torch

from mmbert.data.collate import Item, collate
from mmbert.experiment.build import build
from mmbert.recipe.load import load_recipe

DEBUG = Path(__file__).resolve().parents[1] / "recipes" / "debug.yaml"
SMALL = (
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.image=null",
    "inputs.cells.width=16",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "train.precision=fp64",
    "train.dropout=0",
    "data.generated.absent=0",
    "train.input_dropout={cells: 0.9}",
)
ROWS = 12


def build_debug(*settings):
    return build(load_recipe(DEBUG, [*SMALL, *settings]).recipe)


def items_of(experiment, lack=(), epoch=None):
    """Rows of the training split; those in ``lack`` have no cells."""
    items = [experiment.dataset("train")[row, epoch] for row in range(ROWS)]
    keep = {row: {"text"} if row in lack else {"text", "cells"} for row in range(ROWS)}
    return [
        Item(item.id, {name: tensors for name, tensors in item.inputs.items() if name in keep[row]}, item.targets)
        for row, item in enumerate(items)
    ]


def batch_of(experiment, items):
    return collate(items, experiment.processors).to("cpu", torch.float64)


@pytest.mark.parametrize("missing", ["masked", "learned"])
@pytest.mark.parametrize("fusion", ["concat", "joint", "cross_attention"])
def test_an_input_dropped_in_training_equals_an_absent_input(fusion, missing):
    experiment = build_debug(f"fusion={{type: {fusion}}}", f"inputs.cells.missing={missing}")
    hidden = items_of(experiment, epoch=1)
    lack = [row for row, item in enumerate(hidden) if "cells" not in item.inputs]
    assert 0 < len(lack) < ROWS
    absent = batch_of(experiment, items_of(experiment, lack))
    for mode in (True, False):
        experiment.model.train(mode)
        fused_hidden, fused_absent = experiment.model.fuse(batch_of(experiment, hidden)), experiment.model.fuse(absent)
        torch.testing.assert_close(fused_hidden.summary, fused_absent.summary, rtol=0, atol=0)
    experiment.model.train()
    losses = experiment.model(absent)
    assert all(torch.equal(loss, losses[name]) for name, loss in experiment.model(batch_of(experiment, hidden)).items())


@pytest.mark.parametrize("fusion", ["concat", "joint", "cross_attention"])
def test_the_learned_token_is_read_only_for_rows_without_the_input(fusion):
    experiment = build_debug(f"fusion={{type: {fusion}}}", "inputs.cells.missing=learned")
    model = experiment.model.eval()
    with torch.no_grad():
        for parameter in model.parameters():  # opens gates
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
    for lack in ([1, 4], list(range(ROWS))):
        batch = batch_of(experiment, items_of(experiment, lack))
        before = model.predict(batch)["kind"]
        with torch.no_grad():
            model.missing["cells"].token += torch.linspace(-1, 1, 16).double()
        moved = (model.predict(batch)["kind"] - before).abs().amax(1)
        read = [row for row in range(ROWS) if moved[row] > 1e-9]
        assert read == lack


def test_with_a_learned_token_every_row_has_every_stream():
    """Only without a learned token is a row that has text alone read as by the plain trunk."""
    for missing, plain in (("masked", True), ("learned", False)):
        experiment = build_debug("fusion={type: concat}", f"inputs.cells.missing={missing}")
        model = experiment.model.eval()
        fused = model.fuse(batch_of(experiment, items_of(experiment, range(ROWS))))
        assert torch.equal(fused.summary, fused.unimodal["text"].values[:, 0]) == plain
