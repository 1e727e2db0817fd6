"""``mmbert ablate --plan`` and ``--status``: the cost of a study, what it can show, and the state of its runs."""

import sys
import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from rich.console import Console as Terminal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmbert.ablation.run_study import PreparedStudy
from mmbert.ablation.runs import PlannedRun
from mmbert.ablation.statistics import seeds_needed, smallest_p
from mmbert.experiment.build import build
from mmbert.experiment.experiment import Experiment
from mmbert.experiment.trunk_cache import cache_features
from mmbert.training.forecast import duration, forecast_experiment
from mmbert.training.launch import make_accelerator

SAMPLED_ROWS = 200  # training rows by which the length of texts is estimated
CHECKPOINTS = 2  # that a run keeps: the best and the newest


@dataclass(frozen=True)
class RunCost:
    """The estimated cost of one run, or of several."""

    seconds: float = 0.0
    tokens: float = 0.0  # of the trunk
    disk: float = 0.0  # bytes

    def plus(self, cost: "RunCost", count: int) -> "RunCost":
        """Return this cost plus that of further runs.

        Args:
            cost: of one further run.
            count: how many further runs.
        """
        return RunCost(
            self.seconds + count * cost.seconds, self.tokens + count * cost.tokens, self.disk + count * cost.disk
        )


def print_plan(prepared: PreparedStudy, *, slots: int) -> None:
    """Print the changes and the cost of each arm, and what the design can show. Nothing is trained.

    Time is estimated from three timed steps of each arm, trunk tokens from the texts of some training rows, disk space
    from the weights and the optimizer's state.

    Args:
        prepared: the study.
        slots: how many runs at the same time.
    """
    study, terminal = prepared.study, Terminal(highlight=False)
    columns = ("arm", "changes", "steps", "trunk tokens", "time", "disk", "runs to do")
    table = Table(*columns, title=f"{study.name}: cost of one run")
    total = RunCost()
    for arm in study.arms:
        changes = Text("\n".join(arm.changes) or "none: the base")
        if arm.masks:
            table.add_row(Text(arm.name), changes, "", "", "", "", "none")
            continue
        runs = [prepared.find_run(arm.name, seed) for seed in study.seeds]
        todo = [run for run in runs if not prepared.is_finished(run)]
        cost = estimate_cost(runs[0])
        total = total.plus(cost, len(todo))
        table.add_row(
            Text(arm.name),
            changes,
            str(runs[0].steps),
            f"{cost.tokens:.3g}",
            duration(cost.seconds),
            f"{cost.disk / 1e6:.0f} MB",
            f"{len(todo)} of {len(runs)}",
        )
    terminal.print(table)
    count = len(prepared.runs)
    terminal.print(
        f"{count} run{'s' * (count != 1)}; still to do: {total.tokens:.3g} trunk tokens, about "
        f"{duration(total.seconds / slots)} with {slots} at a time, {total.disk / 1e9:.1f} GB on disk"
    )
    terminal.print(describe_design(len(study.seeds), len(study.planned)))


def describe_design(seeds: int, planned: int) -> str:
    """Return in words whether the number of seeds can decide the planned comparisons.

    Args:
        seeds: how many.
        planned: how many comparisons.

    Example:
        >>> describe_design(7, 1)
        '7 seeds, 1 planned comparison: the smallest possible p is 0.0156, enough to decide it'
    """
    size = f"{seeds} seed{'s' * (seeds != 1)}, {planned} planned comparison{'s' * (planned != 1)}"
    name = "p (Holm)" if planned > 1 else "p"
    smallest = f"the smallest possible {name} is {min(1.0, planned * smallest_p(seeds)):.3g}"
    more = seeds_needed(planned) - seeds
    if more <= 0:
        return f"{size}: {smallest}, enough to decide {'it' if planned == 1 else 'them'}"
    advice = "1 more seed is enough" if more == 1 else f"{more} more seeds are enough"
    return f"{size}: {smallest}, too large to decide anything; {advice}"


def print_status(prepared: PreparedStudy) -> None:
    """Print a table of all runs; in a terminal it is updated until all runs have ended, or until ctrl-C.

    Args:
        prepared: the study.
    """
    with Live(_status_table(prepared), console=Terminal(highlight=False), auto_refresh=False) as live:
        while sys.stdout.isatty() and any(run.state() in ("running", "waiting") for run in prepared.runs):
            time.sleep(1)
            live.update(_status_table(prepared), refresh=True)
        live.update(_status_table(prepared), refresh=True)


def _status_table(prepared: PreparedStudy) -> Table:
    study = prepared.study
    table = Table("arm", *(f"seed {seed}" for seed in study.seeds), title=f"{study.name}: {study.task}/{study.metric}")
    for arm in study.trained:
        cells = [_status_cell(prepared, prepared.find_run(arm.name, seed)) for seed in study.seeds]
        table.add_row(Text(arm.name), *map(Text, cells))
    return table


def _status_cell(prepared: PreparedStudy, run: PlannedRun) -> str:
    scores = prepared.find_scores(run.arm.name, run.seed)
    if scores is not None:
        value = scores.get(prepared.study.task, {}).get(prepared.study.metric)
        return "done" if value is None else f"{value:.4g}"
    state = run.state()
    return f"step {run.last_step()} of {run.steps}" if state == "running" else state


def estimate_cost(run: PlannedRun) -> RunCost:
    """Return the estimated cost of a run, from three steps that are timed now.

    Args:
        run: of a study.
    """
    accelerator: Accelerator = make_accelerator(run.recipe.train)
    experiment = build(run.recipe)
    if run.recipe.trunk.cache:
        cache_features(experiment, accelerator.device)
    steps = experiment.total_steps
    forecast = forecast_experiment(experiment, accelerator, steps=steps)
    checkpoint = sum(
        parameter.numel() * parameter.element_size() * (3 if parameter.requires_grad else 1)  # with Adam's two moments
        for parameter in experiment.model.parameters()
    )
    tokens = _tokens_per_row(experiment) * steps * run.recipe.train.batch_size
    return RunCost(forecast.run, tokens, CHECKPOINTS * checkpoint)


def _tokens_per_row(experiment: Experiment) -> float:
    """The mean number of tokens of a training row in the trunk: its texts, one [CLS], and one [SEP] for each text."""
    samples = experiment.dataset("train")
    stride = max(1, len(samples) // SAMPLED_ROWS)
    lengths = []
    for position in range(0, len(samples), stride):
        sample = samples[position, None]
        texts = [sample.inputs[name]["tokens"] for name in experiment.text_inputs if name in sample.inputs]
        lengths.append(1 + max(1, len(texts)) + sum(len(text) for text in texts))
    return float(torch.tensor(lengths, dtype=torch.float64).mean())
