"""README.md and docs/: tables equal results/*.csv; the recipe, study and encoder shown there work."""

from pathlib import Path

import pytest

from benchmarks.tables import write_tables
from encoders import ENCODERS
from mmbert.ablation.study import load_study
from mmbert.api import train
from mmbert.experiment.trunk_cache import check_cache
from mmbert.recipe.load import load_recipe

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STUDIES = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
GENERATED = """\
name: colours
data: {made: {type: generated, rows: 48}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs: {text: {type: text, max_length: 8}, shade: {type: colours, hidden: 8}}
tasks: {price: {type: regression}}
train: {steps: 2, batch_size: 8}
evaluate: {every: 2, baselines: false}
"""


def code_blocks(text, language):
    """The fenced blocks of one language in a Markdown text."""
    return [block.split("```")[0] for block in text.split(f"```{language}\n")[1:]]


def test_the_readme_is_short():
    assert README.count("\n") < 200


def test_the_two_commands_stand_in_it():
    commands = code_blocks(README, "")
    assert 'pip install -e ".[demo]" && accelerate launch -m mmbert train recipes/quickstart.yaml\n' in commands
    assert 'pip install -e ".[dev]" && pytest -n auto --dist loadfile\n' in commands


@pytest.mark.parametrize("page", ["README.md", "docs/recipes.md"])
def test_the_recipe_is_valid(page, tmp_path):
    text = (ROOT / page).read_text(encoding="utf-8")
    recipe = next(block for block in code_blocks(text, "yaml") if block.startswith("name: "))
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert load_recipe(tmp_path / "recipe.yaml").recipe.inputs.keys() == {"names", "structure", "descriptors"}


def test_the_encoder_in_the_readme_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(ENCODERS, "_table", {**ENCODERS._table})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    exec(next(block for block in code_blocks(README, "python") if "ENCODERS" in block), {"__name__": "my_colours"})
    (tmp_path / "colours.yaml").write_text(GENERATED)
    assert train(tmp_path / "colours.yaml", out=tmp_path / "run")["test"]["price"]


def test_the_study_is_valid_with_every_arm(tmp_path):
    start = STUDIES.index("name: modalities\n")
    shown = STUDIES[start : STUDIES.index("```", start)].replace("../quickstart", str(ROOT / "recipes" / "quickstart"))
    (tmp_path / "study.yaml").write_text(shown)
    arms = load_study(tmp_path / "study.yaml").arms
    assert len(arms) > 5
    for arm in arms:
        check_cache(arm.recipe)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_tables_are_those_of_the_results(path):
    text = path.read_text(encoding="utf-8")
    assert write_tables(text, ROOT / "results") == text


@pytest.mark.parametrize("text", [README, RESULTS], ids=["readme", "results"])
def test_a_changed_table_is_made_anew(text):
    changed = text.replace(" | 5 |", " | 4 |", 1)
    assert changed != text
    assert write_tables(changed, ROOT / "results") == text


def test_a_cell_without_a_row_is_a_dash_and_an_arm_without_any_is_refused(tmp_path):
    lines = ["a,t,m,0,1.0,test,x,2026-01-01", "b,u,m,0,2.0,test,x,2026-01-01"]
    (tmp_path / "one.csv").write_text("\n".join(["arm,task,metric,seed,value,split,machine,date", *lines, ""]))
    text = "<!-- table one: t/m u/m; a, b -->\nold\n<!-- end -->"
    assert "| a | **1.000** | - | 1 |\n| b | - | **2.000** | 1 |" in write_tables(text, tmp_path)
    with pytest.raises(ValueError, match=r"no row of results for c$"):
        write_tables(text.replace("; a, b", "; a, b, c"), tmp_path)
    with pytest.raises(ValueError, match=r"no row of results for v/m$"):
        write_tables(text.replace("u/m", "u/m v/m"), tmp_path)
    with pytest.raises(ValueError, match=r"no row of results for u/m$"):
        write_tables(text.replace("; a, b", "; a"), tmp_path)
