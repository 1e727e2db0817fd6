"""A fault on one of two processes: both end the same way, none hangs, and the cause is reported."""

import json
import shutil
import sys

import faulty_worlds
import pytest
from child_processes import start_child, wait_for_child
from test_two_processes import ENVIRONMENT, ROOT

from mmbert import api
from mmbert.tracking.run_folder import read_log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    command = [sys.executable, str(ROOT / "tests" / "support" / "faulty_worlds.py"), str(folder)]
    wait_for_child(start_child(command, cwd=ROOT, env=ENVIRONMENT))
    return folder


@pytest.fixture
def ended(folder):
    """A function of the fault: how the run of each rank ended, and the status and checkpoints of the folder."""

    def ended(name):
        place = folder / name.replace(" ", "_")
        ranks = [json.loads(path.read_text()) for path in sorted(place.glob("?.json"))]
        assert all(rank["seconds"] < 60 for rank in ranks)
        status = json.loads((place / "run" / "status.json").read_text())
        assert status["code"] == ranks[0]["code"]
        return ranks, status, {path.name for path in (place / "run").glob("checkpoints/*")}

    return ended


def events(folder, name):
    path = folder / name.replace(" ", "_") / "run" / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_nan_loss_on_one_rank_ends_both_with_the_samples_named(ended, folder):
    ranks, status, checkpoints = ended("nan")
    assert [(rank["kind"], rank["code"]) for rank in ranks] == [("NumericalError", 4)] * 2
    assert ranks[0]["error"] == ranks[1]["error"] == status["reason"]
    assert ranks[0]["error"].startswith("step 3: the loss of 'amount' is nan; among the samples [")
    (event,) = (event for event in events(folder, "nan") if event["event"] == "not finite")
    assert len(event["samples"]) == 4  # the rank's share of the batch
    assert not checkpoints
    assert max(line["step"] for line in read_log(folder / "nan" / "run")) == 2


def test_a_nan_loss_is_skipped_if_max_bad_steps_allows_it(ended, folder):
    ranks, status, _ = ended("nan passed over")
    assert [rank["code"] for rank in ranks] == [0, 0]
    assert (status["state"], status["step"]) == ("done", 6)
    steps = {line["step"] for line in read_log(folder / "nan_passed_over" / "run") if line["split"] == "train"}
    assert steps == {1, 2, 4, 5, 6}


def test_a_bad_sample_on_one_rank_ends_both_with_its_row(ended):
    ranks, status, _ = ended("bad sample")
    assert [(rank["kind"], rank["code"]) for rank in ranks] == [("OtherProcessError", 3), ("SampleError", 3)]
    assert status["reason"] == f"process 1: {ranks[1]['error']}"
    assert "shop (rows.csv row 7), task 'amount'" in ranks[1]["error"]


def test_out_of_memory_on_one_rank_ends_both_with_advice(ended):
    ranks, status, _ = ended("memory")
    assert [(rank["kind"], rank["code"]) for rank in ranks] == [("ProcessGone", 5), ("ResourceError", 5)]
    assert "out of memory" in ranks[1]["error"]
    assert "train.accumulate" in ranks[1]["error"]
    assert status["state"] == "failed"


def test_a_data_worker_that_is_killed_ends_both_with_the_samples_named(ended):
    ranks, _, _ = ended("worker")
    assert [(rank["kind"], rank["code"]) for rank in ranks] == [("OtherProcessError", 5), ("ResourceError", 5)]
    assert "The samples requested last, by id: " in ranks[1]["error"]
    assert "train.workers=0" in ranks[1]["error"]


@pytest.mark.parametrize("fault", ["worker", "bad sample"])
def test_the_process_with_the_first_error_ends_last(ended, fault):
    ranks, _, _ = ended(fault)
    assert ranks[1]["ended"] > ranks[0]["ended"]  # so the command line prints it last


def test_a_rank_that_dies_ends_the_other(ended):
    (survivor,), status, _ = ended("rank 1 dies")
    assert (survivor["kind"], survivor["code"], status["state"]) == ("ProcessGone", 5, "failed")
    assert "another process of this run has ended" in survivor["error"]


@pytest.mark.parametrize(
    ("moment", "checkpoints"),
    [
        ("stop in a step", {"step-2"}),
        ("stop in an evaluation", {"step-3-not-evaluated"}),
        ("stop before step 1", set()),
    ],
)
def test_a_signal_to_one_rank_stops_both_at_the_same_step(ended, moment, checkpoints):
    ranks, status, saved = ended(moment)
    assert [rank["code"] for rank in ranks] == [75, 75]
    assert ranks[1]["error"].startswith("stopped by SIGTERM")
    assert status["state"] == "preempted"
    assert saved == checkpoints


def test_a_save_that_fails_on_the_main_rank_stops_neither(ended, folder):
    ranks, _, checkpoints = ended("save fails once")
    assert [rank["code"] for rank in ranks] == [0, 0]
    assert checkpoints == {"step-6"}  # the one at step 3 failed
    (event,) = (event for event in events(folder, "save fails once") if event["event"] == "not saved")
    assert (event["step"], "No space left" in event["reason"]) == (3, True)


def test_one_process_resumes_a_run_of_two(ended, folder, tmp_path):
    ended("stop in a step")
    run = shutil.copytree(folder / "stop_in_a_step" / "run", tmp_path / "run")
    settings = [*faulty_worlds.SMALL, *faulty_worlds.FAULTS["stop in a step"][-1]]
    for out in (run, tmp_path / "whole"):
        api.train(faulty_worlds.RECIPE, overrides=settings, out=out)
    resumed, whole = read_log(run), read_log(tmp_path / "whole")
    assert [line["step"] for line in resumed] == [line["step"] for line in whole]
    assert [line["value"] for line in resumed] == pytest.approx([line["value"] for line in whole], rel=1e-9, abs=1e-9)
