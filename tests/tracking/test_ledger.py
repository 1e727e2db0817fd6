"""The ledger: one row for each number, appended safely by several runs at once."""

import csv
import datetime
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mmbert.errors import DataError
from mmbert.tracking import ledger
from mmbert.tracking.ledger import COLUMNS, Measured, append_results, commit, machine, read_results

RUN = Measured("molecules", 3, "test", "0123abcd", "f1", commit="abc123def")
SCORES = {"amount": {"rmse": 1 / 3, "mae": 12345678.9}, "kind": {"accuracy": 1.0}}


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "machine", lambda: "x86_64, 2 CPU cores")
    return tmp_path / "results" / "molecules.csv"


def test_a_row_for_each_number_with_all_columns(path):
    append_results(path, {"base": SCORES}, RUN)
    fixed = {
        "study": "molecules",
        "arm": "base",
        "seed": "3",
        "split": "test",
        "recipe": "0123abcd",
        "data": "f1",
        "epoch": str(ledger.CODE_EPOCH),
        "commit": "abc123def",
        "machine": "x86_64, 2 CPU cores",
        "date": datetime.date.today().isoformat(),
    }
    assert rows(path) == [
        {**fixed, "task": "amount", "metric": "rmse", "value": "0.3333333333333333"},
        {**fixed, "task": "amount", "metric": "mae", "value": "12345678.9"},
        {**fixed, "task": "kind", "metric": "accuracy", "value": "1.0"},
    ]
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert b"\r" not in path.read_bytes()


def test_a_second_run_is_appended_and_the_first_stays(path):
    append_results(path, {"base": SCORES}, RUN)
    before = path.read_text()
    append_results(str(path), {'without "text", joint': SCORES}, replace(RUN, seed=4))
    assert path.read_text().startswith(before)
    assert [row["arm"] for row in rows(path)] == ["base"] * 3 + ['without "text", joint'] * 3
    assert {row["seed"] for row in rows(path)} == {"3", "4"}
    assert [file.name for file in path.parent.glob("*.csv")] == ["molecules.csv"]


def test_nothing_to_write_is_fine(path):
    append_results(path, {}, RUN)
    assert rows(path) == []
    append_results(path, {"base": SCORES}, RUN)
    assert len(rows(path)) == 3


def test_with_once_rows_that_exist_are_not_written_again(path):
    append_results(path, {"base": {"amount": {"rmse": 0.25}}}, RUN)
    append_results(path, {"base": SCORES, "=wide": SCORES}, RUN, once=True)  # as after a run was killed while writing
    assert [(row["arm"], row["metric"], row["value"]) for row in rows(path)] == [
        ("base", "rmse", "0.25"),
        ("base", "mae", "12345678.9"),
        ("base", "accuracy", "1.0"),
        ("'=wide", "rmse", repr(1 / 3)),
        ("'=wide", "mae", "12345678.9"),
        ("'=wide", "accuracy", "1.0"),
    ]
    append_results(path, {"=wide": SCORES}, RUN, once=True)
    assert len(rows(path)) == 6
    append_results(path, {"=wide": SCORES}, replace(RUN, data="f2"), once=True)
    assert len(rows(path)) == 9
    append_results(path, {"=wide": SCORES}, RUN)
    assert len(rows(path)) == 12


def test_results_are_read_as_they_were_written_to_the_last_digit(path):
    append_results(path, {"base": SCORES}, RUN)
    append_results(path, {"base": SCORES}, replace(RUN, split="validation", seed=4))
    append_results(path, {"base": SCORES}, replace(RUN, study="other", seed=5))
    assert read_results(path, "molecules") == {(3, "0123abcd", "f1"): {"base": SCORES}}
    assert read_results(path.with_name("none.csv"), "molecules") == {}


def test_rows_of_another_code_epoch_do_not_count(path, monkeypatch):
    append_results(path, {"base": SCORES}, RUN)
    monkeypatch.setattr(ledger, "CODE_EPOCH", ledger.CODE_EPOCH + 1)
    assert read_results(path, "molecules") == {}
    append_results(path, {"base": SCORES}, RUN, once=True)
    assert len(rows(path)) == 6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-30], r"molecules\.csv:4: this row is incomplete: expected 13 .* found 12\. Remove"),
        (lambda text: text[:-1], r"molecules\.csv:4: .* the end of the line"),
        (lambda text: text.replace("12345678.9", "much"), r"molecules\.csv:3: .*'much'"),
        (lambda text: text.replace("commit,", "", 1), r"is not a ledger: expected the columns study.*found study,arm"),
    ],
)
def test_a_damaged_ledger_is_reported_with_its_line_and_not_changed(path, damage, message):
    append_results(path, {"base": SCORES}, RUN)
    path.write_text(damage(path.read_text()))
    before = path.read_text()
    with pytest.raises(DataError, match=message):
        read_results(path, "molecules")
    with pytest.raises(DataError, match=message):
        append_results(path, {"base": SCORES}, RUN)
    assert path.read_text() == before


def test_concurrent_runs_lose_no_row(path, monkeypatch):
    exists = Path.exists

    def slow(self):  # lets another run write between the check and the first row
        result = exists(self)
        time.sleep(0.02)
        return result

    monkeypatch.setattr(Path, "exists", slow)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda seed: append_results(path, {"base": SCORES}, replace(RUN, seed=seed)), range(12)))
    written = rows(path)
    assert [row["metric"] for row in written] == ["rmse", "mae", "accuracy"] * 12  # one header, no row inside another
    assert sorted(int(row["seed"]) for row in written) == sorted([*range(12)] * 3)


def test_the_commit_is_short_and_marked_if_the_code_has_changed(tmp_path, monkeypatch):
    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    code, readme = tmp_path / "ledger.py", tmp_path / "README.md"
    code.write_text("1\n")
    readme.write_text("1\n")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(ledger, "__file__", str(code))
    expected = git("rev-parse", "HEAD")[:9]
    assert commit() == expected
    readme.write_text("2\n")  # not code
    (tmp_path / "new.py").write_text("1\n")  # not in the repository
    assert commit() == expected
    code.write_text("2\n")
    assert commit() == f"{expected}+"


def test_outside_a_checkout_there_is_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.subprocess, "run", missing)
        assert commit() == ""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert commit() == ""


def test_the_machine_is_described_without_its_host_name():
    import platform

    assert "core" in machine() or " x " in machine()
    assert platform.node() not in machine()
