"""``mmbert doctor``: what the launcher requested, what this machine has, and whether training can start."""

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch
from accelerate import PartialState
from accelerate.commands.config.config_args import default_config_file
from accelerate.state import AcceleratorState

from mmbert.distributed import check_launcher
from mmbert.errors import RecipeError
from mmbert.io.download import cache_folder
from mmbert.recipe.training import Train
from mmbert.tracking.console import Console
from mmbert.tracking.environment import usable_cores
from mmbert.tracking.redaction import redact, redact_variable
from mmbert.training.launch import make_accelerator
from mmbert.trunk.weights import PACKAGED

LIBRARIES = ("torch", "accelerate", "transformers")
ARCHIVE_SUFFIXES = (".whl", ".gz", ".tgz", ".deb", ".packages")  # of packages in the cache
OPTIONAL = ("timm", "torchvision", "torchaudio", "soundfile", "torch_geometric", "rdkit", "tensorboard")
VARIABLES = re.compile(r"(LOCAL_)?(WORLD_SIZE|RANK)|(OMP|MKL)_NUM_THREADS|CUDA_VISIBLE_DEVICES|ACCELERATE_\w+")
# lines of Accelerate's configuration about launching; others may hold names of accounts and are not shown
LINES = re.compile(
    r"(compute_environment|distributed_type|downcast_bf16|gpu_ids|machine_rank|main_process_port|mixed_precision|"
    r"num_machines|num_processes|use_cpu)\s*:.*"
)
MIN_SHARED_MEMORY = 1e9  # bytes: a few workers with four prefetched batches each


def doctor() -> int:
    """Print one table, on the main process only; return 0, or 2 if training would refuse this launch."""
    refusal, state = _check_launch()
    speaks = os.environ.get("RANK", "0") == "0" and (state is None or state.is_main_process)
    console = Console(speaks=speaks)
    world = state.num_processes if state else 1
    table = {
        **{f"requested: {name}": value for name, value in requested()},
        **{f"available: {name}": value for name, value in available(state)},
    }
    console.banner("mmbert doctor", table)
    console.say(*(f"warning: {warning}" for warning in warnings(world)))
    console.say(f"training cannot start: {refusal}" if refusal else f"training can start in {_count(world, 'process')}")
    if state:
        state.destroy_process_group()
    return RecipeError.exit_code if refusal else 0


def _check_launch() -> tuple[str, PartialState | None]:
    """Why training would refuse this launch, with the right command (empty if it would not); and the processes."""
    try:
        check_launcher(os.environ)
    except RecipeError as error:
        return str(error), None
    world = os.environ.get("WORLD_SIZE", "1")
    try:
        make_accelerator(Train(epochs=1, batch_size=int(world)))
    except RecipeError as error:
        return str(error), PartialState()
    except (RuntimeError, ValueError, OSError) as error:  # from torch and Accelerate: the processes cannot connect
        return f"this launch fails: {redact(str(error)).splitlines()[0]}", None
    return "", PartialState()


def requested() -> Iterator[tuple[str, str]]:
    """What the launcher, and Accelerate's default configuration if there is one, request: (name, value) pairs."""
    variables = {name: os.environ[name] for name in sorted(os.environ) if VARIABLES.fullmatch(name)}
    yield from ((name, redact_variable(name, value)) for name, value in variables.items())
    if not any(name.endswith("WORLD_SIZE") for name in variables):
        yield "launcher", "none: one process"
    file = Path(default_config_file)
    if file.is_file():
        lines = (line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
        yield (
            f"configuration {file}",
            ", ".join(line for line in lines if LINES.fullmatch(line)) or "nothing about launching",
        )


def available(state: PartialState | None) -> Iterator[tuple[str, str]]:
    """What this machine has, as (name, value) pairs: processes, devices, memory, disk, libraries, cache.

    Args:
        state: the processes of this launch; None if they could not be started.
    """
    if state:
        yield "processes", "1" if state.num_processes == 1 else f"{state.num_processes}, connected"
        yield "device", f"{state.device}, {AcceleratorState().mixed_precision.replace('no', 'fp32')}"
    for device in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(device)
        yield f"GPU {device}", f"{torch.cuda.get_device_name(device)}, {_size(free)} of {_size(total)} free"
    yield "CPU", f"{_count(usable_cores(), 'core')}, {_count(torch.get_num_threads(), 'thread')} per process"
    memory = psutil.virtual_memory()
    yield "memory", f"{_size(memory.available)} of {_size(memory.total)} free"
    if (shared := shared_memory()) is not None:
        yield "/dev/shm", f"{_size(shared)} free"
    cache = cache_folder()
    yield "cache", f"{cache}, {_size(_free(cache))} free"
    yield "current folder", f"{Path.cwd()}, {_size(_free(Path.cwd()))} free"
    yield "libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    present = {name: importlib.util.find_spec(name) is not None for name in OPTIONAL}
    yield "optional libraries", ", ".join(_versioned(name) for name in OPTIONAL if present[name]) or "none"
    if absent := [name for name in OPTIONAL if not present[name]]:
        yield "not installed", ", ".join(absent)
    for name, packaged in PACKAGED.items():
        cached = [
            *cache.glob(f"weights/{packaged.package.name}-*"),
            *cache.glob(f"packages/{packaged.package.pattern}"),
        ]
        yield f"weights of {name}", "in the cache" if cached else "not in the cache; downloaded at first use"
    files = (file for file in sorted(cache.glob("packages/*")) if file.suffix in ARCHIVE_SUFFIXES)
    yield "packages in the cache", ", ".join(re.split(r"[-_]\d", file.name)[0] for file in files) or "none"


def warnings(world: int) -> Iterator[str]:
    """Advice about settings that cost time or may fail later.

    Args:
        world: how many processes this launch has, on all machines.
    """
    cores, threads = usable_cores(), torch.get_num_threads()
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if local_world > cores:
        yield (
            f"{local_world} processes share {_count(cores, 'core')}: start at most {cores} on this machine "
            f"(--num_processes {cores})"
        )
    elif threads == 1 and local_world < cores and not torch.cuda.is_available():
        idle = cores - local_world
        yield (
            f"each process uses one thread, so {idle} of {cores} cores {'is' if idle == 1 else 'are'} idle: "
            f"set OMP_NUM_THREADS={cores // local_world}"
        )
    shared = shared_memory()
    if shared is not None and shared < MIN_SHARED_MEMORY:
        yield (
            f"/dev/shm has only {_size(shared)} free, and data workers pass their batches through it: enlarge it "
            "(docker run --shm-size 2g), or train with --set train.workers=0"
        )


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 'es' if word.endswith('s') else 's'}"


def shared_memory() -> int | None:
    """Free bytes of the file system that data workers use as shared memory; None if it does not exist."""
    folder = Path("/dev/shm")
    return shutil.disk_usage(folder).free if folder.is_dir() else None


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder, or of its nearest parent that exists."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _versioned(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # a module whose distribution has another name
        return name
