"""What a finished run writes down: its result, the files that reports and studies read, lines of the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmbert.built import Built
from mmbert.evaluate import kept
from mmbert.evaluate.evaluator import Evaluation
from mmbert.evaluate.ledger import CODE_EPOCH, Measured, Scores, append_results
from mmbert.evaluate.results import Result
from mmbert.examples import examples
from mmbert.train.console import count_parameters
from mmbert.train.folder import read_log
from mmbert.train.memory import peak
from mmbert.train.resume import Identity


@dataclass(frozen=True)
class Table:
    """The results of one run on the test split."""

    ours: Result
    hidden: Sequence[Result]  # without one input each
    baselines: Sequence[Result]
    compared: Mapping[str, tuple[str, dict[str, float]]]  # task -> the best baseline, the difference to it


def summary(run: Identity, best_step: int, table: Table) -> dict[str, Any]:
    """What ``result.json`` holds: the same for a run that was stopped and went on."""
    return {
        "recipe": run.hash,
        "epoch": CODE_EPOCH,
        "seed": run.recipe.train.seed,
        "best_step": best_step,
        "test": table.ours.scores,
        "hidden": {one.arm: one.scores for one in table.hidden},
        "baselines": {one.arm: one.scores for one in table.baselines},
        "against_best_baseline": {name: {"baseline": other, **one} for name, (other, one) in table.compared.items()},
    }


def record(built: Built, found: Evaluation, run: Path, device: torch.device) -> dict[str, str | bytes | dict[str, Any]]:
    """The files by name, after the run in the folder ``run`` was evaluated on the test split; reads that split.

    Times and memory differ from run to run: they have a file of their own, so that the others are always the same.
    """
    return {
        kept.FILE: kept.dump(found, built.groups("test")),
        "examples.jsonl": examples(built, found),
        "cost.json": cost(built, run, device),
    }


def cost(built: Built, run: Path, device: torch.device) -> dict[str, Any]:
    """What a run took, as ``cost.json`` holds it.

    ``seconds`` from its start to the last line of training or validation in its log, the time between a stop and a
    resume left out; ``parameters`` of each part: how many learn, how many there are; ``memory_mb``, in 10^6 bytes, the
    peak of the main process since it was last started: what torch had of a GPU, on CPU what was resident.
    """
    times = [line["time"] for line in read_log(run) if line["split"] != "test"]
    return {
        "seconds": times[-1] if times else 0.0,
        "parameters": count_parameters(built.model),
        "device": device.type,
        "memory_mb": round(peak(device) / 1e6, 1),
    }


def append_table(ledger: str | Path, run: Identity, arm: str, table: Table) -> None:
    """Append a run's table to a ledger, where the run is called ``arm``."""
    lines: dict[str, Scores] = {
        one.arm.replace("mmbert", arm): one.scores for one in (table.ours, *table.hidden, *table.baselines)
    }
    lines[f"{arm} against the best baseline"] = {name: one for name, (_, one) in table.compared.items()}
    append_results(ledger, lines, Measured(run.recipe.name, run.recipe.train.seed, "test", run.hash, run.data))
