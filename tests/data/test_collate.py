"""Encoding of samples by processors, and collation into batches."""

import pytest
import torch
from data_parts import Letters, Number

from mmbert.contracts import Processors
from mmbert.data.collate import collate, encode_sample
from mmbert.errors import SampleError
from mmbert.types import Sample

PROCESSORS = {"text": Letters(), "size": Number()}
LABELS = {"price": Number()}


def sample(number=1, targets=None, **inputs):
    return Sample(number, "shop", inputs, targets or {}, {"where": f"a.csv row {number}"})


def encoded(samples, **options):
    return [encode_sample(each, Processors(PROCESSORS, LABELS), **options) for each in samples]


def test_absent_values_are_absent_rows():
    samples = [
        sample(1, text="ab", unread=3),
        sample(2, size=2, targets={"price": 5.0, "unread": 1}),
        sample(3),
        sample(4, text="c", size=4),
        sample(5, text=""),  # the processor returns {} for an empty text
    ]
    batch = collate(encoded(samples), Processors(PROCESSORS, LABELS))
    assert batch.ids.tolist() == [1, 2, 3, 4, 5]
    assert {name: present.rows.tolist() for name, present in batch.inputs.items()} == {"text": [0, 3], "size": [1, 3]}
    assert batch.inputs["text"].tensors["codes"].tolist() == [[97, 98], [99, 0]]
    assert batch.inputs["size"].tensors["values"].tolist() == [[2], [4]]
    assert batch.targets["price"].rows.tolist() == [1]


def test_an_input_that_no_row_has_is_an_absent_key():
    batch = collate(encoded([sample(1, size=1)]), Processors(PROCESSORS, LABELS))
    assert set(batch.inputs) == {"size"}
    assert batch.targets == {}
    assert collate(encoded([sample(1)]), Processors(PROCESSORS, LABELS)).inputs == {}


def test_order_of_keys_does_not_matter():
    inputs = {"text": "a", "size": 1}
    first = collate(encoded([sample(7, **inputs)], key=(0, 0)), Processors(PROCESSORS, LABELS))
    flipped = dict(reversed(PROCESSORS.items()))
    second = collate(
        [encode_sample(sample(7, **dict(reversed(inputs.items()))), Processors(flipped, LABELS), (0, 0))],
        Processors(flipped, LABELS),
    )
    assert list(first.inputs) == list(second.inputs)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_augmentation_is_keyed_by_seed_epoch_and_sample():
    def value(number=1, **options):
        return encoded([sample(number, size=0)], **options)[0].inputs["size"]["values"].item()

    assert value() == 0
    assert value(key=(0, 3)) == value(key=(0, 3)) > 0
    assert len({value(key=(0, 3)), value(key=(1, 3)), value(key=(0, 4)), value(2, key=(0, 3))}) == 4


def test_inputs_draw_independent_random_numbers():
    """Another input, or a target of the same name, does not change the augmentation of an input."""
    processors = {"size": Number(), "weight": Number()}
    both = encode_sample(sample(1, {"size": 0}, size=0, weight=0), Processors(processors, {"size": Number()}), (0, 0))
    alone = encode_sample(sample(1, size=0), Processors(processors, {}), (0, 0))
    torch.testing.assert_close(both.inputs["size"], alone.inputs["size"], rtol=0, atol=0)
    assert len({item["values"].item() for item in (*both.inputs.values(), *both.targets.values())}) == 3


def test_input_dropout_has_its_rate_and_leaves_one_input():
    samples = [sample(number, {"price": 1}, text="a", size=1) for number in range(2000)]
    items = encoded(samples, key=(0, 0), input_dropout=0.5)
    assert all(item.inputs and item.targets for item in items)
    share = sum("text" in item.inputs for item in items) / 2000
    assert abs(share - (0.5 + 0.5**2 / 2)) < 0.04
    repeated = encoded(samples[::-1], key=(0, 0), input_dropout=0.5)[::-1]
    assert [item.inputs.keys() for item in items] == [item.inputs.keys() for item in repeated]
    later = encoded(samples, key=(0, 1), input_dropout=0.5)
    assert [item.inputs.keys() for item in items] != [item.inputs.keys() for item in later]


def test_input_dropout_never_leaves_only_empty_inputs():
    items = encoded([sample(number, text="", size=1) for number in range(50)], key=(0, 0), input_dropout=0.9)
    assert all(set(item.inputs) == {"size"} for item in items)


def test_evaluation_drops_nothing():
    items = encoded([sample(number, text="a", size=1) for number in range(50)], input_dropout=0.9)
    assert all(len(item.inputs) == 2 for item in items)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sample(17, text=3), r"^shop \(a.csv row 17\), input 'text': expected text, found 3$"),
        (sample(17, {"price": "x"}), r"^shop \(a.csv row 17\), task 'price': expected a number, found 'x'$"),
        (Sample(5, "shop", {"text": 3}, {}), r"^shop \(id 5\), input 'text': expected"),
    ],
)
def test_bad_values_are_reported_with_row_and_field(bad, message):
    with pytest.raises(SampleError, match=message):
        encoded([bad])


def test_an_error_in_a_processor_is_reported_with_row_and_field():
    class Broken(Number):
        def __call__(self, value, rng=None):
            raise KeyError("oops")

    with pytest.raises(KeyError) as caught:
        encode_sample(sample(17, size=1), Processors({"size": Broken()}, {}))
    assert caught.value.__notes__ == ["while reading shop (a.csv row 17), input 'size'"]
