"""README.md shows what is there: the code of the plugin that is tested, tables made from results/*.csv."""

from pathlib import Path

import pytest

from benchmarks.tables import write_tables
from mmbert.ablation.study import load_study
from mmbert.experiment.trunk_cache import check_cache

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_encoder_in_the_readme_is_the_one_that_is_tested():
    assert (ROOT / "tests" / "plugins" / "my_lab_eeg.py").read_text(encoding="utf-8") in README.replace("```", "")


def test_the_study_in_the_readme_is_valid_with_every_arm(tmp_path):
    start = README.index("name: modalities\n")
    shown = README[start : README.index("```", start)].replace("../quickstart", str(ROOT / "recipes" / "quickstart"))
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


def test_a_changed_table_is_made_anew():
    changed = README.replace(" | 3 |", " | 4 |", 1)
    assert changed != README
    assert write_tables(changed, ROOT / "results") == README


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
