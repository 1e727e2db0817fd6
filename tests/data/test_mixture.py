"""Mixing of groups in given proportions."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from mmbert.data.sampler import Mixture, Shard, StepPlan
from mmbert.errors import RecipeError

GROUPS = np.array([0] * 60 + [1] * 30 + [2] * 7 + [0] * 3)
NAMES = ["large", "middle", "small"]
SIZES = np.array([63, 30, 7])
SIZE = 100
CASES = {
    "round-robin": {"weights": dict.fromkeys(NAMES, 1)},
    "weights": {"weights": {"large": 0.5, "middle": 0.1, "small": 2.3}},
    "proportional": {"alpha": 1.0},
    "uniform": {"alpha": 0.0},
    "temperature": {"alpha": 0.5},
    "annealed": {"alpha": (1.0, 0.2), "epochs": 6},
}


def mixture(case="temperature", seed=3):
    return Mixture(seed, GROUPS, NAMES, **CASES[case])


def plan(case="temperature", batch_size=8):
    return StepPlan(3, SIZE, batch_size, mixture(case))


def counts(mix, epoch):
    return np.bincount(GROUPS[mix.epoch(epoch)[0]], minlength=3)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("round-robin", [1 / 3] * 3),
        ("weights", np.array([0.5, 0.1, 2.3]) / 2.9),
        ("proportional", SIZES / 100),
        ("uniform", [1 / 3] * 3),
        ("temperature", SIZES**0.5 / (SIZES**0.5).sum()),
    ],
)
def test_long_runs_have_the_shares_exactly(case, expected):
    mix, drawn = mixture(case), np.zeros(3)
    for epoch in range(40):
        drawn += counts(mix, epoch)
        assert drawn.sum() == SIZE * (epoch + 1)
        assert np.abs(drawn - SIZE * (epoch + 1) * np.array(expected)).max() < 1
    assert mix.proportions(7) == pytest.approx(expected)


def test_equal_shares_are_exact_after_as_many_epochs_as_groups():
    mix = mixture("round-robin")
    for epoch in range(0, 30, 3):
        assert sum(counts(mix, epoch + more) for more in range(3)).tolist() == [SIZE] * 3


def test_annealing_goes_from_the_first_value_to_the_last():
    mix = mixture("annealed")
    for epoch, alpha in [(0, 1.0), (1, 0.84), (5, 0.2), (6, 0.2), (99, 0.2)]:
        assert mix.proportions(epoch) == pytest.approx(SIZES**alpha / (SIZES**alpha).sum())
    rising = [mix.proportions(epoch)[2] for epoch in range(6)]
    assert all(first < second for first, second in pairwise(rising))
    single = Mixture(3, GROUPS, NAMES, alpha=(1.0, 0.0), epochs=1)
    assert single.proportions(0) == pytest.approx([1 / 3] * 3)  # a run of one epoch has the final value


@pytest.mark.parametrize("case", CASES)
def test_each_pass_through_a_group_reads_each_of_its_samples_once(case):
    mix = mixture(case)
    draws = Counter()
    for epoch in range(25):
        draws.update(zip(*(part.tolist() for part in mix.epoch(epoch)), strict=True))
    assert set(draws.values()) == {1}
    for group in range(3):
        passes = Counter(times for position, times in draws if GROUPS[position] == group)
        assert [*passes] == [*range(len(passes))]  # in ascending order
        assert all(passes[times] == SIZES[group] for times in range(len(passes) - 1))


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_same_wherever_one_starts(case):
    first, fresh = plan(case), plan(case)
    forward = [first.batch(step) for step in range(60)]
    assert [fresh.batch(step) for step in reversed(range(60))] == forward[::-1]
    assert plan(case).batch(59) == forward[59]
    sizes = [draw for step in range(12) for draw in plan(case, batch_size=40).batch(step)]
    # the batch size cuts the sequence but does not change it
    assert sizes == [draw for step in forward for draw in step]


@pytest.mark.parametrize(("world", "accumulate"), [(1, 4), (2, 1), (2, 2), (8, 1)])
def test_ranks_and_micro_batches_share_a_mixed_step(world, accumulate):
    first = plan("weights")
    for step in (0, 12, 13):
        shares = [first.micro_batches(step, Shard(rank, world), accumulate) for rank in range(world)]
        assert [draw for at in range(accumulate) for share in shares for draw in share[at]] == first.batch(step)


def test_groups_are_interleaved():
    order = GROUPS[mixture("uniform").epoch(0)[0]]
    runs = 1 + int((np.diff(order) != 0).sum())
    assert runs > 50  # expected: 67 changes in 100 draws from three equal groups


def test_seeds_and_epochs_differ_and_a_group_does_not_see_the_others():
    mix = [mixture(seed=seed).epoch(epoch)[0].tolist() for seed in (3, 4) for epoch in (0, 1)]
    assert len({tuple(first) for first in mix}) == 4
    alone = Mixture(3, np.zeros(7, dtype=np.int64), ["small"])
    small = [position - 90 for position in mixture("uniform").epoch(0)[0].tolist() if GROUPS[position] == 2]
    assert small[:7] == alone.epoch(0)[0].tolist()


def test_the_mixed_plan_is_stable():
    """Golden: another order would break resuming a run."""
    assert plan("weights").batch(30) == [(92, 27), (11, 0), (91, 27), (96, 27), (90, 27), (95, 27), (28, 0), (93, 27)]


def test_a_rare_group_is_drawn_in_its_exact_share():
    mix = Mixture(0, GROUPS, NAMES, weights={"large": 1e6, "middle": 1, "small": 500})
    drawn = np.cumsum([counts(mix, epoch) for epoch in range(50)], 0)
    assert np.abs(drawn[-1] - 5000 * mix.proportions(0)).max() < 1
    assert (np.diff(drawn, axis=0) >= 0).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"large": 1, "middl": 1, "small": 1}, "no training row is of a group 'middl'. Did you mean 'middle'?"),
        ({"large": 1, "middle": 1}, "the group 'small' needs a weight too; 3 groups: large, middle, small"),
    ],
)
def test_weights_name_the_groups(weights, message):
    with pytest.raises(RecipeError, match=message):
        Mixture(0, GROUPS, NAMES, weights=weights)
