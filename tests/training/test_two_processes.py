"""Training in one, two and three processes gives equal losses, weights, scores and evaluated rows, to 1e-9."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from child_processes import start_child, wait_for_child
from safetensors.torch import load_file
from train_parts import SMALL
from worlds import STEPS, WAYS, WORLDS

from mmbert import api

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
}
EXACT = 1e-9


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder with the results of all ranks of all worlds."""
    folder = tmp_path_factory.mktemp("worlds")
    command = [sys.executable, str(ROOT / "tests" / "support" / "worlds.py"), str(folder)]
    wait_for_child(start_child(command, cwd=ROOT, env=ENVIRONMENT))
    return folder


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def worlds(written, way):
    """(world, rank) -> the results and the final weights of that rank."""
    return {
        (world, rank): (
            json.loads((written / f"{way}-{world}-{rank}.json").read_text()),
            load_file(written / f"{way}-{world}-{rank}.safetensors"),
        )
        for world in WORLDS
        if way in WORLDS[world]
        for rank in range(world)
    }


def test_ranks_have_the_right_world_size_and_different_inputs(worlds):
    for (world, _), (seen, _) in worlds.items():
        assert seen["world"] == world
    for world in {2, 3} & {world for world, _ in worlds}:
        for kind in ("inputs", "targets"):
            ranks = [worlds[world, rank][0][kind] for rank in range(world)]
            uneven = [step for step in zip(*ranks, strict=True) if len({tuple(have) for have in step}) > 1]
            assert uneven, f"{kind} must be missing on one rank only, or this file proves nothing"


def test_losses_of_every_step_agree(worlds, way):
    expected = worlds[1, 0][0]["losses"]
    assert len(expected) == STEPS
    names = {name for step in expected for name in step}
    assert {name for name in names if name.endswith(" loss")} == {
        f"{task} loss" for task in ("amount", "kind", "topics", "words")
    }
    if way in ("alone", "rates"):
        assert {"kind loss_of_image", "amount loss_of_text", "all factor_of_graph"} <= names
        assert min(value for step in expected for name, value in step.items() if "factor" in name) < 1
    for seen, _ in worlds.values():
        assert seen["losses"] == [pytest.approx(step, rel=EXACT) for step in expected]


def test_final_weights_agree(worlds):
    _, expected = worlds[1, 0]
    for _, weights in worlds.values():
        assert weights.keys() == expected.keys()
        moved = {
            name: (weights[name] - tensor).abs().max().item() for name, tensor in expected.items() if tensor.numel()
        }
        assert max(moved.values()) < EXACT, max(moved, key=moved.__getitem__)


def test_each_row_is_evaluated_once(worlds):
    split = worlds[1, 0][0]["evaluated"]
    assert len({*split}) == len(split) > 5
    for world in {2, 3} & {world for world, _ in worlds}:
        shares = [worlds[world, rank][0]["evaluated"] for rank in range(world)]
        assert Counter(sample for share in shares for sample in share) == Counter(split)


def test_every_rank_gets_the_scores_of_the_whole_split(worlds):
    expected = worlds[1, 0][0]
    for seen, _ in worlds.values():
        assert seen["labelled"] == expected["labelled"]
        assert seen["test"]["loss"] == pytest.approx(expected["test"]["loss"], rel=EXACT)
        assert seen["test"]["skill"] == pytest.approx(expected["test"]["skill"], rel=EXACT)
        for task, scores in expected["test"]["scores"].items():
            assert seen["test"]["scores"][task] == pytest.approx(scores, rel=EXACT)


def test_both_processes_forecast_the_same_and_training_is_unchanged(written):
    ranks = [json.loads((written / f"forecast-{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0]["forecast"]["world"] == 2
    assert ranks[0]["forecast"]["cheaper"] is not None
    assert ranks[0]["without"] == ranks[0]["with"]


@pytest.mark.slow
def test_accelerate_launch_with_two_processes_equals_one_process(tmp_path):
    settings = [
        *SMALL,
        "train.precision=fp64",
        "train.dropout=0",
        "train.steps=4",
        "evaluate.every=0.3",
        "train.ema=0.5",
        "fusion={type: concat}",
    ]
    launch = [
        str(Path(sys.executable).with_name("accelerate")),
        "launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
        "-m",
        "mmbert",
        "train",
        "recipes/debug.yaml",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    command = [*launch, *words, "--out", str(tmp_path / "two")]
    two = start_child(command, cwd=ROOT, env={**ENVIRONMENT, "ACCELERATE_USE_CPU": "1"})
    api.train(ROOT / "recipes" / "debug.yaml", overrides=settings, out=tmp_path / "one")
    wait_for_child(two)
    logs = {
        name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    }
    environments = [json.loads((tmp_path / name / "env.json").read_text())["processes"] for name in logs]
    assert environments == [1, 2]
    values = [[(line.pop("value"), line.pop("time"))[0] for line in log] for log in logs.values()]
    assert logs["one"] == logs["two"]
    assert {line["split"] for line in logs["one"]} == {"train", "validation", "test"}
    assert values[1] == pytest.approx(values[0], rel=EXACT)
