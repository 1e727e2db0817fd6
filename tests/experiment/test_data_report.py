"""The pass over all rows before training: ids, leaks between splits, absent inputs, groups, and bad rows."""

import json
from pathlib import Path

import pytest

from mmbert.cli import commands
from mmbert.contracts import Source
from mmbert.data import SOURCES
from mmbert.errors import DataError, RecipeError, SampleError
from mmbert.experiment.build import build
from mmbert.recipe.load import load_recipe
from mmbert.types import Sample, sample_id

RECIPE = """\
name: small
data: {shop: {type: files, path: rows.jsonl}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs: {title: {type: text, max_length: 8}, cells: {type: table, column: [size, mass], width: 8, layers: 1}}
tasks: {price: {type: regression}}
train: {steps: 3, batch_size: 8}
evaluate: {baselines: false}
"""
SPLITS = ["train"] * 24 + ["validation"] * 6 + ["test"] * 6


def row(number):
    return {
        "title": f"thing {number}",
        "size": number / 2,
        "mass": float(number),
        "price": number % 5 + 0.5,
        "tongue": ["de", "fr", "fr"][number % 3],
        "split": SPLITS[number],
    }


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    """Writes the recipe and the rows; ``changes`` maps row numbers, counted from 1, to new values."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("small.yaml").write_text(RECIPE)

    def write(changes=None, rows=range(36), **everywhere):
        written = [row(number) | everywhere for number in rows]
        for number, values in (changes or {}).items():
            written[number - 1] |= values
        Path("rows.jsonl").write_text("\n".join(map(json.dumps, written)))

    write()
    return write


def recipe_of(*settings):
    return load_recipe("small.yaml", settings).recipe


def train(*settings):
    return commands.main(
        ["train", "small.yaml", *(word for setting in settings for word in ("--set", setting)), "--out", "run"]
    )


# --- ids and content (row 16) ---


class Listed(Source):
    """A source whose splits share one id: that of each split's first sample."""

    key = "same"

    def __init__(self, name, inputs, targets):
        self.name = name

    @property
    def fields(self):
        return frozenset({"title", "price", "cells"})

    def split(self, name):
        return [
            Sample(
                sample_id("shop", f"{name}{row}" if row else self.key),
                "shop",
                {"title": f"{name} {row}", "cells": {"size": row}},
                {"price": float(row)},
                {"where": f"{name}.csv row {row}", "key": self.key},
            )
            for row in range(9)
        ]


def test_one_id_in_train_and_test_names_both_rows(monkeypatch, capsys):
    monkeypatch.setattr(SOURCES, "_table", {**SOURCES._table, "listed": Listed})
    assert train("data.shop={type: listed}") == 3
    error = capsys.readouterr().err
    assert "the ids of rows must be unique" in error
    assert "shop (train.csv row 0) in train and shop (validation.csv row 0) in validation" in error
    assert not Path("run", "recipe.yaml").exists()


def test_one_key_in_two_published_splits_names_both_rows(shop, capsys):
    shop({number: {"id": f"k{number}" if number != 36 else "k5"} for number in range(1, 37)})
    assert train() == 3
    assert "'k5' is in rows.jsonl row 5 and in rows.jsonl row 36" in capsys.readouterr().err


def test_the_same_content_in_two_splits_is_reported_or_refused(shop, capsys):
    shop({36: {name: row(4)[name] for name in ("title", "size", "mass")}, 35: {"title": "thing 4"}})
    assert train() == 0
    message = (
        "1 rows have the same inputs as a row of another split, such as shop (rows.jsonl row 36) in test and shop "
        "(rows.jsonl row 5) in train"
    )
    assert f"warning: {message}" in capsys.readouterr().out
    assert train("evaluate.on_leak=fail") == 3
    assert message in capsys.readouterr().err


def test_the_same_content_within_a_split_is_no_leak(shop):
    shop({2: row(0)})
    assert build(recipe_of("evaluate.on_leak=fail")).data_report.warnings == []


# --- what is absent (rows 14 and 15) ---


def test_an_input_or_label_absent_in_validation_is_a_warning(shop, capsys):
    shop({number: {"size": None, "mass": None} for number in range(25, 31)})
    assert train() == 0
    assert "warning: inputs.cells: in training only, absent in every row of validation" in capsys.readouterr().out


def test_an_input_of_validation_only_needs_to_be_optional(shop, capsys):
    shop({number: {"size": None, "mass": None} for number in range(1, 25)})
    assert train() == 3
    message = (
        "inputs.cells: absent in every row of the training split, but present in 6 rows of validation and 6 rows of "
        "test; 'optional: true' allows that"
    )
    assert message in capsys.readouterr().err
    assert train("inputs.cells.optional=true") == 0
    assert "warning: inputs.cells is left out: only 6 rows of validation" in capsys.readouterr().out


def test_a_batch_without_any_label_of_a_task_trains(shop):
    shop({number: {"mark": number % 2 if number in (3, 4, 25, 26, 31) else None} for number in range(1, 37)})
    assert train("tasks.mark={type: classification}", "train.batch_size=2", "train.steps=12") == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    steps = {
        task: [line["step"] for line in lines if line["task"] == task and line["split"] == "train"]
        for task in ("price", "mark")
    }
    assert steps["price"] == [*range(1, 13)]
    assert 0 < len(steps["mark"]) < 12


# --- few rows (row 17) ---


def test_a_data_set_of_one_row_is_refused_with_the_reason(shop, capsys):
    shop(rows=[0])
    assert train() == 3
    message = capsys.readouterr().err
    assert "the validation split has no rows. shop: the column 'split' puts no row into validation" in message
    assert not Path("run", "recipe.yaml").exists()


def test_three_rows_train_and_are_evaluated_exactly(shop):
    shop(rows=[0, 1, 24, 30])
    assert train("train.batch_size=4", "evaluate.batch_size=64") == 0
    assert json.loads(Path("run/data.json").read_text())["rows"]["test"]["rows"] == 1


# --- groups ---


def test_groups_of_a_recipe_are_mixed_by_their_weights(shop):
    settings = ["data.shop.attributes=[tongue]", "train.mixing={by: tongue, weights: {de: 3, fr: 1}}"]
    experiment = build(recipe_of(*settings))
    draws = [
        experiment.dataset("train").sample(position)
        for step in range(9)
        for position, _ in experiment.plan().batch(step)
    ]
    tongues = [sample.attributes["tongue"] for sample in draws]
    assert (len(draws), tongues.count("de")) == (72, 54)


def test_groups_by_source_and_by_the_set_of_labels(shop):
    shop({number: {"mark": number % 2} for number in (*range(1, 9), 25, 26)})
    by_task = build(recipe_of("train.mixing={by: task, alpha: 0}", "tasks.mark={type: classification}"))
    assert sorted(by_task.data_report.group_names) == ["mark+price", "price"]
    by_source = build(recipe_of("train.mixing={alpha: 0}", "data.more={type: generated, rows: 20}"))
    assert by_source.data_report.group_names == ["more", "shop"]


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        ("{by: tonge, alpha: 1}", "no row has the attribute 'tonge'.*Did you mean 'tongue'?"),
        ("{weights: {shop: 1, shopp: 1}}", "no training row is of a group 'shopp'. Did you mean 'shop'?"),
        ("{by: tongue, weights: {de: 1}}", "the group 'fr' needs a weight too"),
    ],
)
def test_unknown_groups_and_keys_are_recipe_errors(mixing, message):
    with pytest.raises(RecipeError, match=message):
        build(recipe_of("data.shop.attributes=[tongue]", f"train.mixing={mixing}")).plan()


def test_attributes_are_columns(shop):
    with pytest.raises(DataError, match=r"no column 'tonge', as 'attributes' says. Did you mean 'tongue'"):
        build(recipe_of("data.shop.attributes=[tonge]"))
    shop(row=1)
    with pytest.raises(DataError, match="'attributes' must not name a column 'row'"):
        build(recipe_of("data.shop.attributes=[row]"))


# --- bad rows (section 10) ---


def listed():
    return [json.loads(line) for line in Path("run/bad_samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_rows_are_left_out_and_listed_once(shop, workers):
    shop({5: {"size": 1e31}, 27: {"price": float("inf")}, 31: {"size": 1e32}, 33: {"mass": 1e31}})
    assert train("train.max_bad_fraction=0.2", "evaluate.baselines=true", f"train.workers={workers}") == 0
    fields = {bad["row"]: bad["field"] for bad in listed()}
    assert fields == {
        "shop (rows.jsonl row 5)": "input 'cells'",
        "shop (rows.jsonl row 27)": "task 'price'",
        "shop (rows.jsonl row 33)": "input 'cells'",
        "shop (rows.jsonl row 31)": "input 'cells'",
    }
    assert len(listed()) == 4
    assert all(bad["reason"] for bad in listed())
    assert commands.main(["evaluate", "run"]) == 0
    assert train("train.max_bad_fraction=0.2") == 0
    assert len(listed()) == 4  # of the new run


def test_processors_are_not_fitted_on_bad_values(shop):
    shop({5: {"size": 1e31}, 6: {"size": 1e30}})
    without = build(recipe_of("train.max_bad_fraction=0.2"))
    shop({5: {"size": None, "mass": None}, 6: {"size": 1e30}})
    assert without.processors.inputs["cells"].mean == build(recipe_of()).processors.inputs["cells"].mean


def test_too_many_bad_rows_are_an_error(shop, capsys):
    shop({number: {"size": 1e31} for number in range(1, 13)})
    assert train("train.max_bad_fraction=0.1") == 3
    assert (
        "4 of 36 rows are bad, more than train.max_bad_fraction (0.1) allows, the first: shop (rows.jsonl row 1), "
        "input 'cells': "
    ) in capsys.readouterr().err


def test_bad_tags_are_left_out_as_well(shop):
    shop({5: {"tags": ["B-a"]}}, title=["one", "two"], tags=["B-a", "O"])
    assert train("train.max_bad_fraction=0.05", "tasks.tags={type: tagging, of: title}", "train.steps=6") == 0
    assert [bad["row"] for bad in listed()] == ["shop (rows.jsonl row 5)"]
    experiment = build(recipe_of("train.max_bad_fraction=0.05", "tasks.tags={type: tagging, of: title}"))
    with pytest.raises(SampleError, match=r"row 5.*found 1 tags"):  # also when it is read again in training
        experiment.dataset("train")[4, 0]
