"""`mmbert doctor`: it shows what is requested and available, and refuses what training refuses."""

import multiprocessing
import os
import socket
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from mmbert.cli import commands, doctor

ROOT = Path(commands.__file__).resolve().parents[2]
LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """Removes the variables of a launcher and its configuration, and sets an empty cache."""
    for name in (*LAUNCHER, *(name for name in os.environ if name.startswith("ACCELERATE_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "default_config_file", str(tmp_path / "default_config.yaml"))
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def run_doctor(capsys):
    """Run the doctor; returns the exit code, the table as a dict, and the lines below it."""
    code = commands.main(["doctor"])
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("mmbert doctor ---")
    rule = next(number for number, line in enumerate(lines) if set(line) == {"-"})
    rows = [line.split("  ", maxsplit=1) for line in lines[:rule]]
    return code, {name: value.strip() for name, value in rows}, lines[rule + 1 :]


def test_one_process_can_train_and_everything_available_is_listed(capsys):
    code, table, verdict = run_doctor(capsys)
    assert (code, verdict[-1]) == (0, "training can start in 1 process")
    assert table["requested: launcher"] == "none: one process"
    assert table["available: processes"] == "1"
    assert table["available: weights of minilm"].startswith("not in the cache")
    for name in ("device", "CPU", "memory", "cache", "current folder", "libraries", "optional libraries"):
        assert table[f"available: {name}"]
    both = table["available: optional libraries"] + table.get("available: not installed", "")
    assert all(name in both for name in doctor.OPTIONAL)
    assert all(f"{name} " in table["available: libraries"] for name in doctor.LIBRARIES)


def test_what_the_launcher_requests_is_shown_without_secrets(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_HUB_TOKEN", "topsecret")
    monkeypatch.setenv("HF_TOKEN", "topsecret")
    (tmp_path / "default_config.yaml").write_text(
        "distributed_type: MULTI_GPU\nuse_cpu: true\nec2_instance_type: mine\niam_role_name: topsecret\n"
    )
    _, table, _ = run_doctor(capsys)
    assert table["requested: ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert table["requested: ACCELERATE_HUB_TOKEN"] == "***"
    assert table[f"requested: configuration {tmp_path / 'default_config.yaml'}"] == (
        "distributed_type: MULTI_GPU, use_cpu: true"
    )
    assert table["available: device"] == "cpu, bf16" or "cuda" in table["available: device"]
    assert "topsecret" not in str(table)


def test_a_world_size_not_set_by_a_launcher_is_reported(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    code, table, verdict = run_doctor(capsys)
    assert code == 2
    assert table["requested: WORLD_SIZE"] == "4"
    (line,) = [line for line in verdict if line.startswith("training cannot start")]
    assert "WORLD_SIZE is 4, but RANK and LOCAL_RANK and MASTER_ADDR are not set" in line
    command = "ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes 4 --main_process_port 0 -m mmbert"
    assert verdict[-1] == f"  {command} train ..."
    monkeypatch.setenv("WORLD_SIZE", "four")
    assert run_doctor(capsys)[0] == 2


def test_a_precision_that_a_training_refuses_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    code, _, verdict = run_doctor(capsys)
    assert code == 2
    assert verdict[-1].startswith("training cannot start: ACCELERATE_MIXED_PRECISION=fp16: use no or bf16")


def test_processes_that_cannot_connect_are_reported(capsys, monkeypatch):
    def fail(_):
        raise RuntimeError("no connection to https://me:topsecret@example.org\nand a long trace")

    monkeypatch.setattr(doctor, "make_accelerator", fail)
    code, table, verdict = run_doctor(capsys)
    assert code == 2
    assert "available: processes" not in table
    assert verdict[-1] == "training cannot start: this launch fails: no connection to https://***@example.org"


def machine(monkeypatch, *, cores, threads, shared=10e9):
    monkeypatch.setattr(doctor, "usable_cores", lambda: cores)
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "shared_memory", lambda: shared)


@pytest.mark.parametrize(
    ("resources", "world", "warning"),
    [
        (
            {"cores": 8, "threads": 1},
            1,
            "each process uses one thread, so 7 of 8 cores are idle: set OMP_NUM",
        ),
        (
            {"cores": 8, "threads": 1},
            3,
            "each process uses one thread, so 5 of 8 cores are idle: set OMP_NUM",
        ),
        (
            {"cores": 4, "threads": 1},
            6,
            "6 processes share 4 cores: start at most 4 on this machine (--num",
        ),
        ({"cores": 4, "threads": 4, "shared": 64e6}, 1, "/dev/shm has only 64 MB free"),
        ({"cores": 4, "threads": 4}, 1, None),
        ({"cores": 4, "threads": 1}, 4, None),
        ({"cores": 4, "threads": 4, "shared": None}, 1, None),
    ],
)
def test_slow_settings_cause_warnings(monkeypatch, resources, world, warning):
    machine(monkeypatch, **resources)
    messages = list(doctor.warnings(world))
    assert len(messages) == (warning is not None)
    assert warning is None or messages[0].startswith(warning)


def test_processes_are_counted_on_this_machine_not_on_all(monkeypatch):
    machine(monkeypatch, cores=4, threads=1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert list(doctor.warnings(16)) == []


def _rank(words, environment, log, barrier):
    """Run a command as one process of a launch; forked, so that torch is not imported again."""
    warnings.simplefilter("default")
    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: False
    os.environ.update(environment)
    AcceleratorState._reset_state(reset_partial_state=True)
    with open(log, "w") as file, redirect_stdout(file), redirect_stderr(file):
        code = commands.main(words)
    barrier.wait(timeout=1200)  # else the first process to end would close the connection
    sys.exit(code)


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """A function that runs a command in two processes, as a launcher starts them; returns exit codes and outputs."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)

    def launched(*words, **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        logs, ranks = [tmp_path / f"log-{rank}" for rank in "01"], []
        fork = multiprocessing.get_context("fork")
        barrier = fork.Barrier(2)
        for rank, file in zip("01", logs, strict=True):
            arguments = ([*words], environment | {"RANK": rank, "LOCAL_RANK": rank}, file, barrier)
            ranks.append(fork.Process(target=_rank, args=arguments))
            ranks[-1].start()
        for process in ranks:
            process.join(timeout=1200)
            process.kill()
        assert not list(empty.iterdir())
        return [process.exitcode for process in ranks], [file.read_text() for file in logs]

    return launched


def test_two_processes_of_rank_0_get_one_table_and_exit_2(launched):
    """A configuration with ``use_cpu: true`` and MULTI_GPU starts two processes that both have rank 0."""
    codes, outputs = launched("doctor")
    assert codes == [2, 2], outputs
    assert "training cannot start: the launcher started 2 processes, each of which would train alone" in outputs[0]
    assert outputs[1] == ""


def test_two_trainings_of_rank_0_exit_2_and_write_nothing(launched):
    codes, outputs = launched("train", str(ROOT / "recipes" / "debug.yaml"), "--out", "run")
    assert codes == [2, 2], outputs
    assert all("the launcher started 2 processes" in output for output in outputs)


def test_two_launched_processes_can_train_and_print_one_table(launched):
    codes, outputs = launched("doctor", ACCELERATE_USE_CPU="1", GLOO_SOCKET_IFNAME="lo")
    assert codes == [0, 0], outputs
    assert outputs[0].count("mmbert doctor --") == 1
    assert "2, connected" in outputs[0]
    assert outputs[0].splitlines()[-1] == "training can start in 2 processes"
    assert outputs[1] == ""
