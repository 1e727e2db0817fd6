"""The section about differences: those between the arms of a study, or of a run to its best baselines."""

import math

from mmbert.report.blocks import Limits, Picture, Section, limited_table, omission_note
from mmbert.report.figures import ArmDifference, draw_differences
from mmbert.report.formatting import NONE, signed
from mmbert.report.subject import Subject

LEVEL = 0.05  # p below which a run is called better or worse than a baseline


def verdict(difference: ArmDifference) -> str:
    """Return a difference in words: it is detected by its p or, where there is none, by its interval.

    Args:
        difference: of a run and a baseline.

    Example:
        >>> verdict(ArmDifference("b", "a", "kind", "accuracy", 0.5, -0.25, 1.25))
        'the difference is +0.5 (95 % interval −0.25 to +1.25): no detectable difference'
    """
    text = f"the difference is {signed(difference.difference)}"
    if not math.isfinite(difference.difference):
        return text
    if difference.difference == 0 and (difference.p == 1 or difference.low == difference.high == 0):
        return "there is no difference"
    facts, detected = [], difference.p is not None and difference.p < LEVEL
    if all(map(math.isfinite, (difference.low, difference.high))):
        facts.append(f"95 % interval {signed(difference.low)} to {signed(difference.high)}")
        if difference.p is None:
            detected = not difference.low <= 0 <= difference.high
    elif difference.p is None:
        return text
    if difference.p is not None:
        facts.append(f"p = {difference.p:.3g}")
    text = f"{text} ({', '.join(facts)})"
    if not detected:
        return f"{text}: no detectable difference"
    if difference.lower_is_better is None:
        return text
    return f"{text}: {'better' if (difference.difference < 0) == difference.lower_is_better else 'worse'}"


def comparisons_section(subject: Subject, limits: Limits) -> Section | None:
    """Return the differences with their intervals, as a figure and as a table.

    Args:
        subject: of the page.
        limits: of the page.
    """
    if not subject.differences:
        return None
    shown = subject.differences[: limits.drawn]
    rows = [_difference_row(difference) for difference in subject.differences]
    head = ["arm", "reference", "metric", "planned", "difference", "95 % interval", "p (Holm)", "pairs"]
    method = "paired over seeds (the small dots)"
    if not subject.is_study:
        rows, head = [[*row[:3], *row[4:7]] for row in rows], [*head[:3], *head[4:6], "p"]
        method = f"from a paired permutation test over groups of {subject.split} rows"
    caption = (
        f"Differences (arm minus reference) with 95 % intervals, {method}. "
        + ("If an interval contains 0, there" if subject.is_study else "With p of .05 or more, there")
        + " is no detectable difference."
        + ("" if subject.is_study else " Below six groups there is no interval.")
    )
    note = omission_note(subject.differences, len(shown), "comparison")
    picture = Picture(draw_differences("differences", shown), " ".join([caption, *note]))
    cells = limited_table(head, rows, limits, words=range(4 if subject.is_study else 3))
    return Section("Comparisons", "comparisons", [picture, cells])


def _difference_row(difference: ArmDifference) -> list[str]:
    has_interval = math.isfinite(difference.low)
    return [
        difference.arm,
        difference.reference,
        f"{difference.task} {difference.metric}",
        "yes" if difference.planned else "no",
        signed(difference.difference),
        f"{signed(difference.low)} to {signed(difference.high)}" if has_interval else NONE,
        NONE if difference.p is None else f"{difference.p:.3g}",
        str(len(difference.by_seed) or NONE),
    ]
