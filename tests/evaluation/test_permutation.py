"""The paired permutation test: its level at every number of rows, closed forms, groups, and speed by sums."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import t, wilcoxon

from mmbert.evaluation import permutation
from mmbert.evaluation.contrasts import AdditiveContrast, RowContrast, ScoredRows, bundled, contrast, random_swaps
from mmbert.evaluation.permutation import compare_groups, compare_predictions
from mmbert.types import AdditiveScore
from tasks import TASKS

SIZES = (1, 2, 3, 5, 6, 8, 12, 13, 20, 30, 100)
DRAWS = 499  # with so few p holds too: (b + 1) / (B + 1)


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def f1(sums):
    return 2 * sums[..., 0] / sums[..., 1].clamp(min=1)


def continuous(rng, size):
    """The losses of two equally good models, which share what is hard about a row."""
    hard = rng.exponential(size=(size, 1))
    return hard + rng.exponential(size=(size, 2)), mean


def tied(rng, size):
    """Whether two equally good models are right: most rows are ties."""
    easy = rng.random((size, 1)) < 0.6
    return np.where(easy, 1.0, rng.random((size, 2)) < 0.5), mean


def heavy(rng, size):
    """Differences with tails so long that they have no variance."""
    return rng.standard_cauchy(size=(size, 2)), mean


def fractions(rng, size):
    """Counts of spans for an F1: hits of two equally good models, and true and predicted spans."""
    true = rng.integers(1, 6, (size, 1))
    predicted = rng.integers(0, 6, (size, 2))
    hits = rng.binomial(np.minimum(true, predicted), 0.5)
    return np.stack([hits, true + predicted], -1).astype(float), f1


def difference(values, value, **options):
    """Compare two models by the sums of each row, [rows, 2] (a mean) or [rows, 2, sums]."""
    sums = values if values.ndim == 3 else np.stack([values, np.ones_like(values)], -1)
    models = [AdditiveScore(torch.from_numpy(sums[:, model]), value) for model in (0, 1)]
    return compare_groups(AdditiveContrast(*models), len(values), **options)


def rate(kind, size, simulations, draws=DRAWS):
    """How often p < .05 without a difference."""
    rng = np.random.default_rng(size)
    pairs = (kind(rng, size) for _ in range(simulations))
    return np.mean([difference(*pair, draws=draws, seed=seed).p < 0.05 for seed, pair in enumerate(pairs)])


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((kind, size) for kind in (continuous, tied, fractions) for size in (1, 2, 3, 5)),
        (continuous, 12),
        (continuous, 30),
        (fractions, 30),
    ],
)
def test_without_a_difference_p_is_rarely_below_5_percent(kind, size):
    share = rate(kind, size, 400)
    assert share <= 0.06 + 0.02  # 400 simulations have a standard error of .011
    assert share == 0 or size > 5  # no swap of five rows has a p below 2 / 32
    if kind is continuous and size >= 12:
        assert share >= 0.04 - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("kind", [continuous, tied, fractions, heavy])
@pytest.mark.parametrize("size", SIZES)
def test_the_level_holds_at_every_number_of_rows(kind, size):
    share = rate(kind, size, 4000)  # a standard error of .0034
    assert share <= 0.06
    if kind in (continuous, heavy) and size >= 12:
        assert share >= 0.04


@pytest.mark.parametrize("size", [1, 2, 6, 9, 12])
def test_the_p_of_few_rows_is_that_of_all_swaps(size):
    values, value = continuous(np.random.default_rng(1), size)
    moves = values[:, 0] - values[:, 1]
    sums = [abs(sum(signs * moves)) for signs in itertools.product([-1, 1], repeat=size)]
    assert difference(values, value).p == pytest.approx(np.mean(np.array(sums) >= abs(moves.sum()) - 1e-12))


def test_the_p_of_signed_ranks_is_wilcoxons():
    ranks = np.array([1.0, -2, 3, 4, 5, -6, 7, 8, 9, 10, 11])
    values = np.stack([ranks, np.zeros_like(ranks)], 1)
    expected = wilcoxon(ranks, method="exact").pvalue
    assert difference(values, mean).p == pytest.approx(expected)


def test_a_random_p_is_near_the_exact_one_and_never_0(monkeypatch):
    values, value = continuous(np.random.default_rng(2), 12)
    exact = difference(values, value).p
    monkeypatch.setattr(permutation, "EXACT", 5)
    drawn = difference(values, value).p
    assert drawn == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 10_000) ** 0.5)
    assert difference(np.tile([[1.0, 0.0]], (50, 1)), mean).p == 1 / 10_001


def test_the_interval_of_a_mean_is_the_t_interval_of_its_differences():
    values, value = continuous(np.random.default_rng(3), 40)
    moves = values[:, 0] - values[:, 1]
    low, high = t.interval(0.95, 39, moves.mean(), moves.std(ddof=1) / 40**0.5)
    assert difference(values, value)[:3] == pytest.approx((moves.mean(), low, high))


def test_the_interval_of_a_mean_holds_its_level_from_six_rows_on():
    rng = np.random.default_rng(4)
    for size in (6, 30):
        hits = []
        for _ in range(400):
            values = rng.normal([0.3, 0.0], size=(size, 2))
            _, low, high, *_ = difference(values, mean, draws=9)
            hits.append(low <= 0.3 <= high)
        assert np.mean(hits) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_below_six_groups_there_is_no_interval(size):
    values, value = continuous(np.random.default_rng(5), size)
    assert difference(values, value)[1:3] == (None, None)
    assert difference(np.repeat(values, 3, 0), value)[1:3] != (None, None) or size == 1


def test_models_that_are_equal_have_p_1_and_no_interval():
    values, value = continuous(np.random.default_rng(6), 30)
    assert difference(np.repeat(values[:, :1], 2, 1), value) == (0.0, None, None, 1.0, 30)


def test_swapping_the_models_turns_the_difference_around():
    values, value = fractions(np.random.default_rng(7), 25)
    forward, backward = difference(values, value), difference(values[:, ::-1].copy(), value)
    assert forward.p == backward.p
    assert forward[:3] == pytest.approx((-backward.difference, -backward.high, -backward.low))


def task_rows(name, rows, seed=0, unseen=0.0):
    """A fitted task, the outputs of two models for some rows, and the targets of these rows."""
    rng, kind = np.random.default_rng(seed), TASKS.get(name)
    label = kind.processor()
    label.fit([kind.processor.example(rng) for _ in range(30)])
    items = [item for _ in range(10 * rows) if (item := label(kind.processor.example(rng)))][:rows]
    task = kind(4, label)
    shape = {"classification": (3,), "multilabel": (3,), "regression": (), "tagging": (6, 4)}[name]
    outputs = [torch.from_numpy(rng.normal(size=(rows, *shape))) for _ in (0, 1)]
    return task, [list(task.predict(output)) for output in outputs], items


METRICS = [(name, metric) for name in TASKS.names() for metric in TASKS.get(name).metrics]


@pytest.mark.parametrize(("name", "metric"), METRICS)
def test_a_metric_by_sums_is_the_metric_by_rows_under_any_swap(name, metric):
    task, models, items = task_rows(name, 23)
    groups = np.arange(23) // 3
    if metric == "spearman":
        assert task.additive(metric, models[0], items, torch.from_numpy(groups)) is None
        return
    by_sums = contrast(*(ScoredRows(task, model, items) for model in models), metric, groups)
    by_rows = RowContrast(lambda *rows: task.score(*rows)[metric], *models, items, groups)
    swaps = np.random.default_rng(0).random((20, 8)) < 0.5
    np.testing.assert_allclose(by_sums.swapped(swaps), by_rows.swapped(swaps), atol=1e-12)
    np.testing.assert_allclose(by_sums.left_out(), by_rows.left_out(), atol=1e-12)
    assert by_sums.size == pytest.approx(by_rows.size) or metric == "average_precision"


@pytest.mark.parametrize("name", ["classification", "multilabel", "tagging"])
def test_unseen_labels_and_ties_count_alike_by_sums_and_by_rows(name):
    task, models, items = task_rows(name, 24)
    models = [[value.round(decimals=1) if value.is_floating_point() else value for value in model] for model in models]
    strange = {"classification": "fig", "multilabel": ["red", "fig", "kiwi"], "tagging": ["noun", "fig", "fig"]}[name]
    items = [task.labels(strange) if row % 3 == 0 else item for row, item in enumerate(items)]
    for metric in task.metrics:
        sides = [ScoredRows(task, model, items) for model in models]
        by_rows = RowContrast(lambda *rows, metric=metric: task.score(*rows)[metric], *models, items, np.arange(24))
        swaps = np.random.default_rng(1).random((10, 24)) < 0.5
        fast = contrast(*sides, metric, np.arange(24))
        assert not fast.scores_rows
        np.testing.assert_allclose(fast.swapped(swaps), by_rows.swapped(swaps), atol=1e-9)
        np.testing.assert_allclose(fast.left_out(), by_rows.left_out(), atol=1e-9)


@pytest.mark.parametrize(("name", "metric"), [("regression", "spearman"), ("multilabel", "average_precision")])
def test_a_metric_of_ranks_has_a_p_and_an_interval_too(name, metric):
    task, models, items = task_rows(name, 20)
    sides = [[ScoredRows(task, model, items)] for model in models]
    result = compare_predictions(*sides, metric, range(20), draws=300)
    expected = [task.score(model, items)[metric] for model in models]
    assert result.difference == pytest.approx(expected[0] - expected[1])
    assert result.low < result.difference < result.high
    assert 0 < result.p <= 1
    few = compare_predictions(*([ScoredRows(task, side[0].predictions[:2], items[:2])] for side in sides), metric, "ab")
    assert few.p in (0.5, 1.0)


def test_drawing_ends_when_p_is_clearly_large(monkeypatch):
    monkeypatch.setattr(permutation, "ENOUGH", 20)
    rng, calls = np.random.default_rng(0), []
    values = [torch.tensor(value) for value in rng.normal(size=60)]

    def metric(predictions, targets):
        calls.append(1)
        return float(torch.stack(tuple(predictions)).mean())

    rows = RowContrast(metric, values[:30], values[30:], [{}] * 30, np.arange(30))
    early = compare_groups(rows, 30).p
    assert len(calls) < 2000  # each draw scores twice
    monkeypatch.setattr(permutation, "ENOUGH", 10**9)
    assert early == pytest.approx(compare_groups(rows, 30, draws=2000).p, rel=0.6)


def test_rows_of_a_group_swap_together_and_only_groups_are_counted():
    task, models, items = task_rows("regression", 10)
    repeated = [[ScoredRows(task, model * 4, items * 4)] for model in models]
    once = compare_predictions(*([ScoredRows(task, model, items)] for model in models), "mae", range(10))
    naive = compare_predictions(*repeated, "mae", range(40))
    grouped = compare_predictions(*repeated, "mae", [*range(10)] * 4)
    assert grouped == pytest.approx(once)
    assert (grouped.groups, naive.groups) == (10, 40)
    assert naive.p < grouped.p
    assert naive.high - naive.low < 0.6 * (grouped.high - grouped.low)


def test_groups_are_told_apart_by_value():
    assert bundled(["a", "b", "a"], 9, 0)[0].tolist() == bundled([7, "7", 7], 9, 0)[0].tolist() == [0, 1, 0]


def test_too_many_groups_swap_in_bundles_of_about_one_size():
    numbers, count = bundled(range(1000), 64, seed=1)
    assert count == 1000
    assert set(np.bincount(numbers)) == {15, 16}
    again, _ = bundled([*range(1000)] * 2, 64, seed=1)
    assert (again[:1000] == again[1000:]).all()


def test_bundles_give_nearly_the_same_p_and_interval(monkeypatch):
    task, models, items = task_rows("regression", 400)
    sides = [[ScoredRows(task, model, items)] for model in models]
    whole = compare_predictions(*sides, "mae", range(400))
    monkeypatch.setattr(permutation, "BUNDLES", 100)
    coarse = compare_predictions(*sides, "mae", range(400))
    assert (coarse.difference, coarse.groups) == (whole.difference, 400)
    assert coarse.high - coarse.low == pytest.approx(whole.high - whole.low, rel=0.2)
    assert coarse.p == pytest.approx(whole.p, abs=0.1)


def test_random_swaps_are_fair_independent_and_of_any_number():
    swaps = np.concatenate([*random_swaps(np.random.default_rng(0), 4001, 13, chunk=1000)])
    assert swaps.shape == (4001, 13)
    assert np.abs(swaps.mean(0) - 0.5).max() < 0.04
    assert np.abs(np.corrcoef(swaps.T) - np.eye(13)).max() < 0.08


def test_no_rows_or_unequal_numbers_are_refused():
    task, models, items = task_rows("regression", 3)
    with pytest.raises(ValueError, match="at least one"):
        compare_predictions([ScoredRows(task, [], [])], [ScoredRows(task, [], [])], "mae", [])
    with pytest.raises(ValueError, match=r"found \[2, 3\]"):
        compare_predictions(
            [ScoredRows(task, models[0][:2], items)], [ScoredRows(task, models[1], items)], "mae", "abc"
        )
