"""Settings of the launcher: each is honoured, or refused by its name with exit code 2."""

import pytest
from train_parts import DEBUG

from mmbert.cli.commands import main
from mmbert.distributed import COUNTS, REFUSED, SWITCHES, check_launcher
from mmbert.errors import RecipeError

PLAIN = {  # what `accelerate launch --multi_gpu --num_processes 2` sets
    **{"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
    **{"MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "False", "ACCELERATE_MIXED_PRECISION": "no"},
    **{"ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_DYNAMO_MODE": "default", "OMP_NUM_THREADS": "1"},
    **{"ACCELERATE_DYNAMO_USE_FULLGRAPH": "False", "ACCELERATE_DYNAMO_USE_DYNAMIC": "False"},
    **{"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"},
}
BAD = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ["4", "auto"],
    "ACCELERATE_GRADIENT_CLIPPING": ["1.0"],
    "ACCELERATE_MIXED_PRECISION": ["fp8", "fp16", "half"],
    "ACCELERATE_DYNAMO_BACKEND": ["INDUCTOR", "eager"],
    **{name: ["0", "-1", "two", "", "1.5", "\u0663"] for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
    **{name: ["-1", "first", "", "0x1"] for name in ("RANK", "LOCAL_RANK", "MASTER_PORT")},
    **{name: ["maybe", "2"] for name in SWITCHES},
}
REFUSALS = [(name, value) for name in (*REFUSED, *COUNTS, *SWITCHES) for value in BAD.get(name, ["true", "1", "yes"])]


def test_what_the_launcher_sets_by_default_is_accepted():
    check_launcher({})
    check_launcher(PLAIN)
    check_launcher({**PLAIN, "ACCELERATE_USE_CPU": "True", "ACCELERATE_MIXED_PRECISION": "bf16"})


@pytest.mark.parametrize(("name", "value"), REFUSALS)
def test_any_other_setting_is_refused_by_its_name(name, value):
    with pytest.raises(RecipeError, match=f"^{name}"):
        check_launcher({**PLAIN, name: value})


@pytest.mark.parametrize("value", ["", "NO", "False", "0", "off"])
def test_a_setting_that_is_off_is_accepted(value):
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_DYNAMO_BACKEND", *SWITCHES):
        check_launcher({**PLAIN, name: value})


def test_a_rank_beyond_the_number_of_processes_is_refused():
    with pytest.raises(RecipeError, match=r"^RANK=2: expected less than WORLD_SIZE=2"):
        check_launcher({**PLAIN, "RANK": "2"})


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "broken"), ("ACCELERATE_USE_FSDP", "true")])
@pytest.mark.parametrize("command", [["train", DEBUG], ["evaluate", "run"], ["predict", "run", "--split", "test"]])
def test_every_command_that_runs_on_processes_checks_them(monkeypatch, capsys, tmp_path, command, name, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    output = ["--output", "predictions.jsonl"] if command[0] == "predict" else []
    assert main([*map(str, command), *output]) == 2
    assert name in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
