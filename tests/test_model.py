"""Tests of MMBert with all input types and tasks under every fusion: absence, rows, gradients, stand-ins."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from mmbert.data.collate import Item, collate
from mmbert.experiment.build import build
from mmbert.fusion import FUSIONS
from mmbert.recipe.load import load_recipe
from mmbert.training.step import accumulate_gradients, count_units
from mmbert.types import Batch, Present

DEBUG = Path(__file__).resolve().parents[1] / "recipes" / "debug.yaml"
SMALL = (
    *("trunk.hidden_size=16", "trunk.heads=2", "data.generated.absent=0", "train.precision=fp64", "train.dropout=0"),
    *("inputs.image.size=16", "inputs.image.width=16", "inputs.sound.width=16", "inputs.sound.mels=8"),
    *("inputs.cells.width=16", "inputs.graph.width=16", "tasks.kind.hidden=8"),
)
INPUTS = ("cells", "graph", "image", "series", "sound", "text")
TASKS = ("amount", "kind", "topics", "words")
ROWS, EXACT = 5, 1e-9


def small(*settings):
    return load_recipe(DEBUG, [*SMALL, *settings]).recipe


LEARNED = [f"inputs.{name}.missing=learned" for name in ("image", "series")]
FLOATS = {"sound": ("frames", "mask"), "series": ("values", "observed"), "cells": ("numbers", "observed")}
ALONE = {  # settings with unimodal heads or learned tokens, by use
    "summed": ["fusion={type: joint, tokens: 1, logit_sum: true}", *LEARNED],
    "weighed": ["fusion={type: joint, tokens: 1}", "balance.unimodal_aux=0.5", "inputs.graph.missing=learned"],
    "joint": ["fusion={type: joint, tokens: 1}"],  # short streams are not resampled
    "watched": ["fusion={type: concat}", "balance.ogm_ge={}"],
}
SETTINGS = {name: ["fusion=null", f"fusion.type={name}"] for name in FUSIONS.names()} | ALONE
ITEMS = {}  # items of the training split by row; the same in all settings


def some(setting, names):
    """All names for the joint fusion; for every other setting the text and two more, in rotation."""
    first = 2 * [*SETTINGS].index(setting)
    chosen = {"text", *(name for place, name in enumerate(names) if (place - first) % len(names) < 2)}
    return [name for name in names if setting == "joint" or name in chosen]


@pytest.fixture(scope="module", params=SETTINGS)
def setting(request):
    return request.param


@pytest.fixture(scope="module")
def experiment(setting):
    """An experiment in training mode; zero-initialised parameters hold small random values."""
    built = build(small(*SETTINGS[setting]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return built


def make_batch(experiment, rows=range(ROWS), absent=lambda row, name: False):
    """Rows of the training split as a batch, without the inputs and targets that are ``absent``."""
    items = []
    for row in rows:
        if row not in ITEMS:
            ITEMS[row] = experiment.dataset("train")[row, None]
        item = ITEMS[row]
        kinds = ({name: tensors for name, tensors in kind.items() if not absent(row, name)} for kind in item[1:])
        items.append(Item(item.id, *kinds))
    return collate(items, experiment.processors).to("cpu", torch.float64)


def without(batch, *names):
    """The same batch without some inputs or targets."""

    inputs = {name: items for name, items in batch.inputs.items() if name not in names}
    targets = {name: items for name, items in batch.targets.items() if name not in names}
    return Batch(batch.ids, inputs, targets)


@torch.no_grad()
def outputs(model, batch):
    """Summary and task outputs of each row; for words only the row's real ones."""
    fused = model.fuse(batch)
    rows = [[fused.summary[row]] for row in range(len(batch))]
    for name in model.tasks:
        for row, output in zip(rows, model.output(name, fused), strict=True):
            row.append(output[output[:, -1] == 1] if name == "words" else output)
    return rows


def distance(first, second):
    """The largest difference between the outputs of two rows; infinite if they have different numbers of words."""
    if any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
        return float("inf")
    return max(float((a - b).abs().max()) if a.numel() else 0.0 for a, b in zip(first, second, strict=True))


def gradients(model, batch, *tasks):
    """The losses of a batch, and the gradient of their sum (or of some tasks') for each parameter."""
    model.zero_grad()
    losses = model(batch)
    assert {name for name in losses if not name.endswith("/likelihood")} == {*model.loss_weights}
    sum(losses[name] for name in model.loss_weights if name.partition("/")[0] in (tasks or TASKS)).backward()
    by_name = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return losses, by_name


def largest(tensors):
    return max(float(tensor.abs().max()) for tensor in tensors if tensor.numel())


def with_nan(tokens):
    return tokens._replace(values=tokens.values * 0 + float("nan"))


def test_an_absent_input_leaves_the_other_rows_as_they_were(setting, experiment):
    whole, absences_seen = outputs(experiment.model, make_batch(experiment)), set()
    for name in some(setting, INPUTS):
        partial = make_batch(experiment, absent=lambda row, key: key == name and row in (1, 3))  # noqa: B023
        without_some = outputs(experiment.model, partial)
        moved = [distance(whole[row], without_some[row]) for row in range(ROWS)]
        assert all(moved[row] < EXACT for row in range(ROWS) if row not in (1, 3)), name
        absences_seen |= {row for row in (1, 3) if moved[row] > 1e-6}
    assert absences_seen == {1, 3}  # a fusion that selects, such as a maximum, need not use every input of every row


def test_an_absent_key_equals_an_input_that_is_all_masked(setting, experiment, monkeypatch):
    batch = make_batch(experiment)
    for name in some(setting, INPUTS):
        with_stand_in = outputs(experiment.model, without(batch, name))
        with monkeypatch.context() as patch:
            patch.setattr(experiment.model, "stand_ins", {})
            absent = outputs(experiment.model, without(batch, name))
            present = batch.inputs[name]
            masked = [with_stand_in]
            if "mask" in present.tensors:
                hidden = {"mask": torch.zeros_like(present.tensors["mask"])}
                if name == "graph":  # no node, so no edge
                    hidden["edges"] = torch.full_like(present.tensors["edges"], -1)
                empty = Present(present.rows, present.tensors | hidden)
                masked.append(outputs(experiment.model, Batch(batch.ids, batch.inputs | {name: empty}, batch.targets)))
        for result in masked:
            assert max(map(distance, result, absent)) < EXACT, name


def test_nothing_behind_a_mask_reaches_output_or_gradient(experiment, monkeypatch):
    def spoil(batch):
        for name, (tensor, mask) in (FLOATS | {"graph": ("node_values", "mask")}).items():
            tensors = batch.inputs[name].tensors
            hidden = ~tensors[mask]
            assert hidden.any() or name == "cells"
            tensors[tensor][hidden] = float("nan")
        text, graph = batch.inputs["text"].tensors, batch.inputs["graph"].tensors
        text["tokens"][~text["mask"]] = 7
        text["unit"][~text["mask"]] = 3
        graph["nodes"][~graph["mask"]] = 1
        graph["edge_features"][graph["edges"][:, 0] < 0] = 1
        return batch

    # the last row has only a graph: the other streams are padding there
    def batch():
        return make_batch(experiment, absent=lambda row, name: row == ROWS - 1 and name not in ("graph", *TASKS))

    losses, grads = gradients(experiment.model, batch())
    plain = outputs(experiment.model, batch())
    spoiled_losses, spoiled = gradients(experiment.model, spoil(batch()))
    assert max(map(distance, outputs(experiment.model, spoil(batch())), plain)) == 0
    torch.testing.assert_close(spoiled_losses, losses, rtol=0, atol=0)
    torch.testing.assert_close(spoiled, grads, rtol=0, atol=0)


def test_a_stand_in_reaches_neither_loss_nor_gradient(setting, experiment, monkeypatch):
    stand_in = experiment.model._stand_in
    for name in some(setting, INPUTS[:-1]):
        batch = without(make_batch(experiment), name)
        prefix = f"encoders.{name}."
        losses, grads = gradients(experiment.model, batch)
        assert all(gradient is not None for gradient in grads.values())
        assert largest(gradient for key, gradient in grads.items() if key.startswith(prefix)) == 0
        with monkeypatch.context() as patch:  # whatever it holds
            patch.setattr(experiment.model, "_stand_in", lambda *given: with_nan(stand_in(*given)))
            spoiled_losses, spoiled = gradients(experiment.model, batch)
            torch.testing.assert_close(spoiled_losses, losses, rtol=0, atol=0)
            others = {key for key in grads if not key.startswith(prefix)}
            spoiled, expected = ({key: by_name[key] for key in others} for by_name in (spoiled, grads))
            torch.testing.assert_close(spoiled, expected, rtol=0, atol=0)
        with monkeypatch.context() as patch:
            patch.setattr(experiment.model, "stand_ins", {})
            plain_losses, plain = gradients(experiment.model, batch)
        torch.testing.assert_close(plain_losses, losses, rtol=EXACT, atol=EXACT)
        assert any(gradient is None for gradient in plain.values())  # DDP would wait for these
        for key, gradient in plain.items():
            if gradient is not None and gradient.numel():
                assert largest([gradient - grads[key]]) < EXACT, key
            elif gradient is None:
                assert not grads[key].any(), key


def test_a_task_without_a_label_reaches_neither_loss_nor_gradient(setting, experiment):
    for name in some(setting, TASKS):
        losses, grads = gradients(experiment.model, without(make_batch(experiment), name))
        others = [task for task in TASKS if task != name]
        assert losses[name] == 0
        whole_losses, whole = gradients(experiment.model, make_batch(experiment), *others)
        for task in others:
            assert losses[task] == whole_losses[task]
        for key, gradient in grads.items():
            if key.startswith((f"tasks.{name}.", f"unimodal.heads.{name}.")):
                assert gradient is not None
                assert not gradient.any()
            else:
                assert torch.equal(gradient, whole[key]), key


@pytest.mark.parametrize("names", [INPUTS, TASKS, (*INPUTS, *TASKS), ("text",)], ids=["inputs", "tasks", "all", "text"])
def test_every_parameter_takes_part_in_every_step(experiment, names):
    losses, grads = gradients(experiment.model, without(make_batch(experiment), *names))
    assert list(losses)[: len(TASKS)] == list(TASKS)
    for key, gradient in grads.items():
        assert gradient is not None, key
        assert gradient.isfinite().all(), key


def test_every_parameter_learns(experiment):
    batch = make_batch(experiment, absent=lambda row, name: name in INPUTS and (row + INPUTS.index(name)) % ROWS == 0)
    _, grads = gradients(experiment.model, batch)
    assert [key for key, gradient in grads.items() if gradient.numel() and not gradient.any()] == []


def test_what_is_frozen_stays_in_evaluation_mode(experiment, monkeypatch):
    encoder = experiment.model.encoders["image"]
    monkeypatch.setattr(encoder, "pretrained", lambda: encoder.layers)
    assert experiment.model.train().encoders["image"].layers.training
    try:
        encoder.layers.requires_grad_(False)
        assert not experiment.model.train().encoders["image"].layers.training
        assert encoder.dropout.training
    finally:
        encoder.layers.requires_grad_(True)
        experiment.model.train()


def test_all_inputs_absent_is_finite_and_the_same_for_each_row(experiment):
    nothing = without(make_batch(experiment), *INPUTS)
    for mode in (True, False):
        rows = outputs(experiment.model.train(mode), nothing)
        assert all(part.isfinite().all() for row in rows for part in row)
        assert max(distance(row, rows[0]) for row in rows) < EXACT
    experiment.model.train()
    partly = outputs(experiment.model, make_batch(experiment, absent=lambda row, name: row == 2 and name in INPUTS))
    assert distance(partly[2], rows[0]) < EXACT


def test_rows_do_not_influence_each_other(experiment):
    def absent(row, name):
        return name in INPUTS and (row + INPUTS.index(name)) % 4 == 0

    assert experiment.model.training
    whole = outputs(experiment.model, make_batch(experiment, absent=absent))
    for row in range(ROWS):
        (alone,) = outputs(experiment.model, make_batch(experiment, [row], absent))
        assert distance(alone, whole[row]) < EXACT


def test_a_batch_equals_its_micro_batches(experiment):
    def absent(row, name):  # the first micro-batch has no label of one task, the second no sound
        hidden = (row < 4 and name == "kind") or (4 <= row < 8 and name == "sound")
        return hidden or (row * 7 + 3 * (*INPUTS, *TASKS).index(name)) % 5 < 2

    weights = experiment.model.loss_weights | dict(zip(TASKS, (1.0, 0.5, 2.0, 1.5), strict=True))
    accelerator = Accelerator(cpu=True)
    grads, outcomes = [], []
    for cuts in ([range(16)], [range(at, at + 4) for at in range(0, 16, 4)], [range(3), range(3, 15), range(15, 16)]):
        batches = [make_batch(experiment, rows, absent) for rows in cuts]
        experiment.model.zero_grad()
        units = count_units(experiment.model, batches, accelerator.device)
        outcomes.append(accumulate_gradients(experiment.model, batches, units, weights, accelerator, seed=(0, 1)))
        grads.append({name: parameter.grad for name, parameter in experiment.model.named_parameters()})
    experiment.model.zero_grad()
    assert "kind" not in make_batch(experiment, range(4), absent).targets
    for cut in (1, 2):
        assert outcomes[cut].losses == pytest.approx(outcomes[0].losses, rel=EXACT)
        assert outcomes[cut].likelihoods == pytest.approx(outcomes[0].likelihoods, rel=EXACT)
        for name, gradient in grads[0].items():
            scale = max(1.0, largest([gradient]) if gradient.numel() else 0.0)
            assert not gradient.numel() or largest([grads[cut][name] - gradient]) < EXACT * scale, name


def test_predictions_are_given_for_every_row(experiment):
    batch = without(make_batch(experiment), *TASKS)
    predictions = experiment.model.eval().predict(batch)
    experiment.model.train()
    assert {name: len(rows) for name, rows in predictions.items()} == dict.fromkeys(TASKS, ROWS)
    torch.testing.assert_close(predictions["kind"].sum(-1), torch.ones(ROWS, dtype=torch.float64))
