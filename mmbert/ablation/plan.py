"""What a study will take and what it can show, and how its runs stand: ``mmbert ablate --plan`` and ``--status``."""

import sys
import time

import torch
from accelerate import Accelerator
from rich.console import Console as Terminal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmbert.ablation.run_study import Prepared
from mmbert.ablation.runs import PlannedRun
from mmbert.ablation.statistics import seeds_needed, smallest_p
from mmbert.experiment.build import Built, build
from mmbert.experiment.trunk_cache import cache_features
from mmbert.recipe.schema import resolve_steps
from mmbert.training.forecast import duration, outlook
from mmbert.training.launch import make_accelerator

SAMPLED = 200  # training rows by which the length of texts is estimated
KEPT = 2  # checkpoints that a run keeps: the best and the newest


def print_plan(prepared: Prepared, *, slots: int) -> None:
    """Print each arm with what it changes and takes, then what the design can reach. Nothing is trained.

    Time is estimated from three timed steps of each arm, alone on the machine; trunk tokens from the texts of some
    training rows; disk from the weights and the optimiser's state.
    """
    study, terminal = prepared.study, Terminal(highlight=False)
    table = Table("arm", "changes", "steps", "trunk tokens", "a run", "disk", "to do", title=study.name)
    seconds, tokens, size = 0.0, 0.0, 0.0
    for arm in study.arms:
        changes = Text("\n".join(arm.changes) or "the base")
        if arm.masks:
            table.add_row(Text(arm.name), changes, "", "", "", "", "read off the reference's runs")
            continue
        runs = [prepared.of(arm.name, seed) for seed in study.seeds]
        todo = [run for run in runs if not prepared.finished(run)]
        run, reads, disk = _cost(runs[0])
        cells = [
            str(runs[0].steps),
            f"{reads:.3g}",
            duration(run),
            f"{disk / 1e6:.0f} MB",
            f"{len(todo)} of {len(runs)}",
        ]
        table.add_row(Text(arm.name), changes, *cells)
        seconds, tokens, size = (
            total + len(todo) * one for total, one in zip((seconds, tokens, size), (run, reads, disk), strict=True)
        )
    terminal.print(table)
    terminal.print(
        f"{len(prepared.runs)} runs; what is left: {tokens:.3g} trunk tokens, about {duration(seconds / slots)} with "
        f"{slots} at a time, {size / 1e9:.1f} GB on disk"
    )
    terminal.print(design(len(study.seeds), len(study.planned)))


def design(seeds: int, planned: int) -> str:
    """What so many seeds can decide between so many planned comparisons, in words.

    >>> design(7, 1)
    '7 seeds, 1 planned comparison: the smallest p is 0.0156, enough to decide it'
    """
    needed = seeds_needed(planned)
    many = f"{seeds} seed{'s' * (seeds > 1)}, {planned} planned comparison{'s' * (planned > 1)}"
    smallest = f"the smallest p is {min(1.0, planned * smallest_p(seeds)):.3g}{' by Holm' * (planned > 1)}"
    if seeds >= needed:
        return f"{many}: {smallest}, enough to decide {'it' if planned == 1 else 'them'}"
    return f"{many}: {smallest}, too large to decide anything; {needed - seeds} more seeds would be enough"


def print_status(prepared: Prepared) -> None:
    """A table of all runs; in a terminal it follows them until all have ended, or ctrl-C."""
    with Live(_states(prepared), console=Terminal(highlight=False), auto_refresh=False) as live:
        while sys.stdout.isatty() and any(run.state() in ("running", "waiting") for run in prepared.runs):
            time.sleep(1)
            live.update(_states(prepared), refresh=True)
        live.update(_states(prepared), refresh=True)


def _states(prepared: Prepared) -> Table:
    study = prepared.study
    table = Table("arm", *(f"seed {seed}" for seed in study.seeds), title=f"{study.name}: {study.task}/{study.metric}")
    for arm in study.trained:
        cells = [_cell(prepared, prepared.of(arm.name, seed)) for seed in study.seeds]
        table.add_row(Text(arm.name), *map(Text, cells))
    return table


def _cell(prepared: Prepared, run: PlannedRun) -> str:
    scores = prepared.known(run.arm.name, run.seed)
    if scores is not None:
        value = scores.get(prepared.study.task, {}).get(prepared.study.metric)
        return "done" if value is None else f"{value:.4g}"
    state = run.state()
    return f"{run.step()}/{run.steps}" if state == "running" else state


def _cost(run: PlannedRun) -> tuple[float, float, float]:
    """Seconds, trunk tokens and bytes on disk of a run."""
    accelerator: Accelerator = make_accelerator(run.recipe.train)
    built = build(run.recipe)
    if run.recipe.trunk.cache:
        cache_features(built, accelerator.device)
    total, every = resolve_steps(built.recipe, len(built.items("train")))
    found = outlook(built, accelerator, total=total, every=every)
    parameters = list(built.model.parameters())
    state = sum(one.numel() * one.element_size() * (3 if one.requires_grad else 1) for one in parameters)
    return found.run, _tokens(built) * total * run.recipe.train.batch_size, KEPT * state


def _tokens(built: Built) -> float:
    """Tokens that the trunk reads of a training row, in the mean: its texts, [CLS] and a [SEP] behind each text."""
    items = built.items("train")
    step = max(1, len(items) // SAMPLED)
    lengths = []
    for position in range(0, len(items), step):
        item = items[position, None]
        texts = [item.inputs[name]["tokens"] for name in built.texts if name in item.inputs]
        lengths.append(1 + max(1, len(texts)) + sum(len(text) for text in texts))
    return float(torch.tensor(lengths, dtype=torch.float64).mean())
