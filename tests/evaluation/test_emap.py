"""EMAP: additive functions are unchanged, XOR falls to chance, and a product has a closed form."""

import pytest
import torch

from mmbert.evaluation.attribution import project_to_additive, unimodal_means

SIZE = 12
NAMES = ("a", "b", "c")


def values(seed=0, inputs=NAMES, size=SIZE):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, 2, generator=generator, dtype=torch.float64) for name in inputs}


def projected(function, inputs, size=SIZE, batch=7):
    return project_to_additive(unimodal_means(lambda view: {"task": function(view)}, inputs, size, batch=batch)["task"])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("batch", [7, 1000])
def test_an_additive_function_is_unchanged(count, batch):
    values_of, inputs = values(), NAMES[:count]

    def function(view):
        return sum(values_of[name][view[name]].sin() * (index + 1) for index, name in enumerate(inputs))

    rows = torch.arange(SIZE)
    expected = function(dict.fromkeys(inputs, rows))
    torch.testing.assert_close(projected(function, inputs, batch=batch), expected, rtol=0, atol=1e-12)


def test_a_product_becomes_the_sum_of_its_main_effects():
    values_of = values(inputs=("a", "b"))
    projection = projected(lambda view: values_of["a"][view["a"]] * values_of["b"][view["b"]], ("a", "b"))
    mean_a, mean_b = values_of["a"].mean(0), values_of["b"].mean(0)
    torch.testing.assert_close(projection, values_of["a"] * mean_b + mean_a * values_of["b"] - mean_a * mean_b)


def test_with_three_inputs_it_equals_the_written_out_formula():
    values_of = values()

    def function(view):
        return (values_of["a"][view["a"]] * values_of["b"][view["b"]] + values_of["c"][view["c"]]).exp()

    projection = projected(function, NAMES)
    rows, terms = torch.arange(SIZE), []
    for name in NAMES:
        means = []
        for row in range(SIZE):
            view = {key: torch.full_like(rows, row) if key == name else rows for key in NAMES}
            means.append(function(view).mean(0))
        terms.append(torch.stack(means))
    overall = torch.stack(terms).mean((0, 1))
    torch.testing.assert_close(projection, sum(terms) - 2 * overall)


def test_the_projection_is_additive_and_idempotent():
    values_of = values(inputs=("a", "b"))
    grid = {"a": torch.arange(SIZE).repeat_interleave(SIZE), "b": torch.arange(SIZE).repeat(SIZE)}
    table = (values_of["a"][grid["a"]] * values_of["b"][grid["b"]]).tanh().reshape(SIZE, SIZE, 2)
    additive = table.mean(1)[:, None] + table.mean(0)[None] - table.mean((0, 1))
    once = projected(lambda view: table[view["a"], view["b"]], ("a", "b"))
    torch.testing.assert_close(once, additive[torch.arange(SIZE), torch.arange(SIZE)])
    torch.testing.assert_close(projected(lambda view: additive[view["a"], view["b"]], ("a", "b")), once)


def test_the_projection_of_xor_is_at_chance():
    bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]] * 3)

    def function(view):
        label = bits[view["a"], 0] ^ bits[view["b"], 1]
        return torch.nn.functional.one_hot(label, 2).double() * 10

    projection = projected(function, ("a", "b"))
    torch.testing.assert_close(projection, torch.full((12, 2), 5.0, dtype=torch.float64))
    assert function({"a": torch.arange(12), "b": torch.arange(12)}).std() > 4


def test_two_inputs_evaluate_each_pair_once_and_three_three_times_as_many():
    for inputs, passes in ((NAMES[:2], 1), (NAMES, 3)):
        asked = []

        def function(view, asked=asked):
            asked.extend(zip(*(view[name].tolist() for name in view), strict=True))
            return torch.zeros(len(view["a"]), 1)

        projected(function, inputs)
        assert len(asked) == passes * SIZE**2
        assert len({*asked}) == (SIZE**2 if passes == 1 else 3 * SIZE**2 - 2 * SIZE)
