"""README.md shows what is there: the code of the plugin that is tested, tables made from results/*.csv."""

from pathlib import Path

import pytest

from benchmarks.tables import write_tables

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_encoder_in_the_readme_is_the_one_that_is_tested():
    assert (ROOT / "tests" / "plugins" / "my_lab_eeg.py").read_text(encoding="utf-8") in README.replace("```", "")


def test_tables_are_those_of_the_results():
    assert write_tables(README, ROOT / "results") == README
    changed = README.replace(" | 3 |", " | 4 |", 1)
    assert changed != README
    assert write_tables(changed, ROOT / "results") == README


def test_a_cell_without_a_row_is_refused(tmp_path):
    (tmp_path / "one.csv").write_text("arm,task,metric,seed,value,split,machine,date\na,t,m,0,1.0,test,x,2026-01-01\n")
    text = "<!-- table one: t/m; a -->\nold\n<!-- end -->"
    assert "| a | **1.000** | 1 |" in write_tables(text, tmp_path)
    with pytest.raises(ValueError, match="no row of results has arm 'b'"):
        write_tables(text.replace("; a", "; b"), tmp_path)
