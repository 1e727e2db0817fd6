"""Figures of predictions against truth, and of inputs against tasks."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmbert.report.formatting import label, signed
from mmbert.report.svg import COLOURS, FAINT, INK, WIDTH, draw

BLUE, RED = COLOURS[0], COLOURS[1]
STRONGEST = 0.6  # the opacity of a full cell: text over it stays readable on light and on dark paper


def confusion(name: str, title: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """True classes as rows, predicted ones as columns; the shade is the share of the row. Counts are written in."""
    size = len(classes)
    shown = [label(one, width=18, lines=1) for one in classes]
    cell = 0.42 if size <= 8 else 0.34

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, found in enumerate(counts):
            total = sum(found)
            for column, count in enumerate(found):
                share = count / total if total else 0.0
                colour = BLUE if row == column else RED
                _cell(axes, row, column, colour, share, f"{count}" if count else "", 8 if size <= 8 else 7)
        _frame(axes, shown, shown, top=False)
        axes.set_title(label(title, width=40, lines=1))
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    width = min(WIDTH, 2.0 + cell * size)
    height = 0.75 + cell * size * (WIDTH - 1.6 if size > 10 else 4.6) / 4.6 + 0.065 * max(map(len, shown))
    return draw(name, f"Confusions of {title}: rows are true classes, columns predicted ones", width, height, paint)


def heat_map(
    name: str,
    inputs: Sequence[str],
    tasks: Sequence[tuple[str, str]],
    changes: Mapping[tuple[str, str], tuple[float, bool | None]],
    *,
    title: str = "Change of each task without each input",
    of: str = "without ",
) -> Markup:
    """A number for each input and task. ``tasks``: (task, metric); ``changes``: (input, task) -> (change, worse).

    Red is worse, blue is better; the shade is relative to the largest change of the column. Where it is not known
    which of the two it is (None), the change is written without a colour. ``of`` stands before each input's name.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for column, (task, _) in enumerate(tasks):
            found = [abs(changes[one, task][0]) for one in inputs if (one, task) in changes]
            largest = max((value for value in found if math.isfinite(value)), default=0.0)
            for row, one in enumerate(inputs):
                value, worse = changes.get((one, task), (math.nan, None))
                share = abs(value) / largest if worse is not None and largest and math.isfinite(value) else 0.0
                _cell(axes, row, column, RED if worse else BLUE, share, signed(value), 8)
        heads = [f"{label(task, width=16)}\n{label(metric, width=16, lines=1)}" for task, metric in tasks]
        _frame(axes, [f"{of}{label(one, width=18, lines=1)}" for one in inputs], heads, top=True)

    width = 1.9 + 1.0 * len(tasks)
    told = "; ".join(f"{task} {of}{one}: {signed(value)}" for (one, task), (value, _) in changes.items())
    return draw(name, f"{title}. {told}"[:2000], width, 0.75 + 0.36 * len(inputs), paint)


def scatter(name: str, title: str, points: Sequence[tuple[float, float]]) -> Markup:
    """True values across, predicted ones up; on the line they would agree."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        ends = [value for point in points for value in point]
        low, high = min(ends), max(ends)
        room = 0.04 * (high - low) or 0.5
        axes.plot([low - room, high + room], [low - room, high + room], "--", color=FAINT, linewidth=0.8)
        axes.plot(*zip(*points, strict=True), "o", color=BLUE, markersize=3, alpha=0.5, mew=0)
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - room, high + room)
        axes.set_aspect("equal")
        axes.set_title(label(title, width=40, lines=1))
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        axes.grid()

    return draw(name, f"{title}: predicted against true values of {len(points)} rows", 3.6, 3.6, paint)


def _cell(axes, row: int, column: int, colour: str, share: float, text: str, size: float) -> None:
    if share > 0:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=STRONGEST * share, linewidth=0))
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=INK)


def _frame(axes, rows: Sequence[str], columns: Sequence[str], *, top: bool) -> None:
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), rows)
    if top:
        axes.set_xticks(range(len(columns)), columns)
        axes.xaxis.tick_top()
    else:
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for at in range(len(columns) + 1):
        axes.axvline(at - 0.5, color=FAINT, linewidth=0.4, alpha=0.5)
    for at in range(len(rows) + 1):
        axes.axhline(at - 0.5, color=FAINT, linewidth=0.4, alpha=0.5)
