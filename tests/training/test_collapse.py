"""An input whose encoder makes the same of every row is named, once; a healthy one is not."""

import json

import torch
from train_parts import fresh, scored, trained

from mmbert.evaluation.evaluate import Evaluation
from mmbert.tracking.run_folder import RunFolder
from mmbert.training.health import LEAST_SPREAD, CollapsedInputs


def found(**spread):
    return Evaluation({}, {}, {}, {}, {}, spread)


def test_each_is_named_once():
    collapse = CollapsedInputs()
    assert collapse.new(found(text=0.5, image=0.0)) == ["image"]
    assert collapse.new(found(text=0.5, image=0.0)) == []
    assert collapse.new(found(text=0.0, image=0.5, sound=float("nan"))) == ["text"]
    assert collapse.new(found(image=0.0, sound=LEAST_SPREAD)) == []


def events(experiment, tmp_path):
    trained(experiment, every=2, folder=RunFolder(tmp_path, writes=True))
    path = tmp_path / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_training_warns_of_an_encoder_that_makes_the_same_of_all_rows(tmp_path):
    experiment = fresh()
    with torch.no_grad():  # as of an encoder whose last norm has died
        experiment.model.encoders["cells"].norm.weight.zero_()
        experiment.model.encoders["cells"].norm.weight.requires_grad_(False)
    told = [(one["event"], one["step"], one["input"]) for one in events(experiment, tmp_path)]
    assert told == [("collapsed", 2, "cells")]


def test_a_healthy_model_is_left_alone(tmp_path):
    assert events(fresh(), tmp_path) == []


def test_an_evaluation_made_up_has_none():
    assert CollapsedInputs().new(scored(0.1)) == []
