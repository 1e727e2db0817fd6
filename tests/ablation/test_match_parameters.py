"""Arms that are matched to the number of parameters of the reference."""

import pytest

from mmbert.ablation.match_parameters import count_trainable, match_parameters, nearest_value
from mmbert.ablation.study import load_study
from mmbert.errors import RecipeError

BASE = """
name: base
data: {generated: {type: generated, rows: 24}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 120}
inputs: {text: {type: text}, cells: {type: table, width: 16}}
fusion: {type: concat, hidden: 96}
tasks: {kind: {type: classification}, amount: {type: regression}}
train: {steps: 4, batch_size: 8}
"""
STUDY = """
name: study
base: base.yaml
metric: amount/rmse
seeds: 7
arms:
  alone: {inputs: {cells: null}}
  deep: {trunk: {layers: 2}}
match_parameters: {deep: KEY}
comparisons: [deep]
"""


@pytest.fixture
def study(tmp_path):
    def load(key="trunk.hidden_size", text=STUDY):
        (tmp_path / "base.yaml").write_text(BASE)
        (tmp_path / "study.yaml").write_text(text.replace("KEY", key))
        return load_study(tmp_path / "study.yaml")

    return load


@pytest.mark.parametrize("goal", [1, 9, 100, 101, 1234, 99_999])
@pytest.mark.parametrize("step", [1, 2, 12])
def test_the_nearest_value_equals_that_of_exhaustive_search(goal, step):
    def parameters(value):
        return value * value + 3 * value if value % step == 0 else None

    tried = [(value, count) for value in range(1, 1000) if (count := parameters(value)) is not None]
    assert nearest_value(parameters, goal) == min(tried, key=lambda pair: abs(pair[1] - goal))


def test_values_without_effect_and_refused_values_are_reported():
    with pytest.raises(RecipeError, match="does not change the number of parameters"):
        nearest_value(lambda value: 7, 9)
    with pytest.raises(RecipeError, match="no value from 1 to 64 is valid"):
        nearest_value(lambda value: None, 9)


def test_an_arm_gets_the_parameters_of_the_reference_and_the_others_stay(study):
    loaded = study("fusion.hidden")
    matched = match_parameters(loaded)
    goal = count_trainable(loaded.arms[0].recipe)
    deep, before = matched.arms[2], count_trainable(loaded.arms[2].recipe)
    assert abs(before - goal) > 0.05 * goal > abs(count_trainable(deep.recipe) - goal)
    hidden = deep.recipe.fusion.options["hidden"]
    assert any(f"fusion.hidden: 96 -> {hidden}" in words for words in deep.changes)
    assert deep.changes[-1].endswith(f"{goal:,} in the reference")
    assert deep.seeded(3).fusion.options["hidden"] == hidden
    assert matched.arms[:2] == loaded.arms[:2]
    assert study(text=STUDY.replace("match_parameters: {deep: KEY}\n", "")) == match_parameters(
        study(text=STUDY.replace("match_parameters: {deep: KEY}\n", ""))
    )


def test_values_that_the_recipe_refuses_are_skipped(study):
    matched = match_parameters(study("trunk.hidden_size"))
    assert matched.arms[2].recipe.trunk.hidden_size % 2 == 0
    assert matched.arms[2].recipe.trunk.hidden_size < 16


def test_an_arm_that_cannot_be_matched_is_reported_with_both_numbers(study):
    text = STUDY.replace("deep: {trunk: {layers: 2}}", "deep: {trunk: {layers: 2, hidden_size: 128}}")
    with pytest.raises(
        RecipeError, match=r"arm 'deep': no value of fusion.hidden comes within 5% of .* nearest, 1, gives [\d,]+"
    ):
        match_parameters(study("fusion.hidden", text))
    with pytest.raises(
        RecipeError, match=r"arm 'deep', train\.batch_size: the option does not change the number of parameters"
    ):
        match_parameters(study("train.batch_size"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("deep: KEY", "depe: KEY", r"match_parameters.depe \(.*study.yaml:9\): no trained arm .* Did you mean 'deep'"),
        (
            "KEY",
            "fusion.hiden",
            r"match_parameters.deep .*no whole number under this key. Did you mean 'fusion.hidden'",
        ),
        ("KEY", "fusion.dropout", "no whole number under this key"),
        ("deep: KEY", "reference: KEY", "no trained arm other than the reference is called 'reference'"),
    ],
)
def test_a_wrong_arm_or_key_is_reported_with_its_line(study, old, new, message):
    with pytest.raises(RecipeError, match=message):
        study("fusion.hidden", STUDY.replace(old, new))
