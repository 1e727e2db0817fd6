"""Study files: expansion into arms, and all errors reported together before anything runs."""

import re
from pathlib import Path

import pytest

from mmbert.ablation.study import load_study
from mmbert.errors import RecipeError

BASE = """
name: base
data: {generated: {type: generated, rows: 24}}
trunk: {checkpoint: null, layers: 2, hidden_size: 16, heads: 2, vocabulary: 120}
inputs: {text: {type: text}, cells: {type: table}}
tasks: {kind: {type: classification}, amount: {type: regression}}
train: {steps: 4, batch_size: 8}
"""
HEAD = "name: study\nbase: base.yaml\nmetric: kind/accuracy\n"


@pytest.fixture
def load(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)

    def load(text, overrides=()):
        (tmp_path / "study.yaml").write_text(HEAD + text)
        return load_study(tmp_path / "study.yaml", overrides)

    return load


def arms(study):
    return {arm.name: list(arm.changes) for arm in study.arms}


def test_an_arm_is_the_base_with_its_patch_and_its_changes_in_words(load):
    study = load(
        "arms: {joint: {fusion: {type: joint}}, 'no cells, wide': {inputs: {cells: null}, trunk: {hidden_size: 32}}}\n"
        "comparisons: [joint]\n"
    )
    assert arms(study) == {
        "reference": [],
        "joint": ["fusion.type: concat -> joint"],
        "no cells, wide": ["without inputs.cells", "trunk.hidden_size: 16 -> 32"],
    }
    assert study.arms[2].recipe.trunk.hidden_size == 32
    assert study.seeds == tuple(range(7))
    assert (study.task, study.metric, study.lower_is_better) == ("kind", "accuracy", False)
    assert study.planned == (("joint", "reference"),)


def test_shared_settings_and_the_command_line_change_the_reference_too(load):
    text = "set: {train: {steps: 9}}\nseeds: [3, 1]\narms: {joint: {fusion: {type: joint}}}\ncomparisons: [joint]\n"
    study = load(text, ["trunk.layers=1"])
    assert [(arm.recipe.train.steps, arm.recipe.trunk.layers) for arm in study.arms] == [(9, 1), (9, 1)]
    assert study.seeds == (3, 1)
    assert study.arms[1].seeded(3).train.seed == 3


def test_factors_vary_alone_around_the_base_or_crossed_and_leave_out_the_base_itself(load):
    text = "factors: {trunk.layers: [1, 2], trunk.hidden_size: [16, 32]}\ncomparisons: [trunk.layers=1]\n"
    assert list(arms(load(text))) == ["reference", "trunk.layers=1", "trunk.hidden_size=32"]
    crossed = load("crossed: true\n" + text.replace("[trunk.layers=1]", "['trunk.layers=1, trunk.hidden_size=32']"))
    assert list(arms(crossed)) == [
        "reference",
        "trunk.layers=1, trunk.hidden_size=16",
        "trunk.layers=1, trunk.hidden_size=32",
        "trunk.layers=2, trunk.hidden_size=32",
    ]
    both = crossed.arms[2].recipe.trunk
    assert (both.layers, both.hidden_size) == (1, 32)


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ("remove", ["without cells", "without text"]),
        ("mask", ["cells masked at test", "text masked at test"]),
        ("both", ["without cells", "cells masked at test", "without text", "text masked at test"]),
    ],
)
def test_each_input_is_left_out(load, how, names):
    study = load(f"leave_one_out: {{how: {how}}}\ncomparisons: ['{names[0]}']\n")
    assert list(arms(study)) == ["reference", *names]
    for arm in study.arms[1:]:
        name = next(candidate for candidate in ("cells", "text") if candidate in arm.name)
        assert (name in arm.recipe.inputs) == bool(arm.masks)
    assert [arm.name for arm in study.trained] == ["reference", *(name for name in names if "masked" not in name)]


def test_each_task_is_left_out_except_the_measured_and_kept_ones(load):
    assert list(arms(load("leave_one_out: {of: tasks}\ncomparisons: [without amount]\n"))) == [
        "reference",
        "without amount",
    ]
    text = "leave_one_out: {keep: [text]}\ncomparisons: [without cells]\n"
    assert list(arms(load(text))) == ["reference", "without cells"]


def test_the_direction_is_that_of_the_metric(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(HEAD.replace("kind/accuracy", "amount/rmse") + ONE + "comparisons: [one]\n")
    assert load_study(tmp_path / "study.yaml").lower_is_better


ONE = "arms: {one: {trunk: {layers: 1}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "arms:\n  one: {trunk: {layers: 1}}\n  two: {train: {steps: 5}}\n"
            "  three: {trunk: {hiden_size: 4}}\n  four: {fusion: {type: joynt}}\ncomparisons: [one]\n",
            r"(?s)nothing was run\narm 'three'.*hiden_size \(\S*study.yaml:7\).*'hidden_size'.*arm 'four'.*'joint'",
        ),
        (ONE + "comparisons: [onne]\n", r"study.yaml:5\): no arm is called 'onne'. Did you mean 'one'"),
        (ONE + "comparisons: [[one, one]]\n", "two different arms"),
        (ONE + "comparisons: [one, one]\n", "each pair only once"),
        (ONE, "comparisons.*: missing"),
        (ONE + "comparisons: []\n", "1 or more entries"),
        (ONE + "comparisons: [one]\nseeds: [1, 1]\n", "seeds that differ"),
        (ONE + "comparisons: [one]\nseeds: 0\n", "seeds"),
        (ONE + "comparisons: [one]\nsedes: 3\n", r"sedes.*unknown key. Did you mean 'seeds'"),
        ("arms: {one: {trunk: {layers: 2}}}\ncomparisons: [one]\n", "arm 'one': the same as 'reference'"),
        ("arms: {reference: {}}\ncomparisons: [reference]\n", "is the base itself"),
        ("arms: {' a': {}}\ncomparisons: [one]\n", "a name in one line"),
        (ONE + "leave_one_out: {of: tasks, how: mask}\ncomparisons: [one]\n", "cannot|not masked"),
        (ONE + "leave_one_out: {keep: [txt]}\ncomparisons: [one]\n", r"no 'txt' among its inputs. Did you mean 'text'"),
    ],
)
def test_errors_are_reported_with_file_and_line(load, text, message):
    with pytest.raises(RecipeError) as caught:
        load(text)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("metric", "message"), [("knd/accuracy", "Did you mean 'kind'"), ("accuracy", "expected task/metric")]
)
def test_a_metric_of_no_task_is_reported(tmp_path, metric, message):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(HEAD.replace("kind/accuracy", metric) + ONE + "comparisons: [one]\n")
    with pytest.raises(RecipeError, match=message):
        load_study(tmp_path / "study.yaml")


def test_an_unreadable_study_is_a_recipe_error(tmp_path):
    with pytest.raises(RecipeError, match="cannot read"):
        load_study(tmp_path / "none.yaml")
    for content, message in ((b"- 1\n", "a mapping"), (b"\xff", "UTF-8"), (b"a: [", "not valid YAML")):
        (tmp_path / "bad.yaml").write_bytes(content)
        with pytest.raises(RecipeError, match=message):
            load_study(tmp_path / "bad.yaml")


def test_hostile_names_stay_names(load):
    name = "<b>&'\\\\$x{}|%_=1+1 🙂 שלום"
    study = load(f'arms: {{"{name}": {{trunk: {{layers: 1}}}}}}\ncomparisons: ["{name}"]\n')
    assert study.arms[1].name == name.replace("\\\\", "\\")


def test_the_shipped_studies_are_valid():
    for path in sorted(Path(__file__).resolve().parents[2].glob("recipes/ablations/*.yaml")):
        assert len(load_study(path).arms) > 1


def test_a_shipped_study_is_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_study("fusion").name == "fusion"
    with pytest.raises(RecipeError, match=r"found 'fuson'. Did you mean 'fusion'\?"):
        load_study("fuson")
