"""The table files of a study: their content, escaping of hostile names, and atomic writes."""

import csv
import io
import math
import os
import re

import pytest
from markdown_it import MarkdownIt  # a dependency of rich

from mmbert.ablation.tables import COMPARED, LONG, comparisons_csv, table_csv, table_md, table_tex, write_tables
from mmbert.tracking.outcome import ArmOutcome, StudyOutcome

HOSTILE = (
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2",
    "@SUM(A1)",
    'a "quoted", one',
    "a|b",
    "`c` **d** <img src=x onerror=y>",
    "two\nlines\r\n| x |",
    "50 % & $x_1$ #{y} ~^",
    r"\\input{/etc/passwd}",
    "[z]",
    "שלום",
    "\U0001f600",
    "\u202egpj",
)


def arm(name, shift=0.0, seeds=range(7), **options):
    scores = {
        seed: {"label": {"accuracy": 0.8 + shift + seed / 1000, "log_loss": 1 / 3}, "amount": {"rmse": 12.0}}
        for seed in seeds
    }
    return ArmOutcome(name, scores=scores, **options)


def study(*arms, seeds=range(7), name="s", **options):
    planned = [(compared.name, "reference") for compared in arms[:2]]
    fields = {"planned": planned, "baselines": {"constant": {"label": {"accuracy": 0.5}}}, **options}
    return StudyOutcome(name, "label", "accuracy", False, seeds, [arm("reference", seeds=seeds), *arms], **fields)


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_long_table_has_every_value_with_all_its_digits():
    text = table_csv(study(arm("wide", 0.1, seeds=[1, 0])))
    assert text.splitlines()[0] == ",".join(LONG)
    lines = rows(text)
    assert len(lines) == (7 + 2) * 3 + 1
    assert [row["seed"] for row in lines if row["arm"] == "wide"] == ["0"] * 3 + ["1"] * 3
    assert {float(row["value"]) for row in lines if row["metric"] == "log_loss"} == {1 / 3}
    assert lines[-1] == {
        "study": "s",
        "arm": "constant",
        "seed": "",
        "task": "label",
        "metric": "accuracy",
        "value": "0.5",
    }


def test_the_long_table_shows_what_is_not_finite():
    bad = ArmOutcome("bad", scores={0: {"label": {"accuracy": math.nan, "log_loss": math.inf}}})
    assert [row["value"] for row in rows(table_csv(study(bad))) if row["arm"] == "bad"] == ["nan", "inf"]


def test_comparisons_have_an_adjusted_p_only_where_planned():
    outcome = study(arm("wide", 0.1), arm("deep", -0.1), arm("other", 0.2, seeds=[0]))
    wide, deep, lucky = rows(comparisons_csv(outcome))
    assert tuple(wide) == COMPARED
    assert [row["planned"] for row in (wide, deep, lucky)] == ["yes", "yes", "no"]
    assert (float(wide["p"]), float(wide["holm"])) == (2 / 128, 4 / 128)
    assert (wide["better"], deep["better"]) == ("better", "worse")
    assert float(deep["difference"]) == pytest.approx(-0.1)
    assert wide["in_words"].endswith(": significant")
    assert wide["effect_size"] == ""  # the differences do not vary
    assert (lucky["seeds"], lucky["low"], lucky["holm"]) == ("1", "", "")
    assert lucky["missing"] == "seeds 1-6 of other (not run)"


def test_a_design_with_too_few_seeds_never_says_significant():
    outcome = study(arm("wide", 0.1, seeds=range(5)), arm("deep", -0.1, seeds=range(6)), seeds=range(6))
    for write in (table_csv, table_md, table_tex, comparisons_csv):
        assert "signific" not in write(outcome).lower()


def test_markdown_as_a_whole():
    outcome = study(arm("wide", 0.1), arm("late", 0.3, seeds=[0], failed={1: "exit 4: `nan`\nor <inf>", 2: "x" * 300}))
    assert table_md(outcome) == (
        "| arm | label/accuracy ↑ | amount/rmse | seeds |\n"
        "| --- | ---: | ---: | --- |\n"
        "| reference | 0.803 ± 0.002 | 12.00 ± 0.00 | 7 |\n"
        "| wide | **0.903 ± 0.002** | 12.00 ± 0.00 | 7 |\n"
        "| late | 1.100 | 12.00 | 1 of 7, 2 failed |\n"
        "| constant (baseline) | 0.500 |  |  |\n"
        "\n"
        "Mean ± standard deviation over the seeds that have a result, on the test split. "
        "Bold: the best mean among the arms with the most seeds, without a test.\n"
        "\n"
        "Failed runs:\n"
        "\n"
        "* seed 1 of late: exit 4: \\`nan\\` or &lt;inf&gt;\n"
        f"* seed 2 of late: {'x' * 200} ...\n"
    )


def test_latex_as_a_whole():
    assert table_tex(study(arm("wide_2", 0.1), arm("none", seeds=()))) == (
        "% needs \\usepackage{booktabs}\n"
        "% Mean $\\pm$ standard deviation over the seeds that have a result, on the test split.\n"
        "\\begin{tabular}{lrrl}\n"
        "\\toprule\n"
        "arm & label/accuracy $\\uparrow$ & amount/rmse & seeds \\\\\n"
        "\\midrule\n"
        "reference & 0.803 $\\pm$ 0.002 & 12.00 $\\pm$ 0.00 & 7 \\\\\n"
        "wide\\_2 & \\textbf{0.903 $\\pm$ 0.002} & 12.00 $\\pm$ 0.00 & 7 \\\\\n"
        "none &  &  & 0 of 7 \\\\\n"
        "\\midrule\n"
        "constant (baseline) & 0.500 &  &  \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_arrows_point_where_better_is():
    outcome = StudyOutcome("s", "label", "accuracy", True, [0], [arm("reference")])
    assert "label/accuracy ↓ |" in table_md(outcome)
    assert r"label/accuracy $\downarrow$ &" in table_tex(outcome)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_csv(name):
    outcome = study(arm(name), arm("deep"), name=name, baselines={name: {name: {name: 1.0}}})
    line = " ".join(name.split())
    expected = f"'{line}" if line[0] in "=+-@" else line
    long, compared = rows(table_csv(outcome)), rows(comparisons_csv(outcome))
    assert {row["study"] for row in long + compared} == {expected}
    assert {row["arm"] for row in long} == {"reference", expected, "deep"}
    assert list(long[-1].values()) == [expected, expected, "", expected, expected, "1.0"]
    for row in compared:
        assert not any(row[key].startswith(("=", "+", "-", "@")) for key in ("arm", "missing", "in_words"))
    assert all(len(row) == len(COMPARED) and None not in row for row in compared)


def shown(markdown):
    """The cells and lines of rendered Markdown; asserts that nothing but bold is formatted."""
    texts = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        assert token.type != "html_block"
        if token.type == "inline":
            kinds = {child.type for child in token.children}
            assert kinds <= {"text", "text_special", "strong_open", "strong_close"}
            assert all("strong" not in kind for kind in kinds) or re.fullmatch(r"\*\*[\d.± ]+\*\*", token.content)
            texts.append("".join(child.content for child in token.children))
    return texts


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_markdown(name):
    outcome = study(arm(name, seeds=[1], failed={0: name}), baselines={name: {name: {name: 1.0}}}, planned=())
    line = " ".join(name.split()).replace("\u202e", "\ufffd")
    assert [text.strip() for text in shown(table_md(outcome))] == [
        *("arm", "label/accuracy ↑", "amount/rmse", f"{line}/{line}", "seeds"),
        *("reference", "0.803 ± 0.002", "12.00 ± 0.00", "", "7"),
        *(line, "0.801", "12.00", "", "1 of 7, 1 failed"),
        *(f"{line} (baseline)", "", "", "1.000", ""),
        *(table_md(outcome).split("\n\n")[1], "Failed runs:", f"seed 0 of {line}: {line}"),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_latex(name):
    outcome = study(arm(name, seeds=[1], failed={0: name}), baselines={name: {name: {name: 1.0}}}, planned=())
    lines = table_tex(outcome).splitlines()
    rules = (r"\begin{tabular}{lrrrl}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}")
    body = [line for line in lines if line not in rules and not line.startswith("%")]
    assert len(lines) - len(body) == 8 + any(ord(letter) > 0x17F for letter in name)  # the last one is for lualatex
    assert len(body) == 1 + 2 + 1
    for line in body:
        assert line.endswith(r" \\")
        inner = line.removesuffix(r"\\")
        assert len(re.findall(r"(?<!\\)&", inner)) == 4  # five cells
        assert not re.search(r"(?<!\\)[%#~^_]|\\\\|\\input|^[\[*]|\u202e", inner)
        bare = re.sub(r"\\[{}]", "", inner)
        assert bare.count("{") == bare.count("}")


def test_tables_are_written_atomically(tmp_path, monkeypatch):
    outcome = study(arm("wide", 0.1), arm("half a pair \ud800"))
    folder = tmp_path / "study" / "tables"
    paths = write_tables(outcome, folder)
    names = ["table.csv", "table.md", "table.tex", "comparisons.csv"]
    assert [path.name for path in paths] == names
    assert sorted(os.listdir(folder)) == sorted(names)
    before = {path: path.read_bytes() for path in paths}
    assert before[folder / "table.md"].decode() == table_md(outcome)
    assert b"half a pair ?" in before[folder / "table.csv"]
    assert not any(b"\r" in content for content in before.values())

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmbert.io.atomic.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tables(study(arm("other")), folder)
    assert {path: path.read_bytes() for path in paths} == before


def test_the_order_of_runs_changes_no_byte(tmp_path):
    first = study(arm("wide", 0.1), arm("deep", failed={8: "b", 9: "a"}))
    second = study(
        arm("wide", 0.1, seeds=reversed(range(7))), arm("deep", seeds=[3, 1, 0, 2, 6, 5, 4], failed={9: "a", 8: "b"})
    )
    first_paths, second_paths = write_tables(first, tmp_path / "one"), write_tables(second, tmp_path / "other")
    assert [path.read_bytes() for path in first_paths] == [path.read_bytes() for path in second_paths]
