"""Rows encoded once equal those that evaluation encodes: complete, with inputs absent, or exchanged."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmbert.analysis import encoded_rows
from mmbert.analysis.encoded_rows import CachedTrunk, encode_rows, model_for_encoded_rows
from mmbert.analysis.outputs import row_outputs
from mmbert.data.collate import collate
from mmbert.data.loader import evaluation_batches
from mmbert.evaluation.attribution import project_to_additive, unimodal_means
from mmbert.evaluation.evaluate import evaluate
from mmbert.evaluation.perturbations import NONE, drop_at_random, unchanged_view
from mmbert.experiment.build import build
from mmbert.recipe.load import load_recipe
from mmbert.types import Batch, Present

EXACT = 1e-9
SMALL = (
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.image=null",
    "inputs.cells.width=8",
    "inputs.graph.width=8",
    "inputs.graph.layers=1",
    "inputs.title={type: text, max_length: 8}",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "trunk.layers=1",
    "train.precision=fp64",
    "data.generated.rows=40",
    "data.generated.absent=0.3",
    "fusion=null",
)
INPUTS = ("cells", "graph", "text", "title")
LEARNED = ("inputs.cells.missing=learned", "inputs.graph.missing=learned")
MODELS = {  # trunks of text alone and of all inputs; unimodal heads; learned tokens for absent inputs
    "concat": ["fusion.type=concat"],
    "joint, heads, tokens": ["fusion={type: joint, logit_sum: true}", *LEARNED],
    "logit_sum": ["fusion.type=logit_sum"],
}


@pytest.fixture(scope="module", params=MODELS)
def encoded_case(request):
    """A model with its training rows, as items and encoded in other batches."""
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
    experiment = build(load_recipe(recipe, [*SMALL, *MODELS[request.param]]).recipe)
    model, generator = experiment.model.eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # opens gates and makes heads and tokens nonzero
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    items = experiment.dataset("train")
    encoded = encode_rows(model, evaluation_batches(items, 11))
    return experiment, encoded, model_for_encoded_rows(model), [items[position, None] for position in range(len(items))]


@pytest.fixture(scope="module")
def plain(encoded_case):
    """The evaluation of the unchanged rows."""
    return evaluate_rows(encoded_case)


def evaluate_rows(encoded_case, change=lambda item: item.inputs):
    """The evaluation of rows that have only the given inputs, removed before collation."""
    experiment, items = encoded_case[0], encoded_case[3]
    changed_items = [item._replace(inputs=change(item)) for item in items]
    parts = [collate(changed_items[at : at + 16], experiment.processors) for at in range(0, len(changed_items), 16)]
    return evaluate(experiment.model, parts)


def same(actual, expected):
    assert actual.loss == pytest.approx(expected.loss, rel=EXACT)
    # other metrics rank rows, which may tie
    assert actual.scores["kind"] == pytest.approx(expected.scores["kind"], rel=EXACT)
    for task, rows in expected.predictions.items():
        assert list(actual.predictions[task]) == list(rows)
        for row, prediction in rows.items():
            actual_prediction = actual.predictions[task][row]
            if task == "words":  # padded to the longest row of the batch
                actual_prediction, prediction = actual_prediction[actual_prediction >= 0], prediction[prediction >= 0]
            torch.testing.assert_close(actual_prediction, prediction, rtol=EXACT, atol=EXACT)


def test_complete_rows_equal_those_of_evaluation(encoded_case, plain):
    _, encoded, read, items = encoded_case
    same(evaluate(read, encoded.batches()), plain)
    assert encoded.ids.tolist() == [item.id for item in items]
    assert {name: has.tolist() for name, has in encoded.has.items()} == {
        name: [name in item.inputs for item in items] for name in INPUTS
    }


@pytest.mark.parametrize("names", [["text"], ["graph", "cells"], INPUTS])
def test_removed_inputs_equal_absent_inputs(encoded_case, plain, names):
    _, encoded, read, _ = encoded_case
    expected = evaluate_rows(
        encoded_case, lambda item: {name: value for name, value in item.inputs.items() if name not in names}
    )
    same(evaluate(read, encoded.batches(), without=names), expected)
    view = {**unchanged_view(encoded.has), **dict.fromkeys(names, torch.full_like(encoded.ids, NONE))}
    same(evaluate(read, encoded.batches(view)), expected)
    assert all(not {*names} & batch.inputs.keys() for batch in encoded.batches(view))
    assert expected.loss != plain.loss


def test_inputs_removed_in_some_rows_equal_absent_inputs(encoded_case, plain):
    _, encoded, read, _ = encoded_case
    view = drop_at_random(encoded.has, encoded.ids, 0.6, seed=0)
    places = {sample: place for place, sample in enumerate(encoded.ids.tolist())}
    expected = evaluate_rows(
        encoded_case,
        lambda item: {name: value for name, value in item.inputs.items() if view[name][places[item.id]] != NONE},
    )
    same(evaluate(read, encoded.batches(view)), expected)
    assert expected.loss != plain.loss


@pytest.mark.parametrize("names", [["text"], INPUTS])
def test_exchanged_values_are_read_like_own_values(encoded_case, plain, names):
    _, encoded, read, items = encoded_case
    view, inputs = unchanged_view(encoded.has), {item.id: dict(item.inputs) for item in items}
    for shift, name in enumerate(names, start=1):
        rows = encoded.has[name].nonzero().squeeze(1)
        view[name][rows] = rows.roll(shift)
        for row, source in zip(rows.tolist(), rows.roll(shift).tolist(), strict=True):
            inputs[items[row].id][name] = items[source].inputs[name]
    expected = evaluate_rows(encoded_case, lambda item: inputs[item.id])
    same(evaluate(read, encoded.batches(view)), expected)
    assert expected.loss != plain.loss


def test_rows_are_composed_of_several_rows(encoded_case):
    experiment, encoded, read, items = encoded_case
    generator = torch.Generator().manual_seed(1)
    sources = {name: torch.randint(len(items), (9,), generator=generator) for name in INPUTS}
    predictions = read.predict(Batch(torch.arange(9), encoded.inputs(sources), {}))
    rows = []
    for row in range(9):
        inputs = {name: items[int(sources[name][row])].inputs.get(name) for name in INPUTS}
        inputs = {name: value for name, value in inputs.items() if value is not None}
        rows.append(items[0]._replace(id=row, inputs=inputs, targets={}))
    with torch.no_grad():
        expected = experiment.model.predict(collate(rows, experiment.processors).to("cpu", torch.float64))
    for task, values in expected.items():
        torch.testing.assert_close(predictions[task], values, rtol=EXACT, atol=EXACT)


def test_an_additive_model_equals_its_projection(encoded_case):
    """A sum of heads on single inputs, of rows that have a text and lack some of the others; no other model."""
    experiment, encoded, read, _ = encoded_case
    inputs, chosen = ("cells", "graph", "written"), encoded.has["text"].nonzero().squeeze(1)[:10]

    def outputs(view):
        chosen_rows = {name: chosen[places] for name, places in view.items()}
        sources = {
            "cells": chosen_rows["cells"],
            "graph": chosen_rows["graph"],
            "text": chosen_rows["written"],
            "title": chosen_rows["written"],
        }
        return row_outputs(read, Batch(chosen_rows["written"], encoded.inputs(sources), {}), ["kind"])

    assert not all(encoded.has[name][chosen].all() for name in ("cells", "graph"))
    rows = torch.arange(10)
    model_outputs, projected = (
        outputs(dict.fromkeys(inputs, rows)),
        project_to_additive(unimodal_means(outputs, inputs, 10, batch=100)["kind"]),
    )
    additive = (projected - model_outputs["kind"]).abs().max() < EXACT
    assert additive == (not experiment.model.fusion.joins)


def test_encoding_changes_no_state_of_the_model(encoded_case):
    experiment, _, read, _ = encoded_case
    assert experiment.model.encoders.keys() == read.encoders.keys() == {"cells", "graph"}
    assert read.encoders["cells"] is not experiment.model.encoders["cells"]
    assert read.tasks is experiment.model.tasks
    assert not isinstance(experiment.model.trunk, CachedTrunk)
    assert isinstance(read.trunk, CachedTrunk) is experiment.model.fusion.reads_text_alone
    experiment.model.train()
    encode_rows(experiment.model, [])
    assert experiment.model.training
    experiment.model.eval()


def test_a_split_without_rows_has_no_columns(encoded_case):
    encoded = encode_rows(encoded_case[0].model, [])
    assert encoded.inputs({}) == {}
    assert list(encoded.batches()) == []
    assert encoded.ids.shape == (0,)


def words(rows, tokens):
    """One text for each row, as encoded by the processor."""
    lengths = torch.tensor([len(row_tokens) for row_tokens in tokens])
    size = int(lengths.max())
    padded = torch.tensor([[*row_tokens, *[0] * (size - len(row_tokens))] for row_tokens in tokens])
    mask = torch.arange(size) < lengths[:, None]
    return Present(
        torch.tensor(rows), {"tokens": padded, "mask": mask, "unit": torch.where(mask, torch.arange(size), -1)}
    )


@pytest.fixture
def trunk(encoded_case):
    experiment = encoded_case[0]
    return experiment.model.trunk


@torch.no_grad()
def test_equal_texts_are_encoded_once(trunk, monkeypatch):
    once, asked = CachedTrunk(trunk), []
    forward = type(trunk).forward
    monkeypatch.setattr(trunk, "forward", lambda tokens: asked.append(len(tokens.mask)) or forward(trunk, tokens))
    texts = {"text": words([0, 1, 2, 4], [[7, 8], [9], [7, 8], [9, 9, 9]]), "title": words([1], [[5]])}
    tokens = once(once.embed(texts, 6))
    expected = forward(trunk, trunk.embed(texts, 6))
    for actual_part, expected_part in zip(tokens, expected, strict=True):
        torch.testing.assert_close(actual_part, expected_part, rtol=EXACT, atol=EXACT)
    assert asked == [4]  # rows 0 and 2 have equal texts, rows 3 and 5 have none
    once.embed({"text": words([0, 1], [[9, 9, 9], [9]])}, 2)
    assert asked == [4, 1]  # row 1 had a title too
    assert {name: stream.mask.sum() for name, stream in once.split(tokens).items()} == {"text": 8, "title": 1}


@torch.no_grad()
def test_a_text_with_other_word_boundaries_is_another(trunk):
    once = CachedTrunk(trunk)
    text = words([0], [[7, 8]])
    joined = replace(text, tensors={**text.tensors, "unit": torch.zeros(1, 2, dtype=torch.int64)})
    assert once.embed({"text": text}, 1).unit[0].tolist() != once.embed({"text": joined}, 1).unit[0].tolist()


@torch.no_grad()
def test_texts_that_do_not_fit_into_the_cache_are_encoded_again(trunk, monkeypatch):
    size = sum(part.nbytes for part in CachedTrunk(trunk).embed({"text": words([0], [[7]])}, 1))
    monkeypatch.setattr(encoded_rows, "MAX_BYTES", 2 * size)
    once = CachedTrunk(trunk)
    first = once.embed({"text": words([0, 1], [[7], [8]])}, 2)
    second = once.embed({"text": words([0], [[9]])}, 1)
    assert len(once._cache) == 2
    third = once.embed({"text": words([0, 1, 2], [[7], [9], [8]])}, 3)
    expected = torch.stack([first.values[0], second.values[0], first.values[1]])
    torch.testing.assert_close(third.values, expected, rtol=EXACT, atol=EXACT)
