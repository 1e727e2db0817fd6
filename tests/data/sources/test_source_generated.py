"""The source of generated samples."""

import pickle

import numpy as np
from data_parts import Letters, Number, all_samples, fields

from mmbert.data.sources.generated import GeneratedSource

INPUTS = {**fields(Letters, "a", "b"), **fields(Number, "c")}
TARGETS = fields(Number, "y", "z")


def source(**options):
    return GeneratedSource("made", INPUTS, TARGETS, **options)


def test_rows_are_pure():
    first, second = all_samples(source(absent=0.5)), all_samples(source(absent=0.5))
    assert [second[row] for row in reversed(range(256))] == [first[row] for row in range(256)][::-1]
    assert pickle.loads(pickle.dumps(first))[9] == first[9]
    assert all_samples(source(seed=1))[0] != all_samples(source())[0]


def test_splits_cover():
    data = source(rows=300)
    ids = [sample.id for name in ("train", "validation", "test") for sample in data.split(name)]
    assert sorted(ids) == sorted(sample.id for sample in all_samples(data))
    assert min(len(data.split(name)) for name in ("validation", "test")) > 10
    assert data.fields == {"a", "b", "c", "y", "z"}


def test_nothing_is_absent_by_default():
    assert all(len(sample.inputs) == 3 and len(sample.targets) == 2 for sample in all_samples(source()))


def test_inputs_and_targets_are_absent_at_the_given_rate():
    samples = [*all_samples(source(rows=2000, absent=0.6))]
    assert all(sample.inputs for sample in samples)
    assert any(not sample.targets for sample in samples)
    assert abs(np.mean(["y" in sample.targets for sample in samples]) - 0.4) < 0.05
    assert abs(np.mean(["a" in sample.inputs for sample in samples]) - (0.4 + 0.6**3 / 3)) < 0.05


def test_a_new_input_changes_no_other():
    wider = GeneratedSource("made", {**INPUTS, **fields(Number, "d")}, TARGETS)
    for first, second in zip(all_samples(source()), all_samples(wider), strict=True):
        assert first.inputs == {name: second.inputs[name] for name in first.inputs}
