"""Silent parts: a head or encoder that has rows but gets no gradient is reported once."""

import json

import torch
from train_parts import fresh, scored, trained

from mmbert.tracking.run_folder import RunFolder
from mmbert.training.health import SILENT_STEPS, SilentParts


def batch_of(experiment):
    items = experiment.dataset("train")
    return items.batch([(row, 0) for row in range(8)])


def test_a_part_without_gradient_is_named_once_after_twenty_steps_with_rows():
    experiment = fresh()
    batch, silent = batch_of(experiment), SilentParts(experiment.model)
    sum(experiment.model(batch).values()).backward()
    for weight in experiment.model.tasks["kind"].parameters():
        weight.grad = torch.zeros_like(weight)
    without = batch.targets.pop("kind")
    assert not any(silent.step([batch]) for _ in range(SILENT_STEPS))  # it had no rows
    batch.targets["kind"] = without
    reported = [silent.step([batch]) for _ in range(SILENT_STEPS + 5)]
    assert reported == [[]] * (SILENT_STEPS - 1) + [["tasks.kind"]] + [[]] * 5


def test_a_part_that_had_a_gradient_is_never_reported():
    experiment = fresh()
    batch, silent = batch_of(experiment), SilentParts(experiment.model)
    sum(experiment.model(batch).values()).backward()
    assert silent.step([batch]) == []
    experiment.model.zero_grad()
    assert not any(silent.step([batch]) for _ in range(SILENT_STEPS + 5))


def test_training_logs_a_silent_part(tmp_path):
    experiment = fresh("train.steps=30", "optim.warmup=0.1", "tasks.kind.weight=0")
    trained(experiment, [scored(0.1)], every=99, folder=RunFolder(tmp_path, writes=True))
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    silent = [(event["part"], event["step"]) for event in events if event["event"] == "silent"]
    assert len(silent) == 1
    assert silent[0][0] == "tasks.kind"
    assert silent[0][1] >= 3 + SILENT_STEPS  # after the warmup
