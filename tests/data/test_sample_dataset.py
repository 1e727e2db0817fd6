"""The cache of encoded items: which are kept, its size, and equality with items encoded anew."""

import pickle

import pytest
import torch

from mmbert.contracts import Processor, Processors
from mmbert.data import sample_dataset
from mmbert.data.collate import Item
from mmbert.data.sample_dataset import OVERHEAD, SampleDataset, item_bytes
from mmbert.types import Sample


class Counting(Processor):
    """Counts its calls; adds noise in training if it ``augments``."""

    def __init__(self, *, augments: bool = False):
        self.asked, self.augments = 0, augments

    def __call__(self, value, rng=None):
        self.asked += 1
        noise = rng.normal() if self.augments and rng is not None else 0.0
        return {"values": torch.tensor([value + noise])}

    @classmethod
    def example(cls, rng):
        return 1.0


def items(*processors, input_dropout=0.0):
    named = {f"input{place}": processor for place, processor in enumerate(processors)}
    rows = [Sample(row, "shop", dict.fromkeys(named, float(row)), {}) for row in range(4)]
    return SampleDataset([rows], Processors(named, {}), seed=1, input_dropout=input_dropout)


def values(item):
    return {name: tensors["values"].tolist() for name, tensors in item.inputs.items()}


def test_items_without_randomness_are_encoded_once_for_training_and_evaluation():
    processor = Counting()
    dataset = items(processor)
    for epoch in (0, 1, None, 2, None):
        assert values(dataset[2, epoch]) == {"input0": [2.0]}
    assert processor.asked == 2


def test_items_with_randomness_are_encoded_in_every_epoch():
    plain, noisy = Counting(), Counting(augments=True)
    dataset = items(plain, noisy)
    epochs = [values(dataset[1, epoch]) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert noisy.asked == 3
    assert values(dataset[1, None]) == values(dataset[1, None]) == {"input0": [1.0], "input1": [1.0]}
    assert noisy.asked == 4


def test_inputs_are_dropped_anew_in_every_epoch():
    dataset = items(Counting(), Counting(), input_dropout=0.5)
    drawn = [{*dataset[3, epoch].inputs} for epoch in range(40)]
    assert {frozenset(names) for names in drawn} == {
        frozenset({"input0"}),
        frozenset({"input1"}),
        frozenset({"input0", "input1"}),
    }
    assert drawn == [{*items(Counting(), Counting(), input_dropout=0.5)[3, epoch].inputs} for epoch in range(40)]


def test_the_first_items_that_fit_stay_cached(monkeypatch):
    monkeypatch.setattr(sample_dataset, "MAX_BYTES", 3 * (2 * OVERHEAD + 4))
    processor = Counting()
    dataset = items(processor)
    for row in (0, 1, 2, 3, 0, 1, 2, 3):
        _ = dataset[row, 0]
    assert processor.asked == 4 + 1


def test_the_size_of_an_item_is_the_storage_of_its_tensors():
    item = Item(1, {"size": {"value": torch.zeros(100)[:2]}}, {"price": {"value": torch.zeros(3)}})
    assert item_bytes(item) == 3 * OVERHEAD + 400 + 12


def test_a_copy_for_a_worker_is_empty():
    processor = Counting()
    dataset = items(processor)
    _ = dataset[0, 0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.processors.inputs["input0"].asked == 1
    _ = copy[0, 0]
    assert copy.processors.inputs["input0"].asked == 2


@pytest.mark.parametrize("epoch", [0, None])
def test_a_bad_value_is_reported_each_time(epoch):
    dataset = items(Counting())
    dataset.splits[0][2].inputs["input0"] = "much"
    for _ in range(2):
        with pytest.raises(TypeError):
            _ = dataset[2, epoch]
