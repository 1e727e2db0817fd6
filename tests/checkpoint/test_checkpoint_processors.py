"""State of processors: restored bit for bit; a value that cannot be saved is reported by its path."""

import numpy as np
import pytest
import torch

from mmbert.checkpoint.processors import read_config, restore_processor, write_parts
from mmbert.contracts import Processor
from mmbert.errors import IntegrityError


def same(actual, expected):
    """Assert equal values of equal types; a NumPy number is restored as a Python number."""
    assert type(actual) is type(expected.item() if isinstance(expected, np.generic) else expected)
    if isinstance(actual, torch.Tensor | np.ndarray):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    elif isinstance(actual, dict):
        same([*actual], [*expected])
        same([*actual.values()], [*expected.values()])
    elif isinstance(actual, list | tuple):
        for first, second in zip(actual, expected, strict=True):
            same(first, second)
    else:
        assert actual == expected


class Learned(Processor):
    """A processor whose state a test sets."""

    def __call__(self, value, rng=None):
        return {}

    @classmethod
    def example(cls, rng):
        return None


SHARED = torch.arange(3.0)
STATES = [
    {},
    {"numbers": [1, 2.5, True, None], "nested": {"a": {"b": (1, [2, ("x",)])}}},
    {"keys": {1: "int", "1": "str", 2.5: "float", False: 0, None: "none", (1, "x"): "tuple"}},
    {"tensor": torch.arange(6).reshape(2, 3).T, "empty": torch.zeros(0, 2), "mask": torch.tensor([True, False])},
    {"array": np.linspace(0, 1, 5, dtype=np.float32), "number": np.float64(0.1)},
    {"a.b": torch.zeros(1), "a": {"b": torch.ones(2), "b.c": torch.ones(3)}},  # equal when joined by dots
    {"one": SHARED, "two": SHARED, "part": SHARED[:2]},
    {"text": 'quote " \\ \n\0 \ud83d half', "emoji": "\U0001f600", "": "no name"},
    {"huge": 2**80, "infinite": float("inf"), "small": 5e-324},
]


@pytest.mark.parametrize("state", STATES)
def test_the_state_of_a_processor_is_restored(tmp_path, state):
    processor = Learned()
    vars(processor).update(state)
    write_parts(tmp_path, {"x": processor}, {"trunk": 1})
    same(vars(restore_processor(tmp_path, "x", Learned)), state)
    assert read_config(tmp_path)["trunk"] == 1


def test_a_value_that_cannot_be_saved_is_reported_by_its_path(tmp_path):
    processor = Learned()
    processor.cells = {"a": [1, object()]}
    with pytest.raises(TypeError, match=r"^inputs\.x\.cells\.a\.1: .*not <class 'object'>"):
        write_parts(tmp_path, {"inputs.x": processor}, {})
    assert not [*tmp_path.iterdir()]


def test_an_unknown_processor_is_reported_with_the_known_ones(tmp_path):
    write_parts(tmp_path, {"inputs.cells": Learned()}, {})
    with pytest.raises(IntegrityError, match=r"no processor 'inputs\.photo'; it holds inputs\.cells"):
        restore_processor(tmp_path, "inputs.photo", Processor)
