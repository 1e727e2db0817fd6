"""Figures with one row for each arm: scores as dots, differences with their intervals, costs as bars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import scipy.stats
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbert.report.formatting import MINUS, as_number, label, mean, number, signed, standard_deviation
from mmbert.report.svg import COLOURS, FAINT, INK, LINE, WIDTH, draw, label_rows

BASELINE = 0.75  # height of a baseline's name, in rows
OUTSIDE = 0.75  # how far beyond the dots a baseline may widen the axis, in units of the dots' range


@dataclass(frozen=True)
class ArmDifference:
    """The difference of two arms in one metric: arm minus reference, paired over the seeds or rows of both."""

    arm: str
    reference: str
    task: str
    metric: str
    difference: float
    low: float = math.nan  # 95 % interval
    high: float = math.nan
    p: float | None = None  # in a study adjusted by Holm's method over the planned comparisons; None if unplanned
    by_seed: Mapping[int, float] = field(default_factory=dict)
    planned: bool = True
    lower_is_better: bool | None = None  # None: unknown


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t interval of a mean over seeds; None for fewer than three values, where it says little.

    Args:
        values: one for each seed; those that are not finite are left out.

    Example:
        >>> low, high = t_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3), t_interval([1.0, 2.0])
        (-0.484, 4.484, None)
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 3:
        return None
    half = float(scipy.stats.t.ppf(0.975, len(finite) - 1)) * standard_deviation(finite) / math.sqrt(len(finite))
    return mean(finite) - half, mean(finite) + half


def draw_dots(
    name: str,
    axis: str,
    arms: Sequence[tuple[str, Mapping[int, float]]],
    baselines: Mapping[str, float],
    *,
    lower_is_better: bool | None = None,
) -> Markup:
    """Draw each seed of each arm as a dot, the mean as a bar with its interval, and baselines as vertical lines.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        axis: the name of the metric.
        arms: (name, seed -> value), the reference first.
        baselines: name -> value. A baseline far from all dots is named at the edge, with an arrow.
        lower_is_better: the direction of the metric, None if unknown.
    """
    lines = {baseline: value for baseline, value in baselines.items() if math.isfinite(value)}
    height = LINE * (sum(1 + 0.5 * label(arm).count("\n") for arm, _ in arms) + BASELINE * len(lines)) + 0.75

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        label_rows(axes, [label(arm) for arm, _ in arms])
        for row, (_, by_seed) in enumerate(arms):
            colour = COLOURS[0] if row else INK
            values = [value for value in by_seed.values() if math.isfinite(value)]
            shifts = [0.16 * ((position % 3) - 1) if len(values) > 1 else 0.0 for position in range(len(values))]
            axes.plot(values, [row + shift for shift in shifts], "o", color=colour, markersize=4, alpha=0.65, mew=0)
            if len(values) > 1:
                axes.plot([mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2)
            if interval := t_interval(values):
                axes.plot(interval, [row] * 2, color=colour, linewidth=1)
            if not values:
                axes.text(0.02, row, "no result", transform=axes.get_yaxis_transform(), va="center", alpha=0.75)
        all_values = [value for _, by_seed in arms for value in by_seed.values()]
        axes.set_xlim(*_axis_range(all_values, list(lines.values())))
        _draw_baselines(axes, lines)
        axes.set_xlabel(axis + _direction(lower_is_better))

    texts = [f"{arm}: {', '.join(map(number, by_seed.values())) or 'none'}" for arm, by_seed in arms]
    return draw(name, f"{axis} of each arm, one dot for each seed. {'; '.join(texts)}"[:2000], WIDTH, height, paint)


def _direction(lower_is_better: bool | None) -> str:
    return "" if lower_is_better is None else ", lower is better" if lower_is_better else ", higher is better"


def _axis_range(values: Sequence[float], baselines: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: they include all values, and those baselines that are not too far away."""
    finite = [value for value in values if math.isfinite(value)] or list(baselines) or [0.0]
    low, high = min(finite), max(finite)
    room = OUTSIDE * (high - low) if high > low else math.inf
    near = [value for value in baselines if low - room <= value <= high + room]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.08 * (high - low) or max(abs(high) * 0.1, 0.01)
    return low - margin, high + margin


def _draw_baselines(axes: Axes, baselines: Mapping[str, float]) -> None:
    """A dotted line for each baseline; the names stand above the rows, one below the other."""
    low, high = axes.get_xlim()
    bottom, _ = axes.get_ylim()
    ordered = sorted(baselines.items(), key=lambda item: item[1], reverse=True)
    for position, (name, value) in enumerate(ordered):
        inside = min(max(value, low), high)
        above = -0.9 - BASELINE * position
        right = inside < (low + high) / 2
        text = f"{label(name, width=32, lines=1)} {number(value)}"
        if inside != value:
            text = f"{text} →" if value > high else f"← {text}"
        else:
            axes.plot([inside] * 2, [above, bottom], ":", color=FAINT, linewidth=1)
        axes.annotate(
            text,
            (inside, above),
            (3 if right else -3, 0),
            textcoords="offset points",
            alpha=0.75,
            fontsize=8,
            ha="left" if right else "right",
            va="center",
            annotation_clip=False,
        )
    axes.set_ylim(bottom, -0.5 - BASELINE * len(baselines))


def draw_differences(name: str, differences: Sequence[ArmDifference]) -> Markup:
    """Draw differences with their intervals around zero; the rows of one metric of one task share an axis.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        differences: at least one.
    """
    groups: dict[tuple[str, str], list[ArmDifference]] = {}
    for difference in differences:
        groups.setdefault((difference.task, difference.metric), []).append(difference)
    labels = {
        _arms(difference): label(f"{difference.arm} {MINUS} {difference.reference}", width=28)
        for difference in differences
    }
    heights = [
        LINE * sum(1 + 0.5 * labels[_arms(difference)].count("\n") for difference in group) + 0.85
        for group in groups.values()
    ]

    def paint(figure: Figure) -> None:
        grid = figure.add_gridspec(len(groups), 1, height_ratios=heights)
        for position, ((task, metric), group) in enumerate(groups.items()):
            axes = figure.add_subplot(grid[position])
            label_rows(axes, [labels[_arms(difference)] for difference in group])
            for row, difference in enumerate(group):
                _draw_difference(axes, row, difference)
            axes.axvline(0, color=INK, linewidth=0.8)
            reach = max((abs(value) for value in axes.get_xlim()), default=1.0)
            axes.set_xlim(-reach, reach)
            axes.set_title(label(f"{task} {metric}", width=60, lines=1))
            lower = group[0].lower_is_better
            axes.set_xlabel("" if lower is None else "← better  |  worse →" if lower else "← worse  |  better →")

    texts = [
        f"{difference.arm} minus {difference.reference}, {difference.task}: {format_difference(difference)}"
        for difference in differences
    ]
    title = f"Differences with 95 % intervals. {'; '.join(texts)}"
    return draw(name, title[:2000], WIDTH, sum(heights), paint)


def _arms(difference: ArmDifference) -> tuple[str, str]:
    return difference.arm, difference.reference


def _draw_difference(axes: Axes, row: int, difference: ArmDifference) -> None:
    if not math.isfinite(difference.difference):
        axes.text(0.02, row, "no result", transform=axes.get_yaxis_transform(), va="center", alpha=0.75)
        return
    colour = COLOURS[0] if difference.planned else FAINT
    if math.isfinite(difference.low) and math.isfinite(difference.high):
        ends = [difference.low, difference.high]
        axes.plot(ends, [row] * 2, color=colour, linewidth=1.6, solid_capstyle="butt")
    values = [value for value in difference.by_seed.values() if math.isfinite(value)]
    axes.plot(values, [row + 0.28] * len(values), "o", color=colour, markersize=2.5, alpha=0.6, mew=0)
    axes.plot([difference.difference], [row], "D", color=colour, markersize=5)


def format_difference(difference: ArmDifference) -> str:
    """Return the difference as text, with its interval if it has one.

    Args:
        difference: of two arms.

    Example:
        >>> format_difference(ArmDifference("b", "a", "kind", "accuracy", 0.5, 0.25, 0.75))
        '+0.5 (+0.25 to +0.75)'
    """
    text = signed(difference.difference)
    if not math.isfinite(difference.low):
        return text
    return f"{text} ({signed(difference.low)} to {signed(difference.high)})"


def _amount(value: float) -> str:
    if math.isnan(value):
        return "not known"
    return "< 0.001" if 0 < value < 0.001 else f"{value:,.0f}" if value >= 1000 else number(value)


def draw_bars(
    name: str, axis: str, items: Sequence[tuple[str, Sequence[float]]], *, part: Sequence[float] = ()
) -> Markup:
    """Draw one bar for each item, as long as the mean of its values, and a mark for each value if there are several.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        axis: the unit of the values.
        items: (name, values).
        part: for each item the length of the dark part of its bar; empty for plain bars.
    """
    height = LINE * sum(1 + 0.5 * label(item).count("\n") for item, _ in items) + 0.7

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        label_rows(axes, [label(item) for item, _ in items])
        finite = [[value for value in values if math.isfinite(value)] for _, values in items]
        longest = max((value for values in finite for value in values), default=1.0) or 1.0
        for row, (_, values) in enumerate(items):
            average = mean(values)
            length = 0.0 if math.isnan(average) else average
            axes.barh(row, length, 0.62, color=COLOURS[0], alpha=0.35 if part else 0.75, linewidth=0)
            if part:
                axes.barh(row, as_number(part[row]), 0.62, color=COLOURS[0], linewidth=0)
            end = max([length, *finite[row]])
            axes.annotate(_amount(average), (end, row), (5, 0), textcoords="offset points", va="center", fontsize=8)
            if len(finite[row]) > 1:
                axes.plot(finite[row], [row] * len(finite[row]), "|", color=INK, markersize=6, alpha=0.7)
        axes.set_xlim(0, longest * 1.22)
        axes.set_xlabel(axis)

    texts = "; ".join(f"{item}: {number(mean(values))}" for item, values in items)
    return draw(name, f"{axis}. {texts}"[:2000], WIDTH, height, paint)
