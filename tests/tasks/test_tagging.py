"""Tests of tagging: one tag per unit."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmbert.errors import DataError, RecipeError, SampleError
from mmbert.preprocessing.labels import UNSEEN
from mmbert.types import Fused, Tokens
from tasks.tagging import Tagging, TaggingLabel, pool_units, spans

DIM = 4


def fitted(rows=(["b", "a"], ["c", None])) -> TaggingLabel:
    labels = TaggingLabel()
    labels.fit(rows)
    return labels


def stream(units: list[list[int]]) -> Tokens:
    """Random tokens of these units; -1 is a token without unit, -2 is padding that holds NaN."""
    unit = torch.tensor(units)
    values = torch.randn(*unit.shape, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = unit > -2
    return Tokens(values.masked_fill(~mask[..., None], float("nan")), mask, unit.clamp(min=-1))


def test_labels_are_indices_and_gaps_are_ignored():
    assert fitted()(["c", None, "a", float("nan")])["target"].tolist() == [2, -100, 0, -100]
    joined = fitted().collate([fitted()(["a"]), fitted()(["b", "c"])])
    assert joined["target"].tolist() == [[0, -100], [1, 2]]


def test_a_slice_of_a_batch_collates_again():
    joined = fitted().collate([fitted()(["a"]), fitted()(["b", "c"])])
    joined_again = fitted().collate([{"target": joined["target"][0]}, fitted()(["c"] * 3)])
    assert joined_again["target"].tolist() == [[0, -100, -100], [2, 2, 2]]


@pytest.mark.parametrize("value", [[], [None, None]])
def test_a_row_without_labels_is_absent(value):
    assert fitted()(value) == {}


def test_a_tag_that_training_does_not_have_is_unseen():
    tags = fitted([["noun", "verb"]])
    assert tags(["verb", "noon", None])["target"].tolist() == [1, UNSEEN, -100]
    assert [*tags.unseen(["verb", "noon", None])] == ["noon"]


@pytest.mark.parametrize("value", ["aab", None, 3, {"a": 1}])
def test_what_is_no_list_of_tags_is_refused(value):
    with pytest.raises(SampleError, match="expected a list of tags"):
        fitted()(value)


def test_one_tag_alone_is_refused():
    with pytest.raises(DataError, match="at least two classes"):
        fitted([["a", "a"], [None]])


def test_units_are_means_of_their_real_tokens():
    tokens = stream([[-1, 0, 0, 2, -2], [1, 1, 1, -1, -2], [-1, -1, -2, -2, -2]])
    vectors, real = pool_units(tokens)
    values = tokens.values
    expected = torch.zeros(3, 4, DIM, dtype=torch.float64)  # three units and the empty one
    expected[0, 0], expected[0, 2], expected[1, 1] = values[0, 1:3].mean(0), values[0, 3], values[1, :3].mean(0)
    torch.testing.assert_close(vectors, expected)
    assert real.tolist() == [[True, True, True, False], [True, True, False, False], [False] * 4]


def test_units_of_any_order_equal_a_loop_over_rows():
    generator = torch.Generator().manual_seed(0)
    tokens = stream(torch.randint(-2, 6, (7, 11), generator=generator).tolist())
    vectors, _ = pool_units(tokens)
    for row in range(7):
        for unit in range(vectors.shape[1]):
            mine = tokens.mask[row] & (tokens.unit[row] == unit)
            expected = tokens.values[row, mine].mean(0) if mine.any() else torch.zeros(DIM, dtype=torch.float64)
            torch.testing.assert_close(vectors[row, unit], expected)


def test_a_stream_without_tokens_has_one_empty_unit():
    empty = Tokens(torch.zeros(2, 0, DIM), torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 0, dtype=torch.int64))
    vectors, real = pool_units(empty)
    assert vectors.shape == (2, 1, DIM)
    assert not real.any()


def test_hidden_tokens_reach_neither_output_nor_gradient():
    tokens = stream([[0, 1, -2], [0, -1, -2]])
    tokens.values.requires_grad_()
    task = Tagging(DIM, fitted()).double().eval()
    output = task(Fused(torch.zeros(2, DIM), {"text": tokens}))
    task.loss(output, {"target": torch.tensor([[0, 1], [2, -100]])}).backward()
    assert output.isfinite().all()
    assert (tokens.values.grad[:, 2] == 0).all()
    assert (tokens.values.grad[1, 1] == 0).all()
    assert (tokens.values.grad[0, :2] != 0).all()


@pytest.mark.parametrize("hidden", [0, 5])
def test_the_loss_is_cross_entropy_and_a_unit_without_tokens_a_zero_vector(hidden):
    task = Tagging(DIM, fitted(), hidden=hidden).double().eval()
    tokens = stream([[0, 0, 2, -2], [0, 1, 1, -1]])
    output = task(Fused(torch.zeros(2, DIM), {"text": tokens}))
    target = torch.tensor([[0, 1, 2, 0, 1, -100, 2], [1, -100, 2, 0, -100, -100, -100]])
    vectors = torch.zeros(2, 7, DIM, dtype=torch.float64)
    vectors[:, :4] = pool_units(tokens)[0]
    logits = task.head(vectors)
    expected = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="sum")
    torch.testing.assert_close(task.loss(output, {"target": target}), expected / math.log(3), rtol=1e-12, atol=0)
    assert task.count({"target": target}) == 9


def test_fewer_targets_than_units_leave_the_rest_out():
    task = Tagging(DIM, fitted()).double().eval()
    output = task(Fused(torch.zeros(1, DIM), {"text": stream([[0, 1, 2, 3]])}))
    short, long = torch.tensor([[1, 2]]), torch.tensor([[1, 2, -100, -100]])
    assert task.loss(output, {"target": short}) == task.loss(output, {"target": long})


def test_the_constant_costs_the_same_for_units_that_were_cut_off():
    task = Tagging(DIM, fitted([["a", "a", "a", "b"]])).double().eval()
    torch.nn.init.normal_(task.head[-1].bias)  # as after training: the head's own empty unit is another
    short, long = stream([[0]]), stream([[0, 1, 2, 3]])
    target = {"target": torch.tensor([[0, 0, 0, 1]])}
    losses = [task.loss(task.constant(Fused(torch.zeros(1, 4), {"text": stream})), target) for stream in (short, long)]
    assert losses[0] == losses[1]
    expected = -(3 * math.log(0.75) + math.log(0.25)) / math.log(2)
    assert losses[0].item() == pytest.approx(expected, rel=1e-6)


def test_predictions_end_with_the_last_unit_of_each_row():
    task = Tagging(DIM, fitted(), of="structure").double().eval()
    fused = Fused(torch.zeros(3, DIM), {"structure": stream([[0, 1, 2], [0, 0, -2], [-1, -2, -2]])})
    predictions = task.predict(task(fused))
    assert (predictions >= 0).sum(1).tolist() == [3, 1, 0]
    assert [len(task.decode(prediction)) for prediction in predictions] == [3, 1, 0]
    assert set(task.decode(predictions[0])) <= {"a", "b", "c"}


def test_a_missing_stream_is_an_error_that_names_those_there():
    task = Tagging(DIM, fitted(), of="textt")
    with pytest.raises(RecipeError, match=r"the stream 'textt', which does not exist. Did you mean 'text'\?"):
        task(Fused(torch.zeros(1, DIM), {"text": stream([[0]])}))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-x I-x O B-y", {(0, 2, "x"), (3, 4, "y")}),
        ("B-x B-x I-x", {(0, 1, "x"), (1, 3, "x")}),
        ("I-x I-y I-y", {(0, 1, "x"), (1, 3, "y")}),
        ("O I-x O O I-x", {(1, 2, "x"), (4, 5, "x")}),
        ("B-a-b I-a-b", {(0, 2, "a-b")}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_spans_of_bio_tags(tags, expected):
    assert spans(tags.split(), bio=True) == expected


def test_spans_are_runs_of_one_tag_otherwise():
    assert spans(["x", "x", "y", "O", "y", None, "y"], bio=False) == {
        (0, 2, "x"),
        (2, 3, "y"),
        (4, 5, "y"),
        (6, 7, "y"),
    }
    assert spans(["B-x", "B-x"], bio=False) == {(0, 2, "B-x")}


def score(task: Tagging, predicted: list[list], true: list[list]) -> dict[str, float]:
    index = task.labels.classes.index
    predictions = [torch.tensor([index(tag) for tag in row] + [-1] * extra) for extra, row in enumerate(predicted)]
    return task.score(predictions, [task.labels(row) for row in true])


def test_scores_of_bio_tags():
    task = Tagging(DIM, fitted([["O", "B-x", "I-x", "B-y"]]))
    true = [["B-x", "I-x", "O", "B-y"], ["O", "B-x", "O"]]
    assert score(task, true, true) == {"span_f1": 1.0, "accuracy": 1.0}
    guess = [["B-x", "O", "O", "B-y"], ["O", "B-x", "B-x"]]  # 2 of 4 found, of 3 wanted
    assert score(task, guess, true) == {"span_f1": pytest.approx(4 / 7), "accuracy": pytest.approx(5 / 7)}
    nothing = [["O"] * 4, ["O"] * 3]
    assert score(task, nothing, nothing) == {"span_f1": 0.0, "accuracy": 1.0}


def test_units_cut_off_count_as_wrong_and_units_without_label_not_at_all():
    task = Tagging(DIM, fitted([["x", "y", "z"]]))
    assert score(task, [["x"]], [["x", "y"]]) == {"span_f1": pytest.approx(2 / 3), "accuracy": 0.5}
    assert score(task, [["x", "y", "z", "z"]], [["x", "y", None, None]]) == {"span_f1": 1.0, "accuracy": 1.0}


def test_numbers_are_tags_too():
    labels = fitted([np.array([3, 1]), [2]])
    assert labels.classes == [1, 2, 3]
    assert Tagging(DIM, labels).score([torch.tensor([2, 0])], [labels([3, 1])])["span_f1"] == 1.0
