"""A program that runs two processes with a fault on one rank, for each fault below: ``faulty_worlds.py FOLDER``.

Each rank writes how its run ended. Processes are forked, so the parent must never have run a backward pass.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import torch
from accelerate import PartialState, debug_launcher

from mmbert import api, distributed
from mmbert.data.sample_dataset import SampleDataset
from mmbert.errors import SampleError, exit_code
from mmbert.evaluation import evaluate
from mmbert.experiment.build import build
from mmbert.io import storage
from mmbert.model import MMBert
from mmbert.recipe.load import load_recipe
from mmbert.training.optimizer import make_optimizer

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
SMALL = [
    "inputs.image=null",
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "train.batch_size=8",
    "train.steps=6",
    "evaluate.every=0.3",
]


def spoil(owner, name, at, fault):
    """Replace the ``at``-th call of a function by ``fault(real function, *arguments)``."""
    real, calls = getattr(owner, name), []

    def call(*positional, **named):
        calls.append(name)
        return fault(real, *positional, **named) if len(calls) == at else real(*positional, **named)

    setattr(owner, name, call)


def nan_label(real, dataset, items):
    batch = real(dataset, items)
    batch.targets["amount"].tensors["target"][0] = float("nan")
    return batch


def bad_sample(real, dataset, draw):
    raise SampleError("expected a number, found 'x'").at("shop (rows.csv row 7)", "task 'amount'")


def out_of_memory(real, *positional, **named):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def stop_signal(real, *positional, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    return real(*positional, **named)


def dies(real, *positional, **named):
    os._exit(9)


def worker_dies(real, *positional, **named):
    for server in psutil.Process().children():
        for worker in server.children():
            worker.kill()
    return real(*positional, **named)


def full_disk(real, *positional, **named):
    raise OSError(28, "No space left on device")


FAULTS = {  # name -> rank, owner and name of the function, number of the call, fault, settings of the recipe
    "nan": (1, SampleDataset, "collate", 3, nan_label, []),
    "nan passed over": (1, SampleDataset, "collate", 3, nan_label, ["train.max_bad_steps=1"]),
    "bad sample": (1, SampleDataset, "__getitem__", 9, bad_sample, []),
    "memory": (1, MMBert, "forward", 3, out_of_memory, []),
    "worker": (1, MMBert, "forward", 2, worker_dies, ["train.workers=1", "train.steps=99"]),
    "stop in a step": (1, MMBert, "forward", 2, stop_signal, ["train.precision=fp64", "train.dropout=0"]),
    "stop in an evaluation": (1, evaluate, "_task_parts", 1, stop_signal, []),
    "stop before step 1": (1, api, "Trainer", 1, stop_signal, []),
    "rank 1 dies": (1, MMBert, "forward", 3, dies, []),
    "save fails once": (0, storage, "write_tensors", 1, full_disk, []),
}


def run(name: str, folder: str) -> None:
    """Run the training of one rank, with its fault if it has one."""
    rank, owner, function, at, fault, settings = FAULTS[name]
    mine = PartialState(cpu=True).process_index
    if mine == rank:
        spoil(owner, function, at, fault)
    distributed.REPORT_DELAY = 0.5
    seen = {"code": 0, "error": "", "kind": ""}
    place = Path(folder) / name.replace(" ", "_")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # else the launcher would end us before we write
    start = time.monotonic()
    try:
        api.train(RECIPE, overrides=[*SMALL, *settings], out=place / "run")
    except Exception as error:
        seen = {"code": exit_code(error), "error": str(error), "kind": type(error).__name__}
    seen["seconds"], seen["ended"] = time.monotonic() - start, time.time()
    (place / f"{mine}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    experiment = build(load_recipe(RECIPE, SMALL).recipe)
    make_optimizer(experiment.model, experiment.recipe.optim)  # imported here once, before forking
    for fault in FAULTS:
        try:
            debug_launcher(run, (fault, sys.argv[1]), num_processes=2)
        except Exception as error:  # a rank that died
            print(fault, error)
