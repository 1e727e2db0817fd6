"""What a person sees of a run: a banner, progress, and the table at the end."""

import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console as Rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

from mmbert.errors import SampleError
from mmbert.evaluation.evaluate import Evaluation
from mmbert.evaluation.results import Result, primary_metric

INTERVAL = 30.0  # seconds between lines where there is no terminal


class Console:
    """Writes to standard output; a bar on a terminal, one plain line every 30 s elsewhere; silent but on rank 0."""

    def __init__(self, *, speaks: bool):
        self.speaks = speaks
        # a log file has no width: lines are not wrapped there
        self.rich = Rich(quiet=not speaks, highlight=False, width=None if sys.stdout.isatty() else 140)
        self._bar: Progress | None = None
        self._total = self._done = 0
        self._last = self._start = time.monotonic()

    def say(self, *lines: str) -> None:
        for line in lines:
            self.rich.print(line, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        self.rich.print(f"warning: {line}", markup=False, soft_wrap=True, style="yellow")

    def banner(self, title: str, facts: Mapping[str, str]) -> None:
        """The facts of a run, a line each."""
        self.rich.rule(title, align="left", characters="-")
        width = max(map(len, facts))
        self.say(*(f"{name:<{width}}  {value}" for name, value in facts.items()))
        self.rich.rule(characters="-")

    def start(self, total: int, *, done: int = 0) -> None:
        self._total, self._done = total, done
        self._last = self._start = time.monotonic()
        if not self.rich.is_terminal or not self.speaks:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(TextColumn("training"), *columns, TextColumn("{task.fields[losses]}"), console=self.rich)
        self._bar.add_task("training", total=total, completed=done, losses="")
        self._bar.start()

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, losses=shown)
        elif time.monotonic() - self._last >= INTERVAL:
            self._last = time.monotonic()
            left = (self._last - self._start) / (step - self._done) * (self._total - step)
            self.say(f"step {step}/{self._total}, {left / 60:.1f} min left, loss: {shown}")

    def evaluation(self, step: int, found: Evaluation) -> None:
        scores = "  ".join(f"{task} {_first(metrics)}" for task, metrics in found.scores.items())
        self.say(f"step {step}/{self._total}, validation: skill {found.mean_skill:.3f}  {scores}")

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def bad_values(self, found: Sequence[SampleError]) -> None:
        """A line each: the row, the field, and what is wrong."""
        rows = max((len(error.row) for error in found), default=0)
        fields = max((len(error.field) for error in found), default=0)
        self.say(*(f"{error.row:<{rows}}  {error.field:<{fields}}  {error.reason}" for error in found))

    def results(
        self,
        results: Sequence[Result],
        differences: Mapping[str, tuple[str, Mapping[str, float]]],
        *,
        split: str = "test",
    ) -> None:
        """The table of a split: an arm a line, the primary metric of a task a column; then for each task the best
        baseline, and what differs from it by how much."""
        metrics = {name: primary_metric(scores) for one in reversed(results) for name, scores in one.scores.items()}
        table = Table(title=f"{split} split", title_justify="left", title_style="bold", box=None, header_style="bold")
        table.add_column("", vertical="bottom")
        for name, metric in metrics.items():
            table.add_column(f"{name}\n{metric}", justify="right", no_wrap=True)
        for one in results:
            cells = (
                f"{one.scores[name][metric]:.4g}" if name in one.scores else "" for name, metric in metrics.items()
            )
            table.add_row(one.arm, *cells)
        self.rich.print("", table)
        for name, (arm, found) in differences.items():
            difference, low, high, p = found.values()
            self.say(
                f"{name}: {metrics[name]} differs from that of {arm} by {difference:+.4g} (paired bootstrap, 95 % "
                f"interval {low:+.4g} to {high:+.4g}, p = {p:.3g})"
            )


def count_parameters(model: nn.Module) -> dict[str, list[int]]:
    """The parameters of each part of a model: how many learn, and how many there are."""
    parts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        top, _, rest = name.partition(".")
        part = f"{top}.{rest.partition('.')[0]}" if top in ("encoders", "tasks") else top
        counts = parts.setdefault(part, [0, 0])
        counts[0] += parameter.numel() * parameter.requires_grad
        counts[1] += parameter.numel()
    return parts


def _first(metrics: Mapping[str, float]) -> str:
    name, value = next(iter(metrics.items()))
    return f"{name} {value:.4g}"
