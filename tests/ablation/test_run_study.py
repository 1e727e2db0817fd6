"""Running a study with fake runs: which runs start, which are read from ledger or folder, and the tables."""

import csv
import json
from pathlib import Path

import pytest

from mmbert.ablation import run_study as module
from mmbert.ablation.plan import describe_design
from mmbert.ablation.run_study import prepare_study, run_study
from mmbert.cli.commands import main
from mmbert.errors import DataError, MMBertError, RecipeError
from mmbert.evaluation.results import Result
from mmbert.version import CODE_EPOCH

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
name: study
base: base.yaml
metric: amount/rmse
seeds: 2
arms: {narrow: {inputs: {cells: {width: 8}}}}
leave_one_out: {how: both, keep: [text]}
comparisons: [narrow]
"""
BASE = """
name: base
data: {generated: {type: generated, rows: 24}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 120}
inputs: {text: {type: text}, cells: {type: table, width: 16}}
tasks: {kind: {type: classification}, amount: {type: regression}}
train: {steps: 4, batch_size: 8}
"""


class Trained:
    """A pool without training: each run ends at once with a score computed from its arm and seed."""

    def __init__(self, fails=()):
        self.fails, self.slots, self.started, self._now = fails, 1, [], []

    @property
    def free(self):
        return self.slots - len(self._now)

    def start(self, job):
        self.started.append(job.name)
        self._now.append(job)

    def ended(self):
        gone, self._now = self._now, []
        for job in gone:
            folder = Path(job.command[job.command.index("--out") + 1])
            run = next(run for run in self.runs if run.folder == folder)
            folder.mkdir(parents=True, exist_ok=True)
            if job.name in self.fails:
                (folder / "status.json").write_text(json.dumps({"state": "failed", "code": 4, "reason": "not finite"}))
                continue
            value = 1 + len(run.arm.name) / 100 + run.seed / 10
            scores = {"amount": {"rmse": value, "mae": value / 2}, "kind": {"accuracy": 0.5}}
            hidden = {"mmbert without cells": {**scores, "amount": {"rmse": value + 1, "mae": value}}}
            baselines = {"constant": {"amount": {"rmse": 3.0, "mae": 2.0}}} if run.recipe.evaluate.baselines else {}
            (folder / "data.json").write_text(json.dumps({"fingerprint": run.data}))
            (folder / "env.json").write_text(json.dumps({"commit": "0ldc0de"}))
            result = {"recipe": run.identity, "epoch": CODE_EPOCH, "test": scores, "hidden": hidden}
            (folder / "result.json").write_text(json.dumps(result | {"baselines": baselines}))
        return [job.name for job in gone]

    def stop(self):
        pass


@pytest.fixture
def study(tmp_path, monkeypatch):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.setattr("mmbert.ablation.runner.POLL", 0.001)
    monkeypatch.setattr("mmbert.ablation.runner.RETRY", 0.002)

    def run(file="study.yaml", fails=(), **options):
        pool = Trained(fails)
        out = options.pop("out", tmp_path / "runs" / "study")

        monkeypatch.setattr(module, "LocalPool", lambda slots, gpus: pool)
        names = {"overrides", "ledger"} & options.keys()
        prepared = prepare_study(tmp_path / file, out=out, **{name: options.pop(name) for name in names})
        pool.runs = prepared.runs
        try:
            return pool, run_study(prepared, **options)
        except MMBertError as error:
            error.pool = pool
            raise

    return run


def values(outcome):
    return {arm.name: arm.values("amount", "rmse") for arm in outcome.arms}


EXPECTED = {
    "reference": {0: 1.09, 1: 1.19},
    "narrow": {0: 1.06, 1: 1.16},
    "without cells": {0: 1.13, 1: 1.23},
    "cells masked at test": {0: 2.09, 1: 2.19},
}


def test_all_arms_are_run_and_masked_ones_are_read_from_the_reference(study, tmp_path):
    pool, outcome = study()
    assert pool.started == [
        f"{arm}, seed {seed}" for seed in (0, 1) for arm in ("reference", "narrow", "without cells")
    ]
    assert values(outcome) == {arm: pytest.approx(scores) for arm, scores in EXPECTED.items()}
    assert outcome.baselines == {"constant": {"amount": {"rmse": 3.0, "mae": 2.0}}}
    folder = tmp_path / "runs" / "study"
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    by_arm = {(row["arm"], row["seed"]): float(row["value"]) for row in rows if row["metric"] == "rmse"}
    assert by_arm["cells masked at test", "1"] == pytest.approx(2.19)
    assert by_arm["constant", ""] == 3
    comparisons = list(csv.DictReader((folder / "comparisons.csv").read_text().splitlines()))
    assert (comparisons[0]["arm"], comparisons[0]["planned"]) == ("narrow", "yes")
    assert float(comparisons[0]["difference"]) == pytest.approx(-0.03)


def test_finished_runs_are_not_run_again_for_another_study(study, tmp_path):
    study()
    before = {path.name: path.read_bytes() for path in (tmp_path / "runs" / "study").iterdir() if path.is_file()}
    pool, outcome = study()
    assert pool.started == []
    assert values(outcome) == {arm: pytest.approx(scores) for arm, scores in EXPECTED.items()}
    assert before == {
        path.name: path.read_bytes() for path in (tmp_path / "runs" / "study").iterdir() if path.is_file()
    }
    (tmp_path / "other.yaml").write_text(STUDY.replace("name: study", "name: other").replace("width: 8", "width: 24"))
    pool, _ = study("other.yaml", out=tmp_path / "runs" / "other")
    assert pool.started == ["narrow, seed 0", "narrow, seed 1"]


def test_rows_of_a_ledger_count_as_finished_and_are_written_once(study, tmp_path):
    ledger = tmp_path / "ledger.csv"
    study(ledger=ledger)
    first = ledger.read_bytes()
    # the commit of the runs
    assert {row["commit"] for row in csv.DictReader(first.decode().splitlines())} == {"0ldc0de"}
    pool, outcome = study(ledger=ledger, out=tmp_path / "elsewhere" / "study")  # without the run folders
    assert pool.started == []
    assert values(outcome) == {arm: pytest.approx(scores) for arm, scores in EXPECTED.items()}
    assert outcome.baselines == {"constant": {"amount": {"rmse": 3.0, "mae": 2.0}}}
    study(ledger=ledger)
    assert ledger.read_bytes() == first
    changed = STUDY.replace("seeds: 2", "seeds: 3")
    (tmp_path / "study.yaml").write_text(changed)
    pool, _ = study(ledger=ledger, out=tmp_path / "elsewhere" / "study")
    assert pool.started == ["reference, seed 2", "narrow, seed 2", "without cells, seed 2"]


def test_with_other_data_nothing_counts_as_finished(study, tmp_path):
    ledger = tmp_path / "ledger.csv"
    study(ledger=ledger)
    rows = tmp_path / "rows.jsonl"
    facts = [{"text": f"word {row}", "cells": {"a": row}, "kind": "ab"[row % 2], "amount": row} for row in range(40)]
    text = "".join(json.dumps(fact) + "\n" for fact in facts)
    source = f"{{files: {{type: files, path: {rows}}}}}"
    (tmp_path / "base.yaml").write_text(BASE.replace("{generated: {type: generated, rows: 24}}", source))
    for content in (text, text.replace("word", "term")):
        rows.write_text(content)
        pool, outcome = study(ledger=ledger)
        assert len(pool.started) == 6
        assert len(values(outcome)["reference"]) == 2
        pool, _ = study(ledger=ledger, out=tmp_path / "elsewhere" / "study")
        assert pool.started == []


def test_masked_arms_are_read_from_a_run_even_if_the_ledger_has_the_others(study, tmp_path):
    ledger, complete = tmp_path / "ledger.csv", tmp_path / "complete.csv"
    study(ledger=ledger)
    complete.write_bytes(ledger.read_bytes())
    lines = ledger.read_text().splitlines(keepends=True)
    cut = [line for line in lines if ",reference without cells,1," not in line]
    assert len(lines) - len(cut) == 3
    ledger.write_text("".join(cut))
    pool, outcome = study(ledger=ledger, out=tmp_path / "elsewhere" / "study")
    assert pool.started == ["reference, seed 1"]
    assert values(outcome)["cells masked at test"] == pytest.approx(EXPECTED["cells masked at test"])
    assert sorted(ledger.read_text().splitlines()) == sorted(complete.read_text().splitlines())


def test_a_table_of_folders_equals_one_of_the_ledger_byte_for_byte(study, tmp_path):
    ledger = tmp_path / "ledger.csv"
    study(ledger=ledger)
    study(ledger=ledger, out=tmp_path / "elsewhere" / "study")
    for name in ("table.csv", "table.md", "comparisons.csv"):
        of_folders, of_ledger = ((tmp_path / place / "study" / name).read_bytes() for place in ("runs", "elsewhere"))
        assert of_folders == of_ledger


def test_baselines_are_computed_where_the_runs_have_none(study, tmp_path, monkeypatch):
    results = [Result("constant", {"amount": {"rmse": 7.0, "mae": 5.0}}, {})]
    monkeypatch.setattr(module, "score_baselines", lambda experiment, console: results)
    # the wide arm of the first is trained without baselines, and is the reference of the second
    head, wide = "base: base.yaml\nmetric: amount/rmse\nseeds: 2\n", "{inputs: {cells: {width: 24}}}"
    (tmp_path / "first.yaml").write_text(f"name: first\n{head}arms: {{wide: {wide}}}\ncomparisons: [wide]\n")
    deep = "arms: {deep: {trunk: {layers: 2}}}\ncomparisons: [deep]\n"
    (tmp_path / "second.yaml").write_text(f"name: second\n{head}set: {wide}\n{deep}")
    study("first.yaml", out=tmp_path / "runs" / "first")
    pool, outcome = study("second.yaml", out=tmp_path / "runs" / "second")
    assert pool.started == ["deep, seed 0", "deep, seed 1"]
    assert outcome.baselines == {"constant": {"amount": {"rmse": 7.0, "mae": 5.0}}}
    assert "constant" in (tmp_path / "runs" / "second" / "table.md").read_text()
    pool, outcome = study("second.yaml", out=tmp_path / "runs" / "third", overrides=["evaluate.baselines=false"])
    assert outcome.baselines == {}


def test_a_failed_run_is_marked_and_gives_the_exit_code_of_the_study(study, tmp_path):
    with pytest.raises(MMBertError, match="narrow, seed 0: not finite") as caught:
        study(fails=["narrow, seed 0"])
    assert caught.value.exit_code == 4
    assert len(caught.value.pool.started) == 6
    assert "not finite" in (tmp_path / "runs" / "study" / "table.md").read_text()
    with pytest.raises(MMBertError, match="--retry-failed") as caught:
        study()
    assert caught.value.pool.started == []
    pool, outcome = study(retry_failed=True)
    assert pool.started == ["narrow, seed 0"]
    assert values(outcome)["narrow"] == pytest.approx(EXPECTED["narrow"])


def test_only_some_arms_are_run_on_request(study):
    pool, outcome = study(only=["narrow"])
    assert pool.started == ["narrow, seed 0", "narrow, seed 1"]
    assert values(outcome)["reference"] == {}
    with pytest.raises(RecipeError, match="Did you mean 'narrow'"):
        study(only=["narow"])


def test_an_unknown_metric_of_a_task_is_reported(study, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("amount/rmse", "amount/rsme"))
    with pytest.raises(RecipeError, match=r"metric \(.*study\.yaml:4\).*no metric 'rsme'\. Did you mean 'rmse'"):
        study()


def test_arms_that_do_not_fit_their_data_are_reported_together_before_any_run(study, tmp_path):
    wrong = (
        "{width: 8}}}, lost: {data: {generated: {type: files, path: nowhere.csv}}},"
        " gone: {tasks: {words: {type: tagging, of: photo}}}}"
    )
    (tmp_path / "study.yaml").write_text(STUDY.replace("{width: 8}}}}", wrong))
    with pytest.raises(
        MMBertError, match=r"(?s)nothing was run.*arm 'lost'.*nowhere.csv.*arm 'gone'.*'photo'"
    ) as caught:
        study()
    assert caught.value.exit_code == DataError.exit_code


def test_a_typo_is_reported_before_torch_is_imported(tmp_path, capsys, monkeypatch):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY.replace("width: 8", "wdth: 8"))
    monkeypatch.setattr("mmbert.cli.commands.importlib.import_module", None)
    assert main(["ablate", str(tmp_path / "study.yaml")]) == 2
    assert "Did you mean 'width'" in capsys.readouterr().err
    assert main(["ablate", str(tmp_path / "study.yaml"), "--slots", "0"]) == 2


def test_plan_and_status_list_the_runs_and_start_none(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = [str(tmp_path / "study.yaml"), "--out", str(tmp_path / "runs" / "study")]
    assert main(["ablate", *options, "--plan", "--slots", "2"]) == 0
    output = capsys.readouterr().out
    assert "inputs.cells.width: 16 -> 8" in output
    assert "6 runs" in output
    assert "4 more seeds are enough" in output
    assert not (tmp_path / "runs").exists()
    study(only=["narrow"])
    capsys.readouterr()
    assert main(["ablate", *options, "--status"]) == 0
    output = capsys.readouterr().out
    assert "1.06" in output
    assert output.count("waiting") == 4


@pytest.mark.parametrize(
    ("seeds", "planned", "text"),
    [
        (6, 1, "0.0312, enough to decide it"),
        (5, 1, "0.0625, too large to decide anything; 1 more seed is enough"),
        (7, 3, "p (Holm) is 0.0469, enough to decide them"),
        (6, 3, "p (Holm) is 0.0938, too large"),
        (1, 1, "the smallest possible p is 1,"),
    ],
)
def test_the_plan_says_whether_a_design_can_be_significant(seeds, planned, text):
    assert text in describe_design(seeds, planned)
