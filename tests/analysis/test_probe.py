"""Contributions of inputs for models with known answers: XOR, a sum, and one at chance."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmbert.analysis import probe as module
from mmbert.analysis.encoded_rows import EncodedRows, encode_rows, model_for_encoded_rows
from mmbert.analysis.probe import (
    Probe,
    compare_to_additive,
    predict_constant,
    retained_by_task,
    score_predictions,
    score_subsets,
    score_with_corrupted,
    score_with_missing,
    shapley_contributions,
    standard_errors_of_gain,
)
from mmbert.contracts import Encoder, Fusion
from mmbert.model import MMBert
from mmbert.types import Batch, Fused, Present, Tokens
from tasks.classification import Classification, ClassificationLabel

ROWS = 200


class Bits(Encoder):
    """One token: the bit of the item as -1 or 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, bit):
        mask = torch.ones(len(bit), 1, dtype=torch.bool)
        return Tokens((2.0 * bit - 1)[:, None, None].double() * self.weight, mask, mask.long())


class Trunkless(nn.Module):
    """A trunk for models without text."""

    def embed(self, texts, size):
        return Tokens(torch.zeros(size, 1, 1), torch.ones(size, 1, dtype=torch.bool), torch.zeros(size, 1).long())

    def split(self, tokens):
        return {}


class Of(Fusion):
    """The logit is a function of the streams, each -1, 1, or 0 if absent."""

    reads_text_alone = False

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, trunk, text, streams):
        nothing = torch.zeros(len(text.mask), dtype=torch.float64)
        values = [nothing, nothing, nothing]
        for place, name in enumerate(("a", "b", "noise")):
            if name in streams:
                values[place] = torch.where(streams[name].mask[:, 0], streams[name].values[:, 0, 0], 0.0)
        logit = self.function(*values)
        return Fused(torch.stack([-logit, logit], 1), {"text": text, **streams})


class Plain(Classification):
    """Uses the fused vector as logits, with fast scores."""

    metrics = ("accuracy", "log_loss")

    def forward(self, fused):
        return fused.summary

    def score(self, predictions, targets):
        probabilities, true = torch.stack(tuple(predictions)), torch.stack([item["target"] for item in targets])
        of_true = probabilities.gather(1, true[:, None])
        hits = probabilities.argmax(1) == true
        return {"accuracy": float(hits.double().mean()), "log_loss": float(-of_true.log().mean())}


def make_probe(function, label, *, inputs=("a", "b", "noise"), seed=0, groups=None):
    """All combinations of bits equally often; the function ``label`` gives the true label."""
    bits = torch.tensor([[row >> place & 1 for place in range(3)] for row in range(ROWS)])
    columns = dict(zip(("a", "b", "noise"), bits.T, strict=True))
    processor = ClassificationLabel()
    processor.fit([0, 1])
    target = torch.tensor([label(*row) for row in bits.tolist()])
    batches = []
    for rows in torch.arange(ROWS).split(64):
        present = {name: Present(torch.arange(len(rows)), {"bit": columns[name][rows]}) for name in inputs}
        targets = {"label": Present(torch.arange(len(rows)), {"target": target[rows]})}
        batches.append(Batch(rows + 1000, present, targets))
    model = MMBert(Trunkless(), {name: Bits() for name in inputs}, Of(function), {"label": Plain(2, processor)})
    model = model.double().eval()
    return Probe(model_for_encoded_rows(model), encode_rows(model, batches), groups or {}, seed)


def measured(probe):
    evaluation = probe.evaluate()
    constant = predict_constant(probe, evaluation)
    return evaluation, constant, score_predictions(probe, evaluation, constant)


def xor(a, b, noise=None):
    return a ^ b


XOR = (lambda a, b, noise: -9 * a * b, xor)
SUM = (lambda a, b, noise: 2 * a + b, lambda a, b, noise: a)


def test_the_inputs_of_xor_share_their_contribution():
    probe = make_probe(*XOR)
    evaluation, _, chance = measured(probe)
    values = score_subsets(probe, evaluation, chance)
    accuracy = {"".join(sorted(subset)): scores["label"]["accuracy"] for subset, scores in values.items()}
    # a logit of 0 predicts the first class
    assert accuracy == {**dict.fromkeys(["", "a", "b", "noise", "anoise", "bnoise"], 0.5), "ab": 1.0, "abnoise": 1.0}
    worth = shapley_contributions(probe, values)["label"]
    assert worth["accuracy"] == {"a": 0.25, "b": 0.25, "noise": 0.0}
    loss = chance["label"]["log_loss"] - evaluation.scores["label"]["log_loss"]
    assert worth["log_loss"]["a"] == pytest.approx(loss / 2)  # for an error too, positive is better
    assert chance["label"]["log_loss"] == pytest.approx(math.log(2))


def test_of_xor_the_additive_projection_is_at_chance(monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", ROWS**2)  # all rows, in which bits are even
    probe = make_probe(*XOR, inputs=("a", "b"))
    comparison = compare_to_additive(probe, measured(probe)[0], most=ROWS, batch=5000)
    scores = comparison["tasks"]["label"]
    assert (comparison["rows"], scores["rows"]) == (ROWS, ROWS)
    assert scores["model"]["accuracy"] == 1
    assert scores["additive"]["log_loss"] == pytest.approx(math.log(2))
    assert scores["additive"]["accuracy"] == pytest.approx(0.5, abs=0.1)  # rounding breaks the ties
    assert scores["difference"]["difference"] == 1 - scores["additive"]["accuracy"]
    assert 0.3 < scores["difference"]["low"] <= scores["difference"]["difference"] <= scores["difference"]["high"]


@pytest.mark.parametrize("inputs", [("a", "b"), ("a", "b", "noise")])
def test_an_additive_model_is_its_own_projection(inputs):
    probe = make_probe(*SUM, inputs=inputs)
    comparison = compare_to_additive(probe, measured(probe)[0], most=32, batch=50)["tasks"]["label"]
    assert comparison["additive"] == pytest.approx(comparison["model"], abs=1e-12)
    difference = comparison["difference"]
    assert difference["difference"] == pytest.approx(0, abs=1e-12)
    assert (difference["low"], difference["high"], difference["p"]) == (None, None, 1.0)  # no row differs


def test_a_single_input_has_no_projection():
    probe = make_probe(*SUM, inputs=("a",))
    assert compare_to_additive(probe, measured(probe)[0], most=32, batch=50) == {}


def test_curves_fall_to_chance_with_the_share_of_changed_rows():
    probe = make_probe(*XOR, inputs=("a", "b"))
    evaluation, constant, chance = measured(probe)
    absent = [evaluation.scores, *score_with_missing(probe)]
    accuracy = [scores["label"]["accuracy"] for scores in absent]
    assert accuracy[0] == 1
    # both inputs are present in (1 - r)^2 of the rows; in the others half of the guesses are right
    for rate, value in zip((0, 0.2, 0.4, 0.6, 0.8, 1), accuracy, strict=True):
        assert value == pytest.approx(0.5 + (1 - rate) ** 2 / 2, abs=0.09)
    moved = [evaluation.scores, *score_with_corrupted(probe, "a")]
    for rate, scores in zip((0, 0.2, 0.4, 0.6, 0.8, 1), moved, strict=True):
        # half of the exchanged values are equal
        assert scores["label"]["accuracy"] == pytest.approx(1 - rate / 2, abs=0.09)
    errors = standard_errors_of_gain(probe, evaluation, constant)
    assert retained_by_task(probe, absent, chance, errors)[0]["label"] == pytest.approx(0.24, abs=0.08)
    assert retained_by_task(probe, moved, chance, errors)[0]["label"] == pytest.approx(0.4, abs=0.08)


def test_an_input_that_is_not_read_loses_nothing():
    probe = make_probe(*XOR)
    evaluation, constant, chance = measured(probe)
    moved = [evaluation.scores, *score_with_corrupted(probe, "noise")]
    assert retained_by_task(probe, moved, chance, standard_errors_of_gain(probe, evaluation, constant)) == (
        {"label": 1.0},
        {},
    )


def test_a_model_at_chance_has_no_area():
    probe = make_probe(lambda a, b, noise: 9 * noise, xor)
    evaluation, constant, chance = measured(probe)
    errors = standard_errors_of_gain(probe, evaluation, constant)
    # standard error of the difference of two guesses over 200 rows
    assert errors["label"] == pytest.approx(0.05, abs=0.015)
    area, refused = retained_by_task(probe, [evaluation.scores, *score_with_missing(probe)], chance, errors)
    assert area == {}
    assert refused["label"].startswith("label: accuracy 0.5 without any change is not better than chance")


def test_rows_of_one_group_are_drawn_together():
    alone = make_probe(*XOR)
    groups = {1000 + row: row // 40 for row in range(ROWS)}
    together = make_probe(*XOR, groups=groups)
    first, second = (standard_errors_of_gain(grouped, *measured(grouped)[:2])["label"] for grouped in (alone, together))
    assert first == pytest.approx(0.035, abs=0.01)
    assert second < first / 3  # all groups have equal shares of labels


def test_another_seed_gives_other_values():  # test_contribution.py shows that the same seed gives the same
    probe, other_probe = (make_probe(*XOR, inputs=("a", "b"), seed=seed) for seed in (0, 1))
    assert score_with_missing(probe) != score_with_missing(other_probe)
    assert score_with_corrupted(probe, "a") != score_with_corrupted(other_probe, "a")


def test_the_projection_respects_its_limit_of_pairs(monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 75)
    for inputs, rows in ((("a", "b"), 8), (("a", "b", "noise"), 5)):  # 8^2 and 3 * 5^2
        probe = make_probe(*XOR, inputs=inputs)
        assert compare_to_additive(probe, measured(probe)[0], most=64, batch=50)["rows"] == rows


def test_a_sample_without_a_group_is_a_group_of_its_own():
    probe = Probe(SimpleNamespace(), EncodedRows({}, [], frozenset()), {1: "x", 2: "x"}, 0)
    assert probe.group_names([1, 2, 3]) == ["x", "x", "3 alone"]
