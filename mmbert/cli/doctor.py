"""``mmbert doctor``: what the launcher asked for, what there is, and whether the two fit."""

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

from mmbert.errors import RecipeError
from mmbert.io.download import cache_folder
from mmbert.recipe.training import Train
from mmbert.tracking.console import Console
from mmbert.tracking.environment import usable_cores
from mmbert.tracking.redaction import redact, redact_variable
from mmbert.training.launch import CPU_PAIR, make_accelerator
from mmbert.trunk.weights import PACKAGED

LIBRARIES = ("torch", "accelerate", "transformers")
KEPT = (".whl", ".gz", ".tgz", ".deb", ".packages")  # endings of packages in the cache
OPTIONAL = ("timm", "torchvision", "torchaudio", "soundfile", "torch_geometric", "rdkit", "tensorboard")
VARIABLES = re.compile(r"(LOCAL_)?(WORLD_SIZE|RANK)|(OMP|MKL)_NUM_THREADS|CUDA_VISIBLE_DEVICES|ACCELERATE_\w+")
# lines of Accelerate's configuration that say how a run is launched; others may hold names of accounts
LINES = re.compile(
    r"(compute_environment|distributed_type|downcast_bf16|gpu_ids|machine_rank|main_process_port|mixed_precision|"
    r"num_machines|num_processes|use_cpu)\s*:.*"
)
BY_LAUNCHER = ("RANK", "LOCAL_RANK", "MASTER_ADDR")  # what every launcher sets beside WORLD_SIZE
SMALL_SHARED = 1e9  # bytes: four batches ahead of each of a few workers


def doctor() -> int:
    """Print one table, from the first process only; return 0, or 2 where this launch would be refused."""
    refusal, state = _launch()
    speaks = os.environ.get("RANK", "0") == "0" and (state is None or state.is_main_process)
    console = Console(speaks=speaks)
    found = state.num_processes if state else 1
    told = {
        **{f"asked: {name}": value for name, value in asked()},
        **{f"there: {name}": value for name, value in there(state)},
    }
    console.banner("mmbert doctor", told)
    console.say(*(f"warning: {warning}" for warning in warnings(found)))
    console.say(f"not fine: {refusal}" if refusal else f"fine: {_counted(found, 'process')} can train")
    if state:
        state.destroy_process_group()
    return RecipeError.exit_code if refusal else 0


def _launch() -> tuple[str, PartialState | None]:
    """Why a training launched in this way would be refused, with the right command, or nothing; and who is there."""
    started = os.environ.get("WORLD_SIZE", "1")
    if not started.isdecimal() or started == "0":
        advice = "unset it, and let the launcher set it"
        return f"expected a number of processes in WORLD_SIZE, found {started!r}: {advice}", None
    absent = [name for name in BY_LAUNCHER if name not in os.environ]
    if int(started) > 1 and absent:
        return (
            f"WORLD_SIZE is {started} but there is no {' and no '.join(absent)}, so no launcher started this: unset "
            f"WORLD_SIZE, or launch with\n  accelerate launch --num_processes {started} --multi_gpu -m mmbert train ..."
            f"\nand without GPUs with\n  {CPU_PAIR.format(world=started)} train ..."
        ), None
    try:
        make_accelerator(Train(epochs=1, batch_size=int(started)))
    except RecipeError as error:
        return str(error), PartialState()
    except (RuntimeError, ValueError, OSError) as error:  # of torch and Accelerate: processes that cannot meet
        return f"this launch fails: {redact(str(error)).splitlines()[0]}", None
    return "", PartialState()


def asked() -> Iterator[tuple[str, str]]:
    """What the launcher, and the default configuration where there is one, ask for."""
    found = {name: os.environ[name] for name in sorted(os.environ) if VARIABLES.fullmatch(name)}
    yield from ((name, redact_variable(name, value)) for name, value in found.items())
    if not any(name.endswith("WORLD_SIZE") for name in found):
        yield "launcher", "none: one process"
    file = Path(default_config_file)
    if file.is_file():
        lines = (line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
        yield (
            f"configuration {file}",
            ", ".join(line for line in lines if LINES.fullmatch(line)) or "nothing of launching",
        )


def there(state: PartialState | None) -> Iterator[tuple[str, str]]:
    """What there is: processes, where they could be started, devices, memory, disk, libraries, cache."""
    if state:
        yield "processes", "alone" if state.num_processes == 1 else f"{state.num_processes} found each other"
        yield "device", f"{state.device}, {AcceleratorState().mixed_precision.replace('no', 'fp32')}"
    for device in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(device)
        yield f"GPU {device}", f"{torch.cuda.get_device_name(device)}, {_size(free)} of {_size(total)} free"
    yield "CPU", f"{_counted(usable_cores(), 'core')}, {_counted(torch.get_num_threads(), 'thread')} a process"
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
        ready = [*cache.glob(f"weights/{packaged.package.name}-*"), *cache.glob(f"packages/{packaged.package.pattern}")]
        yield f"weights of {name}", "in the cache" if ready else "not in the cache: fetched when first used"
    files = (file for file in sorted(cache.glob("packages/*")) if file.suffix in KEPT)
    yield "packages in the cache", ", ".join(re.split(r"[-_]\d", file.name)[0] for file in files) or "none"


def warnings(world: int) -> Iterator[str]:
    """What is no mistake, but costs time or ends in one; ``world`` processes found each other."""
    cores, threads = usable_cores(), torch.get_num_threads()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if here > cores:
        yield f"{here} processes share {cores} cores: start {cores} or fewer here (--num_processes {cores})"
    elif threads == 1 and here < cores and not torch.cuda.is_available():
        yield f"one thread a process, so {cores - here} of {cores} cores idle: set OMP_NUM_THREADS={cores // here}"
    shared = shared_memory()
    if shared is not None and shared < SMALL_SHARED:
        yield (
            f"/dev/shm has {_size(shared)} free, through which data workers hand over their batches: enlarge it "
            "(docker run --shm-size 2g), or train with --set train.workers=0"
        )


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 'es' if word.endswith('s') else 's'}"


def shared_memory() -> int | None:
    """Free bytes of the file system that data workers share memory through; None where there is none."""
    place = Path("/dev/shm")
    return shutil.disk_usage(place).free if place.is_dir() else None


def _free(folder: Path) -> int:
    """Free bytes of a folder's disk, or of the nearest folder around it that exists."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _versioned(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # a module whose distribution has another name
        return name
