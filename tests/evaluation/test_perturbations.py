"""Perturbations of inputs: keyed by sample, nested over rates, with exact shares."""

from itertools import pairwise

import torch

from mmbert.data.keyed_random import draw_kept_names
from mmbert.evaluation.perturbations import NONE, RATES, corrupt_input, drop_at_random, unchanged_view

ROWS = 1000
IDS = torch.arange(ROWS) * 7 + 3
ALL = {name: torch.ones(ROWS, dtype=torch.bool) for name in ("graph", "image", "text")}
SOME = {**ALL, "image": torch.arange(ROWS) % 3 > 0, "text": torch.arange(ROWS) % 2 > 0}


def is_shown(view):
    return torch.stack([sources != NONE for sources in view.values()])


def test_at_rate_0_no_row_changes():
    for view in (drop_at_random(SOME, IDS, 0.0, 1), corrupt_input(SOME, IDS, "text", 0.0, 1)):
        for name, sources in unchanged_view(SOME).items():
            assert view[name].equal(sources)
            assert (sources != NONE).equal(SOME[name])
            assert sources[SOME[name]].equal(torch.arange(ROWS)[SOME[name]])


def test_missing_inputs_are_those_that_input_dropout_drops():
    view = drop_at_random(SOME, IDS, 0.6, 1)
    for row in range(50):
        names = [name for name, present in SOME.items() if present[row]]
        left = {name for name in names if view[name][row] == row}
        assert left == draw_kept_names(names, 0.6, 1, int(IDS[row]), "missing")
        assert all(view[name][row] == NONE for name in SOME if name not in left)


def test_each_row_keeps_an_input_and_at_rate_1_each_is_kept_equally_often():
    for rate in RATES:
        assert is_shown(drop_at_random(SOME, IDS, rate, 1)).any(0).all()
    left = is_shown(drop_at_random(ALL, IDS, 1.0, 1))
    assert (left.sum(0) == 1).all()
    assert (left.double().mean(1) - 1 / 3).abs().max() < 0.05


def test_inputs_are_missing_at_the_requested_rate():
    # if all three inputs are drawn, one is kept
    for rate in (0.2, 0.4):
        expected = rate - rate**3 / 3
        assert (1 - is_shown(drop_at_random(ALL, IDS, rate, 1)).double().mean(1) - expected).abs().max() < 0.05


def test_an_input_missing_at_a_rate_is_missing_at_higher_rates():
    views = [is_shown(drop_at_random(SOME, IDS, rate, 1)) for rate in (0.0, *RATES)]
    assert all((more >= fewer).all() for more, fewer in pairwise(views))


def test_perturbations_do_not_depend_on_the_order_or_number_of_rows():
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))[:400]
    reordered = drop_at_random({name: present[order] for name, present in SOME.items()}, IDS[order], 0.4, 1)
    assert is_shown(reordered).equal(is_shown(drop_at_random(SOME, IDS, 0.4, 1))[:, order])
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    reordered = corrupt_input({name: present[order] for name, present in SOME.items()}, IDS[order], "text", 0.4, 1)
    assert (
        order[reordered["text"]]
        .where(reordered["text"] != NONE, NONE)
        .equal(corrupt_input(SOME, IDS, "text", 0.4, 1)["text"][order])
    )


def test_another_seed_perturbs_other_rows():
    assert not is_shown(drop_at_random(ALL, IDS, 0.4, 1)).equal(is_shown(drop_at_random(ALL, IDS, 0.4, 2)))
    assert not corrupt_input(ALL, IDS, "text", 1.0, 1)["text"].equal(corrupt_input(ALL, IDS, "text", 1.0, 2)["text"])


def test_at_rate_1_all_values_of_an_input_are_exchanged():
    view = corrupt_input(SOME, IDS, "image", 1.0, 1)
    rows = SOME["image"].nonzero().squeeze(1)
    assert view["image"][rows].sort().values.equal(rows)
    assert (view["image"][rows] != rows).all()
    assert (view["image"][~SOME["image"]] == NONE).all()
    assert all(view[name].equal(sources) for name, sources in unchanged_view(SOME).items() if name != "image")


def test_exchanged_rows_are_nested_and_have_the_requested_share():
    full, before = corrupt_input(ALL, IDS, "text", 1.0, 1)["text"], torch.zeros(ROWS, dtype=torch.bool)
    for rate in RATES:
        sources = corrupt_input(ALL, IDS, "text", rate, 1)["text"]
        changed = sources != torch.arange(ROWS)
        assert (changed >= before).all()
        assert abs(changed.double().mean() - rate) < 0.05
        assert sources[changed].equal(full[changed])
        before = changed


def test_a_value_that_only_one_row_has_is_not_exchanged():
    has = {"text": torch.tensor([False, True, False])}
    assert corrupt_input(has, torch.arange(3), "text", 1.0, 0)["text"].tolist() == [NONE, 1, NONE]
    none = {"text": torch.zeros(3, dtype=torch.bool)}
    assert corrupt_input(none, torch.arange(3), "text", 1.0, 0)["text"].tolist() == [NONE] * 3
