"""The runner of a study: order of runs, finished runs, failures, locks of other studies and signals."""

import json
import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from mmbert.ablation import runner
from mmbert.ablation.runner import Runner, last_line
from mmbert.ablation.runs import PlannedRun, folder_name
from mmbert.ablation.study import load_study
from mmbert.errors import Preempted
from mmbert.version import CODE_EPOCH

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(runner, "POLL", 0.001)
    monkeypatch.setattr(runner, "RETRY", 0.002)


@pytest.fixture
def runs(tmp_path):
    """Three arms with two seeds, the first seed first."""
    (tmp_path / "study.yaml").write_text(
        f"name: study\nbase: {ROOT}/recipes/debug.yaml\nmetric: kind/accuracy\nseeds: 2\n"
        "factors: {trunk.layers: [1, 3]}\ncomparisons: [trunk.layers=1]\n"
    )
    study = load_study(tmp_path / "study.yaml")
    return [
        PlannedRun(
            arm, seed, arm.seeded(seed), tmp_path / "runs" / f"{arm.name}-{seed}", f"{arm.name}-{seed}", "data", 9
        )
        for seed in study.seeds
        for arm in study.arms
    ]


def finish(run):
    write(run, "data.json", {"fingerprint": run.data})
    write(run, "result.json", {"recipe": run.identity, "epoch": CODE_EPOCH, "test": {}, "hidden": {}})
    write(run, "status.json", {"state": "done", "code": 0})


def fail(run, reason="no memory"):
    write(run, "status.json", {"state": "failed", "code": 5, "reason": reason})


def write(run, name, content):
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / name).write_text(json.dumps(content))


class Scripted:
    """A launcher whose jobs end at once, as scripted; jobs without a script succeed."""

    def __init__(self, runs, slots=2, script=None):
        self.runs, self.slots, self.script = {run.label: run for run in runs}, slots, script or {}
        self.started, self.now, self.most, self.stopped = [], [], 0, False

    @property
    def free(self):
        return self.slots - len(self.now)

    def start(self, job):
        assert job.command[1:4] == ["-m", "mmbert", "train"]
        self.started.append(job.name)
        self.now.append(job.name)
        self.most = max(self.most, len(self.now))

    def ended(self):
        gone, self.now = self.now, []
        for name in gone:
            self.script.get(name, finish)(self.runs[name])
        return gone

    def stop(self):
        self.stopped = True


def go(tmp_path, runs, launcher, **options):
    reasons = []
    ended = lambda run, reason: reasons.append((run.label, reason))  # noqa: E731
    Runner(tmp_path / "study", launcher, [], ended, options.pop("say", print)).run(runs, **options)
    return reasons


def test_all_runs_are_started_first_seed_first_in_the_available_slots(tmp_path, runs):
    launcher = Scripted(runs)
    reasons = go(tmp_path, runs, launcher)
    assert launcher.started == [run.label for run in runs]
    assert launcher.most == 2
    assert sorted(reasons) == sorted((run.label, "") for run in runs)
    recipe = (tmp_path / "study" / "recipes" / f"{runs[4].folder.name}.yaml").read_text()
    assert "seed: 1" in recipe
    assert launcher.stopped


def test_finished_runs_are_skipped_unless_recipe_data_or_epoch_differ(tmp_path, runs):
    finish(runs[0])
    finish(runs[1])
    write(runs[1], "data.json", {"fingerprint": "other"})
    finish(runs[2])
    write(runs[2], "result.json", {"recipe": "other", "epoch": CODE_EPOCH})
    finish(runs[3])
    write(runs[3], "result.json", {"recipe": runs[3].identity, "epoch": CODE_EPOCH - 1})
    launcher = Scripted(runs)
    go(tmp_path, runs, launcher)
    assert launcher.started == [run.label for run in runs[1:]]


def test_a_run_that_always_fails_is_reported_and_others_continue(tmp_path, runs):
    launcher = Scripted(runs, script={runs[1].label: fail})
    reasons = dict(go(tmp_path, runs, launcher))
    assert launcher.started == [run.label for run in runs]
    assert reasons.pop(runs[1].label) == "no memory"
    assert {*reasons.values()} == {""}
    second = Scripted(runs)
    assert go(tmp_path, runs, second) == []  # it is not tried again
    assert go(tmp_path, runs, second, retry_failed=True) == [(runs[1].label, "")]
    assert second.started == [runs[1].label]


def test_retry_failed_tries_a_failing_run_once(tmp_path, runs):
    fail(runs[0])
    launcher = Scripted(runs, script={runs[0].label: fail})
    reasons = go(tmp_path, runs[:1], launcher, retry_failed=True)
    assert reasons == [(runs[0].label, "no memory")]
    assert launcher.started == [runs[0].label]


def test_the_last_line_of_the_log_is_the_reason_if_the_run_gives_none(tmp_path, runs):
    def crash(run):
        log = tmp_path / "study" / "logs" / f"{run.folder.name}.txt"
        log.parent.mkdir(parents=True)
        log.write_text("begun\nKilled\n\n")

    assert go(tmp_path, runs[:1], Scripted(runs, script={runs[0].label: crash})) == [(runs[0].label, "Killed")]
    assert last_line(tmp_path / "none") == "it ended without any output"


def test_a_run_claimed_by_another_study_is_waited_for_and_used(tmp_path, runs):
    claim = runs[0].claim()
    assert runs[0].claim() is None
    launcher = Scripted(runs)

    def give_back(run):
        finish(run)
        finish(runs[0])
        claim.release()

    launcher.script[runs[1].label] = give_back
    reasons = go(tmp_path, runs[:2], launcher)
    assert launcher.started == [runs[1].label]
    assert sorted(reasons) == sorted([(runs[0].label, ""), (runs[1].label, "")])


def test_a_run_whose_folder_is_held_is_waited_for(tmp_path, runs):
    write(runs[0], "status.json", {"state": "running", "host": "elsewhere", "pid": 7, "started": "today"})
    lock = FileLock(runs[0].folder / "lock")
    lock.acquire()
    assert runs[0].state() == "running"
    launcher, messages = Scripted(runs), []

    def end(run):
        finish(run)
        assert launcher.started == [runs[1].label]

    def say(text):
        messages.append(text)
        lock.release()

    launcher.script[runs[1].label] = end
    go(tmp_path, runs[:2], launcher, say=say)
    assert launcher.started == [runs[1].label, runs[0].label]
    assert len(messages) == 1
    assert f"{runs[0].label}: process 7 on elsewhere, started today" in messages[0]


def test_the_run_folder_gives_recipe_data_and_code_epoch(runs, monkeypatch):
    name = folder_name(runs[0].recipe, "data")
    assert name == folder_name(runs[0].recipe, "data")
    assert name.startswith("debug-")
    monkeypatch.setattr("mmbert.ablation.runs.CODE_EPOCH", CODE_EPOCH + 1)
    assert (
        len(
            {
                name,
                folder_name(runs[1].recipe, "data"),
                folder_name(runs[0].recipe, "other"),
                folder_name(runs[0].recipe, "data"),
            }
        )
        == 4
    )


def test_a_signal_stops_all_runs_and_releases_the_claims(tmp_path, runs):
    launcher = Scripted(runs, script={runs[0].label: lambda run: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(Preempted, match="SIGTERM; the same command continues the study from here"):
        go(tmp_path, runs, launcher)
    assert launcher.stopped
    assert launcher.started == [run.label for run in runs[:2]]
    for run in runs:
        run.claim().release()


def test_the_state_of_a_run_is_read_from_its_folder(runs):
    run = runs[0]
    assert (run.state(), run.last_step()) == ("waiting", 0)
    write(run, "status.json", {"state": "running", "host": "elsewhere", "pid": os.getpid()})
    lock = FileLock(run.folder / "lock")
    lock.acquire()
    (run.folder / "metrics.jsonl").write_text('{"step": 3}\n{"step": 7}\n{"st')
    assert (run.state(), run.last_step()) == ("running", 7)
    lock.release()
    assert run.state() == "waiting"  # it was killed, even if another process has its id
    write(run, "status.json", {"state": "preempted", "code": 75})
    assert run.state() == "waiting"
    fail(run)
    assert (run.state(), run.failure(), run.exit_code()) == ("failed", "no memory", 5)
    finish(run)
    assert (run.state(), run.failure()) == ("done", "")
