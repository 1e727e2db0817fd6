"""The ledger: one row a number, appended, whoever else is writing."""

import csv
import datetime
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmbert.evaluate import ledger
from mmbert.evaluate.ledger import COLUMNS, append_results, commit, machine

RUN = {"study": "molecules", "arm": "base", "seed": 3, "split": "test", "recipe": "0123abcd"}
SCORES = {"amount": {"rmse": 1 / 3, "mae": 12345678.9}, "kind": {"accuracy": 1.0}}


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "commit", lambda: "abc123def")
    monkeypatch.setattr(ledger, "machine", lambda: "x86_64, 2 CPU cores")
    return tmp_path / "results" / "molecules.csv"


def test_a_row_for_each_number_with_all_columns(path):
    append_results(path, SCORES, **RUN)
    fixed = {
        "study": "molecules", "arm": "base", "seed": "3", "split": "test", "recipe": "0123abcd",
        "epoch": str(ledger.CODE_EPOCH), "commit": "abc123def", "machine": "x86_64, 2 CPU cores",
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip
    assert rows(path) == [
        {**fixed, "task": "amount", "metric": "rmse", "value": "0.333333"},
        {**fixed, "task": "amount", "metric": "mae", "value": "1.23457e+07"},
        {**fixed, "task": "kind", "metric": "accuracy", "value": "1"},
    ]
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert b"\r" not in path.read_bytes()


def test_a_second_run_is_appended_and_the_first_stays(path):
    append_results(path, SCORES, **RUN)
    before = path.read_text()
    append_results(str(path), SCORES, **RUN | {"arm": 'without "text", joint', "seed": 4})
    assert path.read_text().startswith(before)
    assert [row["arm"] for row in rows(path)] == ["base"] * 3 + ['without "text", joint'] * 3
    assert {row["seed"] for row in rows(path)} == {"3", "4"}
    assert [file.name for file in path.parent.glob("*.csv")] == ["molecules.csv"]


def test_nothing_to_write_is_fine(path):
    append_results(path, {}, **RUN)
    assert rows(path) == []
    append_results(path, SCORES, **RUN)
    assert len(rows(path)) == 3


def test_runs_that_end_together_lose_no_row(path, monkeypatch):
    exists = Path.exists

    def slow(self):  # long enough for another run to write between the look and the first row
        found = exists(self)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(Path, "exists", slow)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda seed: append_results(path, SCORES, **RUN | {"seed": seed}), range(12)))
    found = rows(path)
    assert [row["metric"] for row in found] == ["rmse", "mae", "accuracy"] * 12  # one header, no row inside another
    assert sorted(int(row["seed"]) for row in found) == sorted([*range(12)] * 3)


def test_the_commit_is_short_and_tells_a_changed_tree():
    assert re.fullmatch(r"([0-9a-f]{9,}\+?)?", commit())


def test_outside_a_checkout_there_is_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.subprocess, "run", missing)
        assert commit() == ""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert commit() == ""


def test_the_machine_is_told_without_its_name():
    import platform

    assert "core" in machine() or " x " in machine()
    assert platform.node() not in machine()
