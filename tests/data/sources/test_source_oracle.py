"""The source with known Bayes-optimal accuracy: frequencies, pure rows, and refused options."""

import pickle
from functools import cache
from itertools import product

import numpy as np
import pytest
from data_parts import Letters, Number, all_samples, fields

from benchmarks.bayes_optimal import bayes_accuracies, joint_probabilities
from mmbert.data.sources.oracle import OracleSource
from mmbert.errors import DataError


class Shown(Letters):
    """Shows a bit as a small letter among others."""

    example_with_bit = staticmethod(lambda bit, rng: "".join(rng.choice([*"pqrs"], 3)) + "ab"[bit])


INPUTS, TARGETS = fields(Shown, "image", "sound", "text"), fields(Number, "label")
CASES = {
    "redundant": {"text": "a", "image": "a", "sound": "a"},
    "unique": {"text": "a", "image": "noise", "sound": "noise"},
    "synergistic": {"text": "a", "image": "b", "sound": "noise"},
    "both": {"text": "a", "image": "b", "sound": "a"},
}
ROWS = 4000


def source(inputs=INPUTS, **options):
    return OracleSource("made", inputs, TARGETS, **options)


def observed(oracle):
    """The label and the bits shown by the inputs of every row, in the order of names: [rows, 1 + inputs]."""
    names = sorted(INPUTS)
    rows = [
        [sample.targets["label"], *("ab".index(sample.inputs[name][-1]) for name in names)]
        for sample in all_samples(oracle)
    ]
    return np.array(rows)


FLIPS = {"none": 0.0, "all alike": 0.1, "some more": {"text": 0.05, "image": 0.2}}


def bits(oracle):
    """Like ``observed`` for many rows, but without drawing the inputs; a test below compares both."""
    rows = map(oracle.bits, range(ROWS))
    return np.array([[label, *(shown[name] for name in sorted(INPUTS))] for label, shown in rows])


@cache
def drawn(case, flip):
    return bits(source(rows=ROWS, carries=CASES[case], flip=FLIPS[flip]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("flip", FLIPS)
def test_frequencies_are_as_enumerated(case, flip):
    rows, expected = drawn(case, flip), joint_probabilities(CASES[case], FLIPS[flip])
    counts = np.zeros((2,) * 4)
    np.add.at(counts, tuple(rows.T), 1)
    assert not counts[expected == 0].any()  # a flip of probability 0 never happens
    sure = expected > 0
    deviations = (counts - ROWS * expected)[sure] / np.sqrt(ROWS * expected * (1 - expected))[sure]
    assert np.abs(deviations).max() < 4
    assert np.sqrt((deviations**2).mean()) < 1.5


@pytest.mark.parametrize("case", CASES)
def test_the_best_rule_is_as_accurate_as_enumerated(case):
    carries, flip, names = CASES[case], FLIPS["all alike"], sorted(INPUTS)
    rows, expected = drawn(case, "all alike"), joint_probabilities(carries, flip)
    for subset, best in bayes_accuracies(carries, flip).items():
        axes = [1 + names.index(name) for name in subset]
        part = expected.sum(tuple({1, 2, 3} - {*axes}))
        # ties are predicted as 1, despite rounding
        rule = {shown: part[(0, *shown)] < part[(1, *shown)] + 1e-9 for shown in product((0, 1), repeat=len(subset))}
        right = np.mean([rule[tuple(row[axes])] == row[0] for row in rows])
        assert abs(right - best) <= 2 * np.sqrt(best * (1 - best) / ROWS)


def test_inputs_show_the_configured_bits():
    oracle = source(carries=CASES["both"], flip=0.3, rows=200)
    for row, (label, *shown) in enumerate(observed(oracle)):
        assert oracle.bits(row) == (label, dict(zip(sorted(INPUTS), shown, strict=True)))


def test_by_default_all_inputs_show_the_label():
    assert all(len({*row}) == 1 for row in observed(source(rows=200)))


def test_rows_are_pure():
    options = {"carries": CASES["both"], "flip": 0.1, "rows": 100}
    first, second = all_samples(source(**options)), all_samples(source(**options))
    assert [second[row] for row in reversed(range(100))] == [first[row] for row in range(100)][::-1]
    assert [*first.read()] == [*first]
    assert pickle.loads(pickle.dumps(first))[9] == first[9]
    assert [*all_samples(source(seed=1, **options))] != [*first]


def test_another_input_or_order_changes_no_other():
    options = {"flip": 0.1, "rows": 100}
    plain = source(carries={"text": "a", "image": "b", "sound": "noise"}, **options)
    turned = source(carries={"sound": "noise", "image": "b", "text": "a"}, **options)
    fewer = source(fields(Shown, "text"), carries={"text": "a", "image": "b"}, **options)
    for first, second, less in zip(*(all_samples(oracle) for oracle in (plain, turned, fewer)), strict=True):
        assert first == second
        assert less.targets == first.targets  # the label is still the exclusive or of both
        assert less.inputs == {"text": first.inputs["text"]}


def test_flips_of_inputs_are_independent():
    rows = bits(source(carries=CASES["redundant"], flip=0.3, rows=ROWS))
    flipped = rows[:, 1:] != rows[:, :1]
    limit = 4 / np.sqrt(ROWS)
    assert np.abs(np.corrcoef(flipped.T) - np.eye(3)).max() < limit
    assert np.abs(flipped.mean(0) - 0.3).max() < limit * 0.5


def test_inputs_that_are_not_requested_are_not_drawn():
    oracle = source(rows=40)
    sample = oracle.sample(3, {"text", "label"})
    assert (sample.inputs.keys(), sample.targets.keys()) == ({"text"}, {"label"})
    assert sample.inputs["text"] == oracle.sample(3).inputs["text"]
    assert oracle.fields == {"image", "sound", "text", "label"}


def test_splits_cover():
    oracle = source(rows=300)
    ids = [sample.id for name in ("train", "validation", "test") for sample in oracle.split(name)]
    assert sorted(ids) == sorted(sample.id for sample in all_samples(oracle))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"carries": {"txt": "a", "image": "a", "sound": "a"}}, r"made: .*'text'.* Did you mean 'txt'\?"),
        ({"flip": {"txt": 0.1}}, r"made: .*'txt', as 'flip' does\. Did you mean 'text'\?"),
        ({"carries": dict.fromkeys(INPUTS, "noise")}, "at least one input in .carries. must be informative"),
        ({"inputs": fields(Letters, "text")}, r"made: the input 'text' is of a type that cannot show a bit"),
    ],
)
def test_inconsistent_options_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        source(**options)
