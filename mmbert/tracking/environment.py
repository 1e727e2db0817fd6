"""``env.json``: versions, hardware, command, commit and uncommitted changes of a run, without secrets."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from mmbert.tracking.ledger import commit, machine
from mmbert.tracking.redaction import redact, redact_words

LARGEST_DIFF = 200_000  # bytes
NAMES = ("accelerate", "datasets", "mmbert", "numpy", "scikit-learn", "tokenizers", "torch", "transformers")


def environment(world: int) -> dict[str, Any]:
    """The content of ``env.json``.

    Args:
        world: the number of processes of the run.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": machine(),
        "hardware": hardware(),
        "processes": world,
        "commit": commit(),
        "diff": dirty_diff(Path(__file__).parent),
        "command": redact_words(sys.argv[1:]),
        "versions": {name: version(name) for name in NAMES},
    }


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, threads of torch, memory and GPUs; sizes in GB."""
    devices = range(torch.cuda.device_count())
    properties = [torch.cuda.get_device_properties(device) for device in devices]
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": [{"name": gpu.name, "memory": round(gpu.total_memory / 1e9, 1)} for gpu in properties],
    }


def usable_cores() -> int:
    """The number of cores that this process may run on; a batch system may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def dirty_diff(folder: Path) -> str:
    """The uncommitted changes of tracked files, redacted; empty without changes and outside a checkout.

    Only the first ``LARGEST_DIFF`` bytes are read; the last line then says so.

    Args:
        folder: in the working tree.
    """
    command = ["git", "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv"]
    try:
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            content = process.stdout.read(LARGEST_DIFF + 1)  # never the whole of a huge one
            process.kill()
    except OSError:
        return ""
    if len(content) <= LARGEST_DIFF:
        return redact(content.decode("utf-8", "replace"))
    complete, _, _ = content[:LARGEST_DIFF].rpartition(b"\n")  # half a line may hold half a secret
    return redact(complete.decode("utf-8", "replace")) + f"\n(cut off after {LARGEST_DIFF} bytes)"


def changed_versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """The libraries whose versions differ between two environments, with both versions.

    Args:
        before: content of an ``env.json``.
        now: likewise.

    Example:
        >>> changed_versions({"versions": {"torch": "2.10"}}, {"versions": {"torch": "2.14"}})
        {'torch': '2.10 then, 2.14 now'}
    """
    old = before.get("versions", now["versions"])
    return {
        name: f"{old.get(name)} then, {version} now"
        for name, version in now["versions"].items()
        if old.get(name) != version
    }
