"""Rows encoded once are the rows that evaluation reads, whole, with inputs absent, or another row's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmbert.build import build
from mmbert.data.collate import collate
from mmbert.data.loader import evaluation_batches
from mmbert.evaluate import read_once
from mmbert.evaluate.encoded import encode, reader
from mmbert.evaluate.evaluator import evaluate
from mmbert.evaluate.read_once import ReadOnce
from mmbert.evaluate.views import NONE, missing, whole
from mmbert.recipe.load import load_recipe
from mmbert.types import Batch, Present

EXACT = 1e-9
SMALL = (
    "inputs.sound=null", "inputs.series=null", "inputs.cells.width=16", "inputs.graph.width=16",
    "inputs.image.size=16", "inputs.image.width=16", "inputs.title={type: text, max_length: 8}",
    "trunk.hidden_size=16", "trunk.heads=2", "train.precision=fp64", "data.generated.absent=0.3", "fusion=null",
)  # fmt: skip
INPUTS = ("cells", "graph", "image", "text", "title")
FUSIONS = ("concat", "joint")  # the trunk reads the text alone, or not


@pytest.fixture(scope="module", params=FUSIONS)
def made(request):
    """A model with its training rows, as they are read and as they were encoded in other batches."""
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
    built = build(load_recipe(recipe, [*SMALL, f"fusion.type={request.param}"]).recipe)
    model = built.model.eval()
    encoded = encode(model, evaluation_batches(built.items("train"), 11))
    return built, encoded, reader(model)


def batches(built, change=lambda item: item):
    """The rows as evaluation reads them, each changed before it is joined with others."""
    items = built.items("train")
    found = [change(items[position, None]) for position in range(len(items))]
    return [collate(found[at : at + 16], built.processors, built.labels) for at in range(0, len(found), 16)]


def same(found, expected):
    assert found.loss == pytest.approx(expected.loss, rel=EXACT)
    assert found.scores == {task: pytest.approx(scores, rel=EXACT) for task, scores in expected.scores.items()}
    for task, rows in expected.predictions.items():
        assert list(found.predictions[task]) == list(rows)
        for row, prediction in rows.items():
            other = found.predictions[task][row]
            if task == "words":  # as long as the longest row of the batch
                other, prediction = other[other >= 0], prediction[prediction >= 0]
            torch.testing.assert_close(other, prediction, rtol=EXACT, atol=EXACT)


def test_whole_rows_are_what_evaluation_reads(made):
    built, encoded, read = made
    same(evaluate(read, encoded.batches()), evaluate(built.model, batches(built)))
    samples = list(built.splits["train"][0])
    assert encoded.ids.tolist() == [sample.id for sample in samples]
    assert {name: has.tolist() for name, has in encoded.has.items()} == {
        name: [name in sample.inputs for sample in samples] for name in INPUTS
    }


@pytest.mark.parametrize("names", [["text"], ["cells"], ["graph", "image", "title"], INPUTS])
def test_inputs_taken_away_are_taken_away(made, names):
    built, encoded, read = made
    expected = evaluate(built.model, batches(built), without=names)
    same(evaluate(read, encoded.batches(), without=names), expected)
    view = {**whole(encoded.has), **dict.fromkeys(names, torch.full_like(encoded.ids, NONE))}
    same(evaluate(read, encoded.batches(view)), expected)
    assert all(not {*names} & batch.inputs.keys() for batch in encoded.batches(view))


def test_inputs_absent_in_some_rows_are_as_if_these_had_never_had_them(made):
    built, encoded, read = made
    view = missing(encoded.has, encoded.ids, 0.6, seed=0)
    places = {sample: place for place, sample in enumerate(encoded.ids.tolist())}

    def change(item):
        left = {name: own for name, own in item.inputs.items() if view[name][places[item.id]] != NONE}
        return item._replace(inputs=left)

    expected = evaluate(built.model, batches(built, change))
    same(evaluate(read, encoded.batches(view)), expected)
    assert expected.loss != evaluate(built.model, batches(built)).loss


@pytest.mark.parametrize("name", INPUTS)
def test_another_rows_value_is_read_as_if_it_were_the_rows_own(made, name):
    built, encoded, read = made
    rows = encoded.has[name].nonzero().squeeze(1)
    view = whole(encoded.has)
    view[name][rows] = rows.roll(1)
    items = built.items("train")
    others = {int(encoded.ids[row]): int(other) for row, other in zip(rows, rows.roll(1), strict=True)}

    def change(item):
        if name not in item.inputs:
            return item
        return item._replace(inputs={**item.inputs, name: items[others[item.id], None].inputs[name]})

    expected = evaluate(built.model, batches(built, change))
    same(evaluate(read, encoded.batches(view)), expected)
    assert expected.loss != evaluate(built.model, batches(built)).loss


def test_rows_are_put_together_of_several(made):
    built, encoded, read = made
    sources = {
        name: torch.randint(len(encoded.ids), (9,), generator=torch.Generator().manual_seed(1)) for name in INPUTS
    }
    found = read.predict(Batch(torch.arange(9), encoded.inputs(sources), {}))
    items = built.items("train")
    own = [{name: items[int(sources[name][row]), None].inputs.get(name) for name in INPUTS} for row in range(9)]
    base = items[0, None]
    rows = [base._replace(id=row, inputs={name: one for name, one in own[row].items() if one is not None}, targets={})
            for row in range(9)]  # fmt: skip
    with torch.no_grad():
        expected = built.model.predict(collate(rows, built.processors, built.labels).to("cpu", torch.float64))
    for task, values in expected.items():
        torch.testing.assert_close(found[task], values, rtol=EXACT, atol=EXACT)


def test_the_model_stays_as_it_was(made):
    built, _, read = made
    assert built.model.encoders.keys() == read.encoders.keys() == {"cells", "graph", "image"}
    assert read.encoders["cells"] is not built.model.encoders["cells"]
    assert read.tasks is built.model.tasks
    assert not isinstance(built.model.trunk, ReadOnce)
    assert isinstance(read.trunk, ReadOnce) is built.model.fusion.reads_text_alone
    built.model.train()
    encode(built.model, [])
    assert built.model.training
    built.model.eval()


def test_a_split_without_rows_has_no_columns(made):
    encoded = encode(made[0].model, [])
    assert encoded.inputs({}) == {}
    assert list(encoded.batches()) == []
    assert encoded.ids.shape == (0,)


def words(rows, tokens):
    """A text a row, as the processor makes it."""
    lengths = torch.tensor([len(one) for one in tokens])
    size = int(lengths.max())
    padded = torch.tensor([[*one, *[0] * (size - len(one))] for one in tokens])
    mask = torch.arange(size) < lengths[:, None]
    return Present(
        torch.tensor(rows), {"tokens": padded, "mask": mask, "unit": torch.where(mask, torch.arange(size), -1)}
    )


@pytest.fixture
def trunk(made):
    built = made[0]
    return built.model.trunk


@torch.no_grad()
def test_a_text_is_read_once_and_given_as_often_as_it_comes(trunk, monkeypatch):
    once, asked = ReadOnce(trunk), []
    forward = type(trunk).forward
    monkeypatch.setattr(trunk, "forward", lambda tokens: asked.append(len(tokens.mask)) or forward(trunk, tokens))
    texts = {"text": words([0, 1, 2, 4], [[7, 8], [9], [7, 8], [9, 9, 9]]), "title": words([1], [[5]])}
    found = once(once.embed(texts, 6))
    expected = forward(trunk, trunk.embed(texts, 6))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=EXACT, atol=EXACT)
    assert asked == [4]  # rows 0 and 2 are one text, as rows 3 and 5, which have none
    once.embed({"text": words([0, 1], [[9, 9, 9], [9]])}, 2)
    assert asked == [4, 1]  # row 1 had a title beside it
    assert {name: tokens.mask.sum() for name, tokens in once.split(found).items()} == {"text": 8, "title": 1}


@torch.no_grad()
def test_a_text_cut_into_other_words_is_another(trunk):
    once = ReadOnce(trunk)
    text = words([0], [[7, 8]])
    joined = replace(text, tensors={**text.tensors, "unit": torch.zeros(1, 2, dtype=torch.int64)})
    assert once.embed({"text": text}, 1).unit[0].tolist() != once.embed({"text": joined}, 1).unit[0].tolist()


@torch.no_grad()
def test_it_forgets_where_it_would_remember_too_much(trunk, monkeypatch):
    monkeypatch.setattr(read_once, "MOST", 3)
    once = ReadOnce(trunk)
    first = once.embed({"text": words([0, 1], [[7], [8]])}, 2)
    once.embed({"text": words([0, 1], [[9], [10]])}, 2)
    again = once.embed({"text": words([0, 1], [[7], [8]])}, 2)
    torch.testing.assert_close(again.values, first.values, rtol=EXACT, atol=EXACT)
    assert len(once._read) == 2
