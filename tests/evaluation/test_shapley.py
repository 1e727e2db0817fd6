"""Shapley values of enumerated value functions: efficiency, symmetry, dummy and linearity."""

import random
from itertools import permutations

import pytest

from mmbert.evaluation.attribution import shapley_values, subsets

NAMES = ("graph", "image", "table", "text")


def game(seed, names=NAMES):
    rng = random.Random(seed)
    return {subset: rng.gauss(0, 1) for subset in subsets(names)}


@pytest.mark.parametrize("seed", range(5))
def test_the_shapley_value_is_the_mean_over_all_orders(seed):
    value = game(seed)
    sums, orders = dict.fromkeys(NAMES, 0.0), list(permutations(NAMES))
    for order in orders:
        for place, name in enumerate(order):
            sums[name] += value[frozenset(order[: place + 1])] - value[frozenset(order[:place])]
    assert shapley_values(value, NAMES) == {name: pytest.approx(total / len(orders)) for name, total in sums.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_contributions_add_up_to_all_over_none(count):
    names = NAMES[:count]
    value = game(count, names)
    assert sum(shapley_values(value, names).values()) == pytest.approx(value[frozenset(names)] - value[frozenset()])


def test_symmetric_inputs_have_equal_values_and_a_dummy_has_0():
    base = game(1, ("image", "text"))
    swapped = {frozenset({"image": "text", "text": "image"}[name] for name in subset): subset for subset in base}
    even = {subset: base[subset] + base[counterpart] for subset, counterpart in swapped.items()}
    value = {subset: even[subset - {"noise"}] for subset in subsets(("image", "noise", "text"))}
    values = shapley_values(value, ("image", "noise", "text"))
    assert values["image"] == pytest.approx(values["text"])
    assert values["noise"] == 0.0


def test_shapley_values_are_linear():
    game_1, game_2 = game(1), game(2)
    both = {subset: 2 * game_1[subset] - 3 * game_2[subset] for subset in game_1}
    first, second = shapley_values(game_1, NAMES), shapley_values(game_2, NAMES)
    assert shapley_values(both, NAMES) == {name: pytest.approx(2 * first[name] - 3 * second[name]) for name in NAMES}


def test_the_inputs_of_xor_share_its_value():
    value = {frozenset(): 0.5, frozenset("a"): 0.5, frozenset("b"): 0.5, frozenset("ab"): 1.0}
    assert shapley_values(value, "ab") == {"a": 0.25, "b": 0.25}


def test_redundant_inputs_share_their_value():
    value = {frozenset(): 0.5, frozenset("a"): 0.9, frozenset("b"): 0.9, frozenset("ab"): 0.9}
    assert shapley_values(value, "ab") == {"a": pytest.approx(0.2), "b": pytest.approx(0.2)}


def test_a_subset_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"all 4 subsets, found none of \['a', 'b'\]"):
        shapley_values({frozenset(): 0.0, frozenset("a"): 1.0, frozenset("b"): 1.0}, "ab")
