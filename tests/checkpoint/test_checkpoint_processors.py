"""What a processor has learned comes back bit for bit, or is told by its path."""

import numpy as np
import pytest
import torch

from mmbert.checkpoint.processors import read_facts, restore_processor, write_parts
from mmbert.contracts import Processor
from mmbert.errors import IntegrityError


def same(found, expected):
    """The same values of the same types; a number of numpy has become one of Python."""
    assert type(found) is type(expected.item() if isinstance(expected, np.generic) else expected)
    if isinstance(found, torch.Tensor | np.ndarray):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    elif isinstance(found, dict):
        same([*found], [*expected])
        same([*found.values()], [*expected.values()])
    elif isinstance(found, list | tuple):
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == expected


class Learned(Processor):
    """A processor that has learned whatever a test says."""

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
    {"a.b": torch.zeros(1), "a": {"b": torch.ones(2), "b.c": torch.ones(3)}},  # paths that read the same
    {"one": SHARED, "two": SHARED, "part": SHARED[:2]},
    {"text": 'quote " \\ \n\0 \ud83d half', "emoji": "\U0001f600", "": "no name"},
    {"huge": 2**80, "infinite": float("inf"), "small": 5e-324},
]


@pytest.mark.parametrize("state", STATES)
def test_whatever_a_processor_may_learn_comes_back(tmp_path, state):
    processor = Learned()
    vars(processor).update(state)
    write_parts(tmp_path, {"x": processor}, {"fact": 1})
    same(vars(restore_processor(tmp_path, "x", Learned)), state)
    assert read_facts(tmp_path)["fact"] == 1


def test_what_cannot_travel_is_told_by_its_path(tmp_path):
    processor = Learned()
    processor.cells = {"a": [1, object()]}
    with pytest.raises(TypeError, match=r"^inputs\.x\.cells\.a\.1: .*not <class 'object'>"):
        write_parts(tmp_path, {"inputs.x": processor}, {})
    assert not [*tmp_path.iterdir()]


def test_an_unknown_processor_is_told_with_those_that_are_there(tmp_path):
    write_parts(tmp_path, {"inputs.cells": Learned()}, {})
    with pytest.raises(IntegrityError, match=r"no processor 'inputs\.photo'; it holds inputs\.cells"):
        restore_processor(tmp_path, "inputs.photo", Processor)
