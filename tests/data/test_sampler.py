"""The step plan: which samples each step draws, and how processes share them."""

from collections import Counter

import pytest

from mmbert.data.sampler import Shard, StepPlan
from mmbert.errors import DataError, RecipeError


def test_the_plan_is_stable():
    """Golden: another order would change every published run, and break resuming one."""
    assert [position for position, _ in StepPlan(0, 10, 10).batch(0)] == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert StepPlan(7, 1_000_003, 2).batch(123_456) == [(468228, 0), (724147, 0)]
    assert StepPlan(3, 7, 5).batch(2) == [(1, 1), (3, 1), (4, 1), (5, 1), (4, 2)]
    assert StepPlan(11, 100, 6).batch(40) == [(43, 2), (49, 2), (9, 2), (1, 2), (6, 2), (63, 2)]


def test_an_epoch_draws_each_sample_once():
    plan = StepPlan(seed=3, size=37, batch_size=8)
    draws = [draw for step in range(37) for draw in plan.batch(step)]
    assert Counter(draws) == Counter((position, epoch) for position in range(37) for epoch in range(8))
    assert [epoch for _, epoch in draws] == [epoch for epoch in range(8) for _ in range(37)]


def test_steps_can_be_read_in_any_order():
    plan, fresh = StepPlan(0, 11, 4), StepPlan(0, 11, 4)
    forward = [plan.batch(step) for step in range(20)]
    assert [fresh.batch(step) for step in reversed(range(20))] == forward[::-1]


def test_epochs_and_seeds_differ():
    orders = [[position for position, _ in StepPlan(seed, 50, 50).batch(step)] for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(order != sorted(order) for order in orders)


def test_the_order_is_even():
    """Each sample comes first about equally often."""
    first = Counter(StepPlan(seed, 5, 1).batch(0)[0][0] for seed in range(1000))
    assert all(150 < first[position] < 250 for position in range(5))


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 8), (32, 1)])
def test_shares_of_all_ranks_make_up_the_batch(world, accumulate):
    plan = StepPlan(seed=0, size=100, batch_size=32)
    for step in (0, 3):  # step 3 spans two epochs
        shares = [plan.micro_batches(step, Shard(rank, world), accumulate) for rank in range(world)]
        assert all(len(micro) == 32 // world // accumulate for share in shares for micro in share)
        assert all(len(share) == accumulate for share in shares)
        assert sorted(draw for share in shares for micro in share for draw in micro) == sorted(plan.batch(step))


def test_a_batch_that_processes_cannot_divide_is_refused():
    with pytest.raises(RecipeError, match=r"= 3 x 2, found 32\. Nearest: 30 or 36"):
        StepPlan(0, 100, 32).micro_batches(0, Shard(0, 3), accumulate=2)
    with pytest.raises(RecipeError, match=r"Nearest: 4$"):
        StepPlan(0, 100, 2).micro_batches(0, Shard(0, 4))


def test_a_batch_may_span_epochs_and_no_samples_are_refused():
    assert StepPlan(0, 1, 3).batch(1) == [(0, 3), (0, 4), (0, 5)]
    with pytest.raises(DataError, match="no training samples"):
        StepPlan(0, 0, 3)
