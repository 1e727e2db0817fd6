"""The forecast of time and memory: it changes no state, adds up correctly, and measures a cheaper alternative."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from train_parts import DEBUG, SMALL, fresh, trained

from mmbert import api
from mmbert.cli import commands
from mmbert.data.loader import batches, evaluation_batches
from mmbert.data.sampler import StepPlan
from mmbert.errors import SampleError
from mmbert.model import MMBert
from mmbert.recipe.serialize import dump
from mmbert.training import forecast as module
from mmbert.training.forecast import (
    Forecast,
    Workload,
    count_evaluation_batches,
    forecast_experiment,
    forecast_from_batches,
)

DEEP = ("trunk.layers=4", "train.dropout=0.1")


def first_steps(experiment, count=3):
    train, items = experiment.recipe.train, experiment.dataset("train")
    plan = StepPlan(train.seed, len(items), train.batch_size)
    return list(batches(plan, items, steps=count, accumulate=train.accumulate))


def forecast_steps(experiment, **settings):
    workload = Workload(**{"steps": 1000} | settings)
    return forecast_from_batches(experiment.model, first_steps(experiment), Accelerator(cpu=True), workload, seed=0)


def state_of(model):
    """All state that a forecast might change."""
    return {
        "weights": {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()},
        "buffers": {name: tensor.numpy().tobytes() for name, tensor in model.named_buffers()},
        "learning": [name for name, parameter in model.named_parameters() if parameter.requires_grad],
        "gradients": [name for name, parameter in model.named_parameters() if parameter.grad is not None],
        "modes": [name for name, part in model.named_modules() if part.training],
        "chance": torch.get_rng_state().tolist(),
    }


@pytest.fixture
def always_offered(monkeypatch):
    """Lets the alternative be measured and reported for every run, however short."""
    monkeypatch.setattr(module, "SHORT", 0.0)
    monkeypatch.setattr(module, "SHARE", 1e9)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("tune", ["full", "top1", "frozen"])
@pytest.mark.usefixtures("always_offered")
def test_a_forecast_changes_no_state(tune, mode):
    experiment = fresh(*DEEP, f"trunk.tune={tune}", "train.accumulate=2")
    model = experiment.model.train(mode)
    model.trunk.register_buffer("steps", torch.zeros(()))

    def count(trunk, _):  # like running statistics
        trunk.steps.add_(1)

    model.trunk.register_forward_pre_hook(count)
    before = state_of(model)
    evaluation = next(evaluation_batches(experiment.dataset("validation"), 4))
    offered = forecast_steps(experiment, evaluation=evaluation, evaluations=5).cheaper
    assert state_of(model) == before
    assert (offered is not None) == (tune == "full")


@pytest.mark.usefixtures("always_offered")
def test_training_is_bit_identical_after_a_forecast():
    runs = []
    for with_forecast in (False, True):
        experiment = fresh(*DEEP)
        if with_forecast:
            forecast_experiment(experiment, Accelerator(cpu=True), steps=6)
        trained(experiment)
        runs.append(state_of(experiment.model)["weights"])
    assert runs[0] == runs[1]


@pytest.mark.usefixtures("always_offered")
def test_out_of_memory_is_raised_and_changes_no_state(monkeypatch):
    experiment = fresh(*DEEP)
    before, calls = state_of(experiment.model), []

    def fail(model, batches, accelerator, seed):
        torch.rand(1)
        model.eval()
        calls.append(model)
        if len(calls) == 5:  # in the middle of the alternative
            raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(module, "gradients", fail)
    with pytest.raises(torch.OutOfMemoryError):
        forecast_steps(experiment)
    assert state_of(experiment.model) == before


@pytest.fixture
def clock(monkeypatch):
    """A clock advanced by steps and evaluations; ``full`` and ``top``: seconds of each step, by what is trained."""
    clock = SimpleNamespace(now=0.0, full=[5.0, 1.0, 2.0], top=[0.5] * 3, learning=[])
    times = {"full": [], "top": []}

    def step(model, *_):
        learning = [parameter.requires_grad for parameter in model.trunk.model.parameters()]
        clock.learning.append(sum(learning))
        kind = "full" if all(learning) else "top"
        times[kind] = times[kind] or [*getattr(clock, kind)]
        clock.now += times[kind].pop(0)

    def evaluate(*_):
        clock.now += 0.25

    monkeypatch.setattr(module, "gradients", step)
    monkeypatch.setattr(module, "_evaluate", evaluate)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_the_duration_is_the_sum_of_steps_and_evaluations(clock):
    estimate = forecast_steps(fresh(), steps=20, evaluations=8)
    assert (estimate.step, estimate.run) == (1.5, 20 * 1.5 + 8 * 0.25)  # without the first step, which is warm-up
    assert (estimate.cheaper, estimate.world) == (None, 1)
    clock.full = [2.0, 1.0, 1.5]
    assert forecast_steps(fresh(), steps=20).run == 20 * 1.5  # here it is not slower


def test_workers_hide_the_time_of_reading(clock):
    assert forecast_steps(fresh(), steps=1, reading=4.0).step == 1.5 + 4
    assert forecast_steps(fresh(), steps=1, reading=4.0, workers=2).step == 2
    assert forecast_steps(fresh(), steps=1, reading=4.0, workers=4).step == 1.5


def test_the_alternative_is_measured_for_a_long_run_that_tunes_the_whole_trunk(clock):
    estimate = forecast_steps(fresh(*DEEP), steps=1000)
    assert (estimate.run, estimate.cheaper) == (1500, 500)
    whole, *_, top = clock.learning
    assert clock.learning == [whole] * 3 + [top] * 3
    assert 0 < top < whole
    clock.learning = []
    assert forecast_steps(fresh(*DEEP), steps=79).cheaper is None  # under two minutes
    assert forecast_steps(fresh(*DEEP, "trunk.tune=top2"), steps=1000).cheaper is None
    assert forecast_steps(fresh(), steps=1000).cheaper is None  # the trunk has two layers only
    assert set(clock.learning) <= {whole, top, *clock.learning[-3:]}
    clock.top = [1.3] * 3
    assert forecast_steps(fresh(*DEEP), steps=1000).cheaper is None  # it would save too little


def test_memory_includes_optimizer_moments_of_trained_parameters(monkeypatch):
    monkeypatch.setattr(module, "peak", lambda device: 1000)
    experiment = fresh()
    whole = sum(parameter.numel() for parameter in experiment.model.parameters())
    assert forecast_steps(experiment).memory == pytest.approx(1000 + 8 * whole)
    experiment.model.trunk.requires_grad_(False)
    assert 1000 < forecast_steps(experiment).memory < 1000 + 8 * whole


@pytest.mark.parametrize(
    ("estimate", "sentence"),
    [
        (Forecast(0.5, 89, 1.9e9, 1), "about 89 s, 1.9 GB"),
        (Forecast(0.5, 4440, 1.94e9, 2), "about 74 min, 1.9 GB a process"),
        (Forecast(0.5, 7200, 0.4e9, 1, 1500), "about 2.0 h, 0.4 GB; with --set trunk.tune=top2 about 25 min"),
    ],
)
def test_the_forecast_as_a_sentence(estimate, sentence):
    assert estimate.sentence() == sentence


def test_evaluation_batches_are_counted_as_in_a_run(monkeypatch, tmp_path):
    settings = [*SMALL, "evaluate.batch_size=4", "evaluate.every=0.3", "train.trackers=[]"]
    experiment, evaluated = fresh(*settings), []
    steps = experiment.total_steps
    assert 1 < experiment.evaluation_interval < steps
    real = MMBert.fuse
    monkeypatch.setattr(MMBert, "fuse", lambda model, batch: evaluated.append(not model.training) or real(model, batch))
    api.train(DEBUG, overrides=settings, out=tmp_path / "run")
    assert sum(evaluated) == count_evaluation_batches(experiment, steps, 1)


def test_rows_that_cannot_be_read_end_all_processes(monkeypatch):
    experiment = fresh()

    def broken(*_, **__):
        raise SampleError("no number", "row 3", "input 'cells'")

    with monkeypatch.context() as patch:
        patch.setattr(type(experiment.dataset("train")), "collate", broken)
        with pytest.raises(SampleError, match="row 3"):
            forecast_experiment(experiment, Accelerator(cpu=True), steps=6)


def test_check_prints_the_forecast(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(dump(fresh().recipe))
    assert commands.main(["check", "small.yaml", "--forecast"]) == 0
    line = capsys.readouterr().out.splitlines()[-2]  # the verdict is the last line
    assert line.startswith("small.yaml: 6 steps of ")
    assert "about " in line
    assert [file.name for file in tmp_path.iterdir()] == ["small.yaml"]
