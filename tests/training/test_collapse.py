"""Collapsed inputs: an encoder with the same output for every row is reported once; a healthy one is not."""

import json

import torch
from train_parts import fresh, scored, trained

from mmbert.evaluation.evaluate import Evaluation
from mmbert.tracking.run_folder import RunFolder
from mmbert.training.health import LEAST_SPREAD, CollapsedInputs


def evaluation(**spread):
    return Evaluation({}, {}, {}, {}, {}, spread)


def test_each_collapsed_input_is_reported_once():
    collapse = CollapsedInputs()
    assert collapse.new(evaluation(text=0.5, image=0.0)) == ["image"]
    assert collapse.new(evaluation(text=0.5, image=0.0)) == []
    assert collapse.new(evaluation(text=0.0, image=0.5, sound=float("nan"))) == ["text"]
    assert collapse.new(evaluation(image=0.0, sound=LEAST_SPREAD)) == []


def events(experiment, tmp_path):
    trained(experiment, every=2, folder=RunFolder(tmp_path, writes=True))
    path = tmp_path / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_training_logs_an_encoder_with_equal_outputs_for_all_rows(tmp_path):
    experiment = fresh()
    with torch.no_grad():  # as if the last norm had died
        experiment.model.encoders["cells"].norm.weight.zero_()
        experiment.model.encoders["cells"].norm.weight.requires_grad_(False)
    warnings = [(event["event"], event["step"], event["input"]) for event in events(experiment, tmp_path)]
    assert warnings == [("collapsed", 2, "cells")]


def test_a_healthy_model_is_not_reported(tmp_path):
    assert events(fresh(), tmp_path) == []


def test_an_evaluation_without_spreads_reports_nothing():
    assert CollapsedInputs().new(scored(0.1)) == []
