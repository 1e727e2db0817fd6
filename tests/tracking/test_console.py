"""Console output: plain lines without a terminal, and silence on other ranks."""

import pytest
import torch
from torch import nn

from mmbert.evaluation.evaluate import Evaluation
from mmbert.evaluation.permutation import Difference
from mmbert.evaluation.results import BaselineComparison, Result
from mmbert.tracking import console as module
from mmbert.tracking.console import Console, count_parameters


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets by hand, in seconds."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_plain_line_every_30_seconds(clock, capsys):
    console = Console(speaks=True)
    console.start(10)
    for step in range(1, 11):
        clock[0] += 12
        console.step(step, {"kind": 0.98765, "amount": 12.5})
    console.stop()
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "step 3/10, 1.4 min left, loss: kind 0.988  amount 12.500",
        "step 6/10, 0.8 min left, loss: kind 0.988  amount 12.500",
        "step 9/10, 0.2 min left, loss: kind 0.988  amount 12.500",
    ]
    assert output.err == ""


def test_nothing_is_coloured_marked_up_wrapped_or_redrawn(capsys):
    console = Console(speaks=True)
    long = "a word [bold]in brackets[/bold] " * 20
    console.banner("mmbert: debug", {"run folder": "/somewhere/[red]/here", "steps": "10 of 16 rows"})
    console.say(long, "next")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["run folder  /somewhere/[red]/here", "steps       10 of 16 rows"]
    assert lines[-2:] == [long, "next"]
    assert "\x1b" not in "".join(lines)
    assert "\r" not in "".join(lines)


def test_other_ranks_are_silent(clock, capsys):
    console = Console(speaks=False)
    console.banner("mmbert: debug", {"steps": "1"})
    console.start(2)
    clock[0] += 100
    console.step(1, {"kind": 1.0})
    console.evaluation(1, Evaluation({}, {"kind": 0.5}, {"kind": {"accuracy": 0.5}}, {}, {}))
    console.results([Result("mmbert", {"kind": {"accuracy": 0.5}}, {})], {})
    console.stop()
    assert capsys.readouterr() == ("", "")


def test_an_evaluation_is_printed_at_once_with_primary_metrics(capsys):
    console = Console(speaks=True)
    console.start(20)
    scores = {"kind": {"accuracy": 0.75, "log_loss": 9.0}, "amount": {"rmse": 12.3456, "mae": 9.0}}
    console.evaluation(5, Evaluation({}, {"kind": 0.5, "amount": -0.25}, scores, {}, {}))
    console.evaluation(10, Evaluation({}, {"kind": 0.5}, {"kind": {"accuracy": 0.75}}, {}, {}))
    assert capsys.readouterr().out == (
        "step 5/20, validation: skill (1 - loss / loss of a constant guess) 0.125  kind accuracy 0.75  "
        "amount rmse 12.35\nstep 10/20, validation: skill 0.500  kind accuracy 0.75\n"
    )


def test_the_table_has_a_line_for_each_arm_and_a_column_for_each_task(capsys):
    results = [
        Result("mmbert", {"kind": {"accuracy": 0.75, "macro_f1": 0.5}, "amount": {"rmse": 2.0}}, {}),
        Result("constant", {"kind": {"accuracy": 0.25, "macro_f1": 0.1}}, {}),
    ]
    Console(speaks=True).results(
        results,
        {"kind": BaselineComparison("boosting (all inputs)", "accuracy", Difference(0.5, 0.25, 0.75, 0.0123, 9))},
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index(["kind", "amount"]) + 1] == ["accuracy", "rmse"]
    assert ["mmbert", "0.75", "2"] in lines
    assert ["constant", "0.25"] in lines
    messages = " ".join(lines[-1])
    assert messages.startswith("kind: accuracy differs from that of boosting (all inputs) by +0.5 ")
    assert "9 groups of rows: p = 0.0123; 95 % interval +0.25 to +0.75" in messages


def test_parameters_are_counted_for_each_part():
    model = nn.Module()
    model.trunk = nn.Linear(1000, 1000, bias=False)
    model.encoders = nn.ModuleDict({"photo": nn.Linear(500, 100, bias=False), "sound": nn.Linear(100, 100, bias=False)})
    model.tasks = nn.ModuleDict({"kind": nn.Linear(100, 300, bias=False)})
    model.encoders["photo"].more = nn.Parameter(torch.zeros(100, 500), requires_grad=False)
    assert count_parameters(model) == {
        "trunk": [1_000_000, 1_000_000],
        "encoders.photo": [50_000, 100_000],
        "encoders.sound": [10_000, 10_000],
        "tasks.kind": [30_000, 30_000],
    }


def test_an_arm_that_failed_is_none_and_a_comparison_says_why(capsys):
    results = [Result("mmbert", {"kind": {"accuracy": 0.75}}, {}), Result("linear", {}, {}, {"kind": "one class"})]
    Console(speaks=True).results(
        results, {"kind": BaselineComparison("constant", "accuracy", None, "ValueError: no")}, split="validation"
    )
    output = capsys.readouterr().out
    assert ["linear", "none"] in [line.split() for line in output.splitlines()]
    assert "kind: accuracy differs from that of constant: none (ValueError: no)" in output
    assert "validation split" in " ".join(output.split())
