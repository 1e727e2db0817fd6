"""Figures of curves: one line for each arm or kind of corruption, with a band over the seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmbert.report.formatting import label, mean
from mmbert.report.svg import COLOURS, DASHES, FAINT, INK, WIDTH, draw

MARKED_POINTS = 30  # the points of a curve with fewer are marked one by one


@dataclass(frozen=True)
class Curve:
    """One line of a figure: the mean over seeds at each step (or share of rows), and the range of the seeds."""

    name: str
    steps: Sequence[float]
    middle: Sequence[float]  # mean over seeds
    low: Sequence[float]  # least and greatest over seeds
    high: Sequence[float]


def average_seeds(name: str, seeds: Sequence[Sequence[tuple[int, float]]]) -> Curve:
    """Average the curves of several seeds at each step that all seeds have which got that far.

    Args:
        name: of the resulting curve.
        seeds: (step, value) of each seed.

    Example:
        >>> average_seeds("a", [[(1, 0.0), (2, 1.0)], [(1, 1.0)]]).middle
        [0.5, 1.0]
    """
    by_step: dict[int, list[float]] = {}
    for points in seeds:
        for step, value in dict(points).items():
            by_step.setdefault(step, []).append(value)
    ends = [max((step for step, _ in points), default=-1) for points in seeds]
    complete = {step for step, values in by_step.items() if len(values) == sum(end >= step for end in ends)}
    steps = sorted(complete or by_step)
    columns = [by_step[step] for step in steps]
    return Curve(name, steps, [mean(values) for values in columns], [*map(min, columns)], [*map(max, columns)])


def thin(curve: Curve, max_points: int) -> Curve:
    """Return a curve with at most ``max_points`` points, evenly chosen; the first and the last are among them.

    Args:
        curve: any curve.
        max_points: at least 2.

    Example:
        >>> thin(average_seeds("a", [[(step, 0.0) for step in range(9)]]), 3).steps
        [0, 4, 8]
    """
    count = len(curve.steps)
    if count <= max_points:
        return curve
    chosen = [round(number * (count - 1) / (max_points - 1)) for number in range(max_points)]
    columns = (curve.steps, curve.middle, curve.low, curve.high)
    return Curve(curve.name, *([values[position] for position in chosen] for values in columns))


def draw_curves(name: str, title: str, curves: Sequence[Curve], *, axis: str = "step", best_step: int = 0) -> Markup:
    """Draw values by step, or by what ``axis`` names.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        title: above the figure.
        curves: at least one.
        axis: what the horizontal axis shows.
        best_step: the step of the best checkpoint, marked by a vertical line; 0 draws none.
    """
    columns = min(3, len(curves))
    height = 2.4 + 0.19 * math.ceil(len(curves) / columns) * (len(curves) > 1)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for number, curve in enumerate(curves):
            colour = [INK, *COLOURS][number % (1 + len(COLOURS))]
            axes.plot(
                curve.steps,
                curve.middle,
                color=colour,
                linestyle=DASHES[number % len(DASHES)],
                markersize=3,
                marker="o" if len(curve.steps) < MARKED_POINTS else None,
                label=label(curve.name, width=22, lines=1),
            )
            if any(low < high for low, high in zip(curve.low, curve.high, strict=True)):
                axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        if best_step:
            axes.axvline(best_step, color=FAINT, linewidth=0.8, linestyle=":")
            axes.annotate(
                "best",
                (best_step, 1),
                (2, -1),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                alpha=0.75,
                fontsize=7,
                va="top",
            )
        axes.set_title(label(title, width=60, lines=1))
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=axis == "step"))
        axes.grid()
        if len(curves) > 1:
            figure.legend(loc="outside lower left", ncols=columns, fontsize=8, handlelength=3)

    names = ", ".join(curve.name for curve in curves)
    return draw(name, f"{title} by {axis} of {names}"[:2000], WIDTH, height, paint)
