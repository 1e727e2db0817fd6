"""Figures with a row for each arm: scores as dots, differences with their intervals, costs as bars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import scipy.stats
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbert.report.formatting import MINUS, as_number, label, mean, number, signed, spread
from mmbert.report.svg import COLOURS, FAINT, INK, LINE, WIDTH, draw, rows

BASELINE = 0.75  # of a row: the height of a baseline's name
OUTSIDE = 0.75  # how far beyond the dots a baseline may stretch a figure, in their range


@dataclass(frozen=True)
class ArmDifference:
    """How much an arm differs from another in one metric: arm minus reference, paired over what both have."""

    arm: str
    reference: str
    task: str
    metric: str
    difference: float
    low: float = math.nan  # 95 % interval
    high: float = math.nan
    p: float | None = None  # adjusted, where several comparisons were planned
    by_seed: Mapping[int, float] = field(default_factory=dict)
    planned: bool = True
    lower_is_better: bool | None = None  # None: not known


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % t interval of a mean over seeds; None below three, where it says little.

    >>> low, high = interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3), interval([1.0, 2.0])
    (-0.484, 4.484, None)
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 3:
        return None
    half = float(scipy.stats.t.ppf(0.975, len(finite) - 1)) * spread(finite) / math.sqrt(len(finite))
    return mean(finite) - half, mean(finite) + half


def dots(
    name: str,
    axis: str,
    arms: Sequence[tuple[str, Mapping[int, float]]],
    baselines: Mapping[str, float],
    *,
    lower_is_better: bool | None = None,
) -> Markup:
    """Each seed of each arm as a dot, the mean as a bar with its interval, baselines as vertical lines.

    ``arms``: (name, seed -> value), the reference first. A baseline far from all dots stands at the edge with an arrow.
    """
    lines = {one: value for one, value in baselines.items() if math.isfinite(value)}
    height = LINE * (sum(1 + 0.5 * label(arm).count("\n") for arm, _ in arms) + BASELINE * len(lines)) + 0.75

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows(axes, [label(arm) for arm, _ in arms])
        for place, (_, found) in enumerate(arms):
            colour = COLOURS[0] if place else INK
            values = [value for value in found.values() if math.isfinite(value)]
            shift = [0.16 * ((at % 3) - 1) if len(values) > 1 else 0.0 for at in range(len(values))]
            axes.plot(values, [place + by for by in shift], "o", color=colour, markersize=4, alpha=0.65, mew=0)
            if len(values) > 1:
                axes.plot([mean(values)] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2)
            if found_interval := interval(values):
                axes.plot(found_interval, [place] * 2, color=colour, linewidth=1)
            if not values:
                axes.text(0.02, place, "no result", transform=axes.get_yaxis_transform(), va="center", alpha=0.75)
        axes.set_xlim(*_reach([value for _, found in arms for value in found.values()], list(lines.values())))
        _vertical(axes, lines)
        axes.set_xlabel(axis + _better(lower_is_better))

    told = "; ".join(f"{arm}: {', '.join(number(value) for value in found.values()) or 'none'}" for arm, found in arms)
    return draw(name, f"{axis} of each arm, a dot a seed. {told}"[:2000], WIDTH, height, paint)


def _better(lower_is_better: bool | None) -> str:
    return "" if lower_is_better is None else ", lower is better" if lower_is_better else ", higher is better"


def _reach(values: Sequence[float], lines: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: all values, and what lines are not too far from them."""
    finite = [value for value in values if math.isfinite(value)] or list(lines) or [0.0]
    low, high = min(finite), max(finite)
    room = OUTSIDE * (high - low) if high > low else math.inf
    near = [value for value in lines if low - room <= value <= high + room]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.08 * (high - low) or max(abs(high) * 0.1, 0.01)
    return low - margin, high + margin


def _vertical(axes: Axes, lines: Mapping[str, float]) -> None:
    """A dotted line for each baseline, its name above the rows, each on a line of its own."""
    low, high = axes.get_xlim()
    bottom, _ = axes.get_ylim()
    for place, (one, value) in enumerate(sorted(lines.items(), key=lambda pair: pair[1], reverse=True)):
        inside = min(max(value, low), high)
        above = -0.9 - BASELINE * place
        right = inside < (low + high) / 2
        text = f"{label(one, width=32, lines=1)} {number(value)}"
        if inside != value:
            text = f"{text} →" if value > high else f"← {text}"
        else:
            axes.plot([inside] * 2, [above, bottom], ":", color=FAINT, linewidth=1)
        axes.annotate(
            text, (inside, above), (3 if right else -3, 0), textcoords="offset points", alpha=0.75, fontsize=8,
            ha="left" if right else "right", va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(bottom, -0.5 - BASELINE * len(lines))


def differences(name: str, found: Sequence[ArmDifference]) -> Markup:
    """Differences with their intervals around zero; the rows of one metric of one task share an axis."""
    groups: dict[tuple[str, str], list[ArmDifference]] = {}
    for one in found:
        groups.setdefault((one.task, one.metric), []).append(one)
    names = {_key(one): label(f"{one.arm} {MINUS} {one.reference}", width=28) for one in found}
    heights = [LINE * sum(1 + 0.5 * names[_key(one)].count("\n") for one in group) + 0.85 for group in groups.values()]

    def paint(figure: Figure) -> None:
        grid = figure.add_gridspec(len(groups), 1, height_ratios=heights)
        for place, ((task, metric), group) in enumerate(groups.items()):
            axes = figure.add_subplot(grid[place])
            rows(axes, [names[_key(one)] for one in group])
            for row, one in enumerate(group):
                _difference(axes, row, one)
            axes.axvline(0, color=INK, linewidth=0.8)
            reach = max((abs(value) for value in axes.get_xlim()), default=1.0)
            axes.set_xlim(-reach, reach)
            axes.set_title(label(f"{task} {metric}", width=60, lines=1))
            lower = group[0].lower_is_better
            axes.set_xlabel("" if lower is None else "← better  |  worse →" if lower else "← worse  |  better →")

    told = "; ".join(f"{one.arm} minus {one.reference}, {one.task}: {in_words(one)}" for one in found)
    return draw(name, f"Differences with 95 % intervals. {told}"[:2000], WIDTH, sum(heights), paint)


def _key(one: ArmDifference) -> tuple[str, str]:
    return one.arm, one.reference


def _difference(axes: Axes, row: int, one: ArmDifference) -> None:
    if not math.isfinite(one.difference):
        axes.text(0.02, row, "no result", transform=axes.get_yaxis_transform(), va="center", alpha=0.75)
        return
    colour = COLOURS[0] if one.planned else FAINT
    if math.isfinite(one.low) and math.isfinite(one.high):
        axes.plot([one.low, one.high], [row] * 2, color=colour, linewidth=1.6, solid_capstyle="butt")
    values = [value for value in one.by_seed.values() if math.isfinite(value)]
    axes.plot(values, [row + 0.28] * len(values), "o", color=colour, markersize=2.5, alpha=0.6, mew=0)
    axes.plot([one.difference], [row], "D", color=colour, markersize=5)


def in_words(one: ArmDifference) -> str:
    """>>> in_words(ArmDifference("b", "a", "kind", "accuracy", 0.5, 0.25, 0.75))
    '+0.5 (+0.25 to +0.75)'
    """
    told = signed(one.difference)
    return f"{told} ({signed(one.low)} to {signed(one.high)})" if math.isfinite(one.low) else told


def _amount(value: float) -> str:
    if math.isnan(value):
        return "not known"
    return "< 0.001" if 0 < value < 0.001 else f"{value:,.0f}" if value >= 1000 else number(value)


def bars(name: str, axis: str, items: Sequence[tuple[str, Sequence[float]]], *, part: Sequence[float] = ()) -> Markup:
    """A bar a row, as long as the mean, and a dot for each value where there are several; ``part`` of it is dark."""
    height = LINE * sum(1 + 0.5 * label(item).count("\n") for item, _ in items) + 0.7

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows(axes, [label(item) for item, _ in items])
        means = [mean(values) for _, values in items]
        top = max((one for _, values in items for one in values if math.isfinite(one)), default=1.0) or 1.0
        for row, value in enumerate(means):
            shown = 0.0 if math.isnan(value) else value
            axes.barh(row, shown, 0.62, color=COLOURS[0], alpha=0.35 if part else 0.75, linewidth=0)
            if part:
                axes.barh(row, as_number(part[row]), 0.62, color=COLOURS[0], linewidth=0)
            text = _amount(value)
            several = [one for one in items[row][1] if math.isfinite(one)]
            axes.annotate(
                text, (max([shown, *several]), row), (5, 0), textcoords="offset points", va="center", fontsize=8
            )
            if len(several) > 1:
                axes.plot(several, [row] * len(several), "|", color=INK, markersize=6, alpha=0.7)
        axes.set_xlim(0, top * 1.22)
        axes.set_xlabel(axis)

    told = "; ".join(f"{item}: {number(mean(values))}" for item, values in items)
    return draw(name, f"{axis}. {told}"[:2000], WIDTH, height, paint)
