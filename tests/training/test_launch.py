"""Launching: a launch that would train something else is refused, and the message says how to launch."""

from types import SimpleNamespace

import pytest
from accelerate.state import AcceleratorState

from mmbert import distributed
from mmbert.errors import RecipeError
from mmbert.recipe.training import Train
from mmbert.training.launch import make_accelerator


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Removes the variables of a launcher, and afterwards the state of the accelerator."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def launched(monkeypatch):
    """A function that fakes a launch: the number of processes started, and of those connected to each other."""

    def launched(started, connected):
        for name, value in {
            "WORLD_SIZE": str(started),
            "RANK": "0",
            "LOCAL_RANK": "0",
            "MASTER_ADDR": "localhost",
        }.items():
            monkeypatch.setenv(name, value)
        accelerator = SimpleNamespace(num_processes=connected, mixed_precision="no")
        monkeypatch.setattr(distributed, "Accelerator", lambda **_: accelerator)

    return launched


def train(**settings):
    return Train.model_validate({"epochs": 1, **settings})


def test_one_process_is_the_main_one():
    accelerator = make_accelerator(train())
    assert (accelerator.num_processes, accelerator.is_main_process) == (1, True)


def test_processes_that_would_train_alone_are_refused_with_the_right_command(launched):
    launched(3, 1)
    with pytest.raises(RecipeError, match="started 3 processes, each of which would train alone") as caught:
        make_accelerator(train(batch_size=30))
    command = "ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes 3 --main_process_port 0 -m mmbert"
    assert str(caught.value).endswith(f"\n  {command} train ...")
    launched(3, 3)
    make_accelerator(train(batch_size=30))


@pytest.mark.parametrize(
    ("batch", "accumulate", "world", "nearest"),
    [(7, 1, 2, "6 or 8"), (1, 1, 2, "2"), (33, 3, 4, "24 or 36")],
)
def test_a_batch_that_cannot_be_shared_is_refused_with_legal_sizes(launched, batch, accumulate, world, nearest):
    launched(world, world)
    with pytest.raises(RecipeError, match=rf"= {world} x {accumulate}, found {batch}\. Nearest: {nearest}$"):
        make_accelerator(train(batch_size=batch, accumulate=accumulate))
    for size in nearest.split(" or "):
        make_accelerator(train(batch_size=int(size), accumulate=accumulate))


def test_precision_follows_the_recipe_then_the_launcher(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def precision(wanted):
        return make_accelerator(train(precision=wanted)).mixed_precision

    # several runs in one process, as in a notebook
    assert [precision(wanted) for wanted in ("fp32", "bf16", "fp64", "auto")] == ["no", "bf16", "no", "no"]
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert [precision(wanted) for wanted in ("auto", "fp32", "fp64")] == ["bf16", "no", "no"]
