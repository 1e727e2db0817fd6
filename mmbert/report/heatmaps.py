"""Figures of predictions against true values (confusion matrix, scatter plot), and of inputs against tasks."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmbert.report.formatting import label, signed
from mmbert.report.svg import COLOURS, FAINT, INK, WIDTH, draw

BLUE, RED = COLOURS[0], COLOURS[1]
STRONGEST = 0.6  # the opacity of a full cell: text over it stays readable on a light and on a dark page


def draw_confusion(name: str, title: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Draw a confusion matrix: true classes are rows, predicted ones columns, the shade is the share of the row.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        title: above the figure.
        classes: the names of rows and columns.
        counts: [true, predicted].
    """
    size = len(classes)
    labels = [label(text, width=18, lines=1) for text in classes]
    cell = 0.42 if size <= 8 else 0.34

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, row_counts in enumerate(counts):
            total = sum(row_counts)
            for column, count in enumerate(row_counts):
                share = count / total if total else 0.0
                colour = BLUE if row == column else RED
                _draw_cell(axes, (row, column), f"{count}" if count else "", colour, share, 8 if size <= 8 else 7)
        _frame(axes, labels, labels, top=False)
        axes.set_title(label(title, width=40, lines=1))
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    width = min(WIDTH, 2.0 + cell * size)
    height = 0.75 + cell * size * (WIDTH - 1.6 if size > 10 else 4.6) / 4.6 + 0.065 * max(map(len, labels))
    text = f"Confusion matrix of {title}: rows are true classes, columns are predicted classes"
    return draw(name, text, width, height, paint)


def draw_heat_map(
    name: str,
    inputs: Sequence[str],
    tasks: Sequence[tuple[str, str]],
    changes: Mapping[tuple[str, str], tuple[float, bool | None]],
    *,
    title: str = "Change of each task with one input hidden",
    suffix: str = " hidden",
) -> Markup:
    """Draw a number for each input and task. Red is worse, blue is better, relative to the column's largest change.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        inputs: the rows.
        tasks: the columns, (task, metric).
        changes: (input, task) -> (change, whether it is worse). With None, unknown, the cell has no colour.
        title: what a screen reader reads first.
        suffix: stands behind the name of each input.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for column, (task, _) in enumerate(tasks):
            sizes = [abs(changes[row, task][0]) for row in inputs if (row, task) in changes]
            largest = max((value for value in sizes if math.isfinite(value)), default=0.0)
            for row, input_name in enumerate(inputs):
                value, worse = changes.get((input_name, task), (math.nan, None))
                share = abs(value) / largest if worse is not None and largest and math.isfinite(value) else 0.0
                _draw_cell(axes, (row, column), signed(value), RED if worse else BLUE, share, 8)
        heads = [f"{label(task, width=16)}\n{label(metric, width=16, lines=1)}" for task, metric in tasks]
        _frame(axes, [f"{label(row, width=18, lines=1)}{suffix}" for row in inputs], heads, top=True)

    width = 1.9 + 1.0 * len(tasks)
    texts = "; ".join(f"{task} {row}{suffix}: {signed(value)}" for (row, task), (value, _) in changes.items())
    return draw(name, f"{title}. {texts}"[:2000], width, 0.75 + 0.36 * len(inputs), paint)


def draw_scatter(name: str, title: str, points: Sequence[tuple[float, float]]) -> Markup:
    """Draw predicted against true values; the dashed line is where they are equal.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        title: above the figure.
        points: (true, predicted), at least one.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        values = [value for point in points for value in point]
        low, high = min(values), max(values)
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


def _draw_cell(axes: Axes, cell: tuple[int, int], text: str, colour: str, share: float, size: float) -> None:
    """Write ``text`` into a cell (row, column) and shade it by ``share``, 0 to 1."""
    row, column = cell
    if share > 0:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=STRONGEST * share, linewidth=0))
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=INK)


def _frame(axes: Axes, rows: Sequence[str], columns: Sequence[str], *, top: bool) -> None:
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
    for position in range(len(columns) + 1):
        axes.axvline(position - 0.5, color=FAINT, linewidth=0.4, alpha=0.5)
    for position in range(len(rows) + 1):
        axes.axhline(position - 0.5, color=FAINT, linewidth=0.4, alpha=0.5)
