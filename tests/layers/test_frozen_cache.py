"""Tests of FrozenCache: cached outputs equal recomputed ones."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from mmbert.layers.frozen_cache import FrozenCache, is_frozen_on_cpu


class Counting(nn.Linear):
    """A frozen linear layer that counts the items it is given."""

    def __init__(self):
        super().__init__(3, 2)
        self.requires_grad_(False).eval()
        self.seen = []

    def forward(self, input):
        self.seen += input.tolist()
        return super().forward(input)


@pytest.fixture
def network():
    return Counting()


def test_an_item_is_computed_once_and_alone(network):
    memory, items = FrozenCache(), torch.randn(4, 3)
    first = memory(network, network, items[[0, 1, 0]])
    second = memory(network, network, items[[2, 1]])
    assert network.seen == [items[0].tolist(), items[1].tolist(), items[2].tolist()]
    assert torch.equal(second[1], first[1])
    torch.testing.assert_close(first, nn.Linear.forward(network, items[[0, 1, 0]]))


def test_it_forgets_where_the_weights_change(network):
    memory, items = FrozenCache(), torch.randn(1, 3)
    memory(network, network, items)
    network.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    torch.testing.assert_close(memory(network, network, items), items.sum(1, keepdim=True).expand(1, 2))
    network.double()
    assert memory(network, network, items.double()).dtype == torch.float64


def test_autocast_is_told_apart(network):
    memory, items = FrozenCache(), torch.randn(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert memory(network, network, items).dtype == torch.bfloat16
    assert memory(network, network, items).dtype == torch.float32


def test_the_first_that_have_room_stay(network):
    memory, items = FrozenCache(most=2 * 2 * 4), torch.randn(3, 3)
    for _ in range(2):
        memory(network, network, items)
    assert network.seen == [*items.tolist(), items[2].tolist()]


def test_a_copy_remembers_nothing(network):
    memory, items = FrozenCache(), torch.randn(1, 3)
    memory(network, network, items)
    for copy in (deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        copy(network, network, items)
    assert len(network.seen) == 3


def test_what_learns_or_has_chance_is_not_settled(network):
    assert is_frozen_on_cpu(network)
    assert not is_frozen_on_cpu(nn.Linear(3, 2).eval())
    assert not is_frozen_on_cpu(nn.Sequential(network, nn.Dropout(0.1)))
    assert is_frozen_on_cpu(nn.Sequential(network, nn.Dropout(0.1)).eval())
