"""Console output of a run: the banner, progress, and the table of results."""

import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console as Rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import nn

from mmbert.errors import SampleError
from mmbert.evaluation.evaluate import Evaluation
from mmbert.evaluation.results import BaselineComparison, Result, primary_metric
from mmbert.types import SourceSummary

INTERVAL = 30.0  # seconds between lines where there is no terminal


class Console:
    """Writes to standard output: a progress bar on a terminal, one plain line every 30 s elsewhere.

    Args:
        speaks: whether this process writes at all; only the main process does.
    """

    def __init__(self, *, speaks: bool):
        self.speaks = speaks
        # a log file has no width: lines are not wrapped there
        self.rich = Rich(quiet=not speaks, highlight=False, width=None if sys.stdout.isatty() else 140)
        self._bar: Progress | None = None
        self._total = self._done = 0
        self._last = self._start = time.monotonic()
        self._skill_is_explained = False

    def say(self, *lines: str) -> None:
        """Print lines as they are.

        Args:
            lines: of plain text.
        """
        for line in lines:
            self.rich.print(line, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print a warning.

        Args:
            line: the sentence.
        """
        self.rich.print(f"warning: {line}", markup=False, soft_wrap=True, style="yellow")

    def banner(self, title: str, facts: Mapping[str, str]) -> None:
        """Print the facts of a run, one a line.

        Args:
            title: the command.
            facts: name -> value.
        """
        self.rich.rule(title, align="left", characters="-")
        width = max(map(len, facts))
        self.say(*(f"{name:<{width}}  {value}" for name, value in facts.items()))
        self.rich.rule(characters="-")

    def start(self, total: int, *, done: int = 0) -> None:
        """Start to show the progress of training.

        Args:
            total: steps of the run.
            done: steps that an earlier job did.
        """
        self._total, self._done = total, done
        self._last = self._start = time.monotonic()
        if not self.rich.is_terminal or not self.speaks:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(TextColumn("training"), *columns, TextColumn("{task.fields[losses]}"), console=self.rich)
        self._bar.add_task("training", total=total, completed=done, losses="")
        self._bar.start()

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Show that a step is done.

        Args:
            step: its number.
            losses: by task.
        """
        shown = "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, losses=shown)
        elif time.monotonic() - self._last >= INTERVAL:
            self._last = time.monotonic()
            left = (self._last - self._start) / (step - self._done) * (self._total - step)
            self.say(f"step {step}/{self._total}, {left / 60:.1f} min left, loss: {shown}")

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Print the scores of an evaluation; the first line also explains what skill is.

        Args:
            step: its number.
            evaluation: of the validation split.
        """
        scores = "  ".join(f"{task} {_format_primary(metrics)}" for task, metrics in evaluation.scores.items())
        skill = "skill" if self._skill_is_explained else "skill (1 - loss / loss of a constant guess)"
        self._skill_is_explained = True
        self.say(f"step {step}/{self._total}, validation: {skill} {evaluation.mean_skill:.3f}  {scores}")

    def stop(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def columns(self, source: str, summary: SourceSummary) -> None:
        """Print what the columns of a source are, and what is suspicious about them.

        Args:
            source: its name.
            summary: of its columns; nothing is printed of a source that has none.
        """
        table = Table(title=f"columns of {source}", title_justify="left", box=None, pad_edge=False)
        for heading in ("column", "read by", "kind", "cells", "missing", "distinct", "examples", "done"):
            table.add_column(heading, justify="right" if heading in ("cells", "missing", "distinct") else "left")
        for column in summary.columns:
            counts = [column.rows - column.missing, column.missing, "" if column.distinct is None else column.distinct]
            words = [column.name, ", ".join(column.fields), column.kind, *map(str, counts), ", ".join(column.examples)]
            table.add_row(*map(Text, [*words, column.done]))
        if summary.columns:
            self.rich.print(table)
        for warning in summary.warnings:
            self.warn(warning)

    def bad_values(self, errors: Sequence[SampleError]) -> None:
        """Print bad values, one a line: the row, the field, and what is wrong.

        Args:
            errors: with row and field.
        """
        row_width = max((len(error.row) for error in errors), default=0)
        field_width = max((len(error.field) for error in errors), default=0)
        self.say(*(f"{error.row:<{row_width}}  {error.field:<{field_width}}  {error.reason}" for error in errors))

    def results(
        self,
        results: Sequence[Result],
        comparisons: Mapping[str, BaselineComparison],
        *,
        split: str = "test",
    ) -> None:
        """Print the results of a split: a row for each arm, a column for the primary metric of each task.

        A cell is "none" where an arm failed, and empty where it has no such task.

        Args:
            results: of each arm; the table is as wide as the tasks of all of them.
            comparisons: task -> our result against the best baseline. One line each.
            split: for the title.
        """
        metrics = {
            name: primary_metric(scores) for result in reversed(results) for name, scores in result.scores.items()
        }
        table = Table(title=f"{split} split", title_justify="left", title_style="bold", box=None, header_style="bold")
        table.add_column("", vertical="bottom")
        for name, metric in metrics.items():
            table.add_column(f"{name}\n{metric}", justify="right", no_wrap=True)
        for result in results:
            cells = (_cell(result, name, metric) for name, metric in metrics.items())
            table.add_row(_row_title(result.arm), *cells)
        self.rich.print("", table)
        for name, comparison in comparisons.items():
            what = f"{name}: {comparison.metric} differs from that of {comparison.baseline}"
            difference = comparison.difference
            self.say(f"{what} by {difference.in_words()}" if difference else f"{what}: none ({comparison.failure})")


def count_parameters(model: nn.Module) -> dict[str, list[int]]:
    """The parameters of each part of a model: part -> [those that learn, all]."""
    parts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        top, _, rest = name.partition(".")
        part = f"{top}.{rest.partition('.')[0]}" if top in ("encoders", "tasks") else top
        counts = parts.setdefault(part, [0, 0])
        counts[0] += parameter.numel() * parameter.requires_grad
        counts[1] += parameter.numel()
    return parts


def _cell(result: Result, task: str, metric: str) -> str:
    if task in result.scores:
        return f"{result.scores[task][metric]:.4g}"
    return "none" if task in result.failures else ""


def _row_title(arm: str) -> str:
    """An arm as the table names it: ``mmbert without X`` is one model with an input hidden, not another training."""
    model, without, hidden = arm.partition(" without ")
    return f"{model}, {hidden} hidden at test" if without else arm


def _format_primary(metrics: Mapping[str, float]) -> str:
    name, value = next(iter(metrics.items()))
    return f"{name} {value:.4g}"
