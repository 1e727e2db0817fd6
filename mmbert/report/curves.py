"""Curves: a line an arm, or a kind of change, its colour and its dashes its own, a band over the seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmbert.report.formatting import label, mean
from mmbert.report.svg import COLOURS, DASHES, FAINT, INK, WIDTH, draw

FEW = 30  # points: so many are marked one by one


@dataclass(frozen=True)
class Curve:
    """One line of a figure: the mean over seeds at each step, or each share, and how far the seeds lie apart."""

    name: str
    steps: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]  # least and greatest over the seeds
    high: Sequence[float]


def over_seeds(name: str, seeds: Sequence[Sequence[tuple[int, float]]]) -> Curve:
    """Join the (step, value) of several seeds; a step counts where each seed that got so far has it.

    >>> over_seeds("a", [[(1, 0.0), (2, 1.0)], [(1, 1.0)]]).middle
    [0.5, 1.0]
    """
    by_step: dict[int, list[float]] = {}
    for points in seeds:
        for step, value in dict(points).items():
            by_step.setdefault(step, []).append(value)
    ends = [max((step for step, _ in points), default=-1) for points in seeds]
    whole = {step: found for step, found in by_step.items() if len(found) == sum(end >= step for end in ends)}
    steps = sorted(whole or by_step)
    found = [by_step[step] for step in steps]
    return Curve(name, steps, [mean(one) for one in found], [min(one) for one in found], [max(one) for one in found])


def thinned(curve: Curve, most: int) -> Curve:
    """At most ``most`` of the points, evenly, first and last among them.

    >>> thinned(over_seeds("a", [[(step, 0.0) for step in range(9)]]), 3).steps
    [0, 4, 8]
    """
    count = len(curve.steps)
    if count <= most:
        return curve
    kept = [round(place * (count - 1) / (most - 1)) for place in range(most)]
    middle, low, high = ([values[place] for place in kept] for values in (curve.middle, curve.low, curve.high))
    return Curve(curve.name, [curve.steps[place] for place in kept], middle, low, high)


def curves(name: str, title: str, found: Sequence[Curve], *, axis: str = "step", best_step: int = 0) -> Markup:
    """Values by step, or by what ``axis`` says. ``best_step``, where given, is the one whose weights were kept."""
    columns = min(3, len(found))
    height = 2.4 + 0.19 * math.ceil(len(found) / columns) * (len(found) > 1)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, one in enumerate(found):
            colour = [INK, *COLOURS][place % (1 + len(COLOURS))]
            axes.plot(
                one.steps, one.middle, color=colour, linestyle=DASHES[place % len(DASHES)], markersize=3,
                marker="o" if len(one.steps) < FEW else None, label=label(one.name, width=22, lines=1),
            )  # fmt: skip
            if any(low < high for low, high in zip(one.low, one.high, strict=True)):
                axes.fill_between(one.steps, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
        if best_step:
            axes.axvline(best_step, color=FAINT, linewidth=0.8, linestyle=":")
            axes.annotate(
                "kept", (best_step, 1), (2, -1), xycoords=("data", "axes fraction"), textcoords="offset points",
                alpha=0.75, fontsize=7, va="top",
            )  # fmt: skip
        axes.set_title(label(title, width=60, lines=1))
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=axis == "step"))
        axes.grid()
        if len(found) > 1:
            figure.legend(loc="outside lower left", ncols=columns, fontsize=8, handlelength=3)

    told = ", ".join(one.name for one in found)
    return draw(name, f"{title} by {axis} of {told}"[:2000], WIDTH, height, paint)
