"""The sections about what was found: the summary in words, the arms, the comparisons, every task."""

import math
from collections.abc import Sequence

from mmbert.report.blocks import Block, Fold, Gallery, Limits, Picture, Section, Words, left_out, table
from mmbert.report.figures import ArmDifference, differences, dots
from mmbert.report.formatting import NONE, column, listed, mean, number, plural, signed, spread
from mmbert.report.subject import ArmRecord, Findings

BASELINES = 3  # drawn in a figure: the best ones, and the constant


def summary(found: Findings, limits: Limits) -> Section:
    """What a reader should know who reads nothing else; every number is one of the tables'."""
    lines = _study_words(found) if found.is_study else _run_words(found)
    blocks: list[Block] = [Words(lines, listed=not found.is_study)]
    sentences = found.sentences[: limits.rows]
    if sentences:
        blocks.append(Words([*sentences, *left_out(found.sentences, len(sentences), "sentence")], listed=True))
    return Section("Summary", "summary", blocks)


def _study_words(found: Findings) -> list[str]:
    assert found.primary is not None
    task, metric = found.primary
    better = {True: " (lower is better)", False: " (higher is better)", None: ""}[found.lower_is_better(task, metric)]
    others = plural(len(found.arms) - 1, "other arm")
    lines = [
        f"The study compares the reference “{found.reference.name}” with {others} by {metric} of {task}{better} on the "
        f"test split, over {plural(len(found.seeds), 'seed')}."
    ]
    means = found.means(task, metric)
    own = means[found.reference.name]
    lines.append(f"The reference reaches {_with_spread(found.reference, task, metric)}." if own == own
                 else "The reference has no result yet.")  # fmt: skip
    best = found.best(means, task, metric)
    if best is not None and len(found.arms) > 1:
        ahead = best == found.reference.name
        beyond = "" if ahead or own != own else f", {signed(means[best] - own)} against the reference"
        lines.append("No arm has a better mean than the reference." if ahead
                     else f"The best mean is that of “{best}”: {number(means[best])}{beyond}.")  # fmt: skip
    lines += _beside_baselines(found, task, metric, own)
    wanted = len(found.seeds) * len(found.arms)
    have = sum(len(arm.values(task, metric)) for arm in found.arms)
    if have < wanted:
        lines.append(f"{wanted - have} of {plural(wanted, 'planned run')} {_have(wanted - have)} no result.")
    diverged = sum(not math.isfinite(one) for arm in found.arms for one in arm.values(task, metric).values())
    if diverged:
        lines.append(f"{plural(diverged, 'result')} {'is' if diverged == 1 else 'are'} not finite and in no mean.")
    return lines


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _beside_baselines(found: Findings, task: str, metric: str, own: float) -> list[str]:
    values = found.of_baselines(task, metric)
    best = found.best(values, task, metric)
    if best is None or own != own:
        return []
    if values[best] == own:
        verdict = "as good as"
    else:
        verdict = "worse than" if found.best({"": own, best: values[best]}, task, metric) == best else "better than"
    return [
        f"The reference is {verdict} the best of {plural(len(values), 'baseline')}, {best}: {number(values[best])}."
    ]


def _run_words(found: Findings) -> list[str]:
    run = found.reference.first_run
    assert run is not None
    rows = run.rows.get("test", {}).get("rows")
    scored = f"on {plural(rows, 'row')} of the test split" if rows is not None else "on the test split"
    lines = [f"Trained with seed {run.seed}; the weights after step {run.best_step} were kept and scored {scored}."]
    compared = {one.task: one for one in found.differences}
    for task, metrics in run.test.items():
        metric = next(iter(metrics), "")
        one = compared.get(task)
        text = f"{task}: {metric} {number(metrics.get(metric))}"
        if one and one.metric == metric:
            value = found.baselines.get(one.reference, {}).get(task, {}).get(metric)
            text += f". The best baseline, {one.reference}, has {number(value)}; {verdict(one)}"
        lines.append(f"{text}.")
    return lines


def verdict(one: ArmDifference) -> str:
    """What an interval says, in words."""
    if not all(math.isfinite(value) for value in (one.difference, one.low, one.high)):
        return f"the difference is {signed(one.difference)}"
    if one.difference == one.low == one.high == 0:
        return "there is no difference"
    told = f"the difference is {signed(one.difference)} (95 % interval {signed(one.low)} to {signed(one.high)})"
    if one.low <= 0 <= one.high:
        return f"{told}, which may be chance"
    if one.lower_is_better is None:
        return told
    return f"{told}: {'better' if (one.difference < 0) == one.lower_is_better else 'worse'}"


def _with_spread(arm: ArmRecord, task: str, metric: str) -> str:
    values = list(arm.values(task, metric).values())
    return " ± ".join(column([mean(values), spread(values)])) if len(values) > 1 else number(mean(values))


def arms(found: Findings, limits: Limits) -> Section | None:
    """A line an arm and a baseline by the primary metric, with the figure of it."""
    if found.primary is None:
        return None
    task, metric = found.primary
    own = found.means(task, metric)
    baselines = found.of_baselines(task, metric)
    values = [list(arm.values(task, metric).values()) for arm in found.arms]
    all_means = column([*own.values(), *baselines.values()])
    spreads = column([spread(one) for one in values])
    best = found.best(own, task, metric)
    rows = []
    for place, arm in enumerate(found.arms):
        kind = "reference" if not place else "input masked at test time" if arm.masked else "trained"
        reasons = listed(sorted(set(arm.failed.values())))
        done = f"{sum(map(math.isfinite, values[place]))} of {len(found.seeds)}"
        away = signed(own[arm.name] - own[found.reference.name]) if place else ""
        rows.append([arm.name, kind, all_means[place], spreads[place], away, done, reasons])
    for place, name in enumerate(baselines, len(found.arms)):
        away = signed(baselines[name] - own[found.reference.name])
        rows.append([name, "baseline", all_means[place], "", away, "", ""])
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    strong = {(place, 2) for place, arm in enumerate(found.arms) if arm.name == best}
    head = ["arm", "kind", f"{metric}, mean", "deviation", "to the reference", "seeds", "why results are missing"]
    told = f"{metric} of {task} on the test split; the best mean of the arms is bold"
    blocks: list[Block] = [
        Picture(_dots(found, "arms", task, metric, limits), _caption(found, bool(baselines))),
        table(head[: len(rows[0])], rows, limits, caption=told, words=(0, 1, 6), strong=strong),
    ]
    extra = left_out(found.arms, limits.drawn, "arm")
    return Section("Arms", "arms", [blocks[0], *([Words(extra)] if extra else []), *blocks[1:]])


def _dots(found: Findings, name: str, task: str, metric: str, limits: Limits):
    drawn = [(arm.name, arm.values(task, metric)) for arm in found.arms[: limits.drawn]]
    if not found.is_study and (run := found.reference.first_run):
        without = {name: scores for name, scores in run.hidden.items() if metric in scores.get(task, {})}
        drawn += [(f"without {name}", {run.seed: scores[task][metric]}) for name, scores in without.items()]
    lower = found.lower_is_better(task, metric)
    return dots(
        name, f"{task} {metric}", drawn[: limits.drawn], shown_baselines(found, task, metric), lower_is_better=lower
    )


def shown_baselines(found: Findings, task: str, metric: str) -> dict[str, float]:
    """The baselines that a figure has room for: the constant, and the best of the others."""
    values = found.of_baselines(task, metric)
    sign = 1 if found.lower_is_better(task, metric) else -1
    finite = sorted((name for name in values if math.isfinite(values[name])), key=lambda name: sign * values[name])
    kept = finite[:BASELINES] + ["constant"] * ("constant" in finite[BASELINES:])
    return {name: values[name] for name in kept}


def _caption(found: Findings, beside: bool) -> str:
    """How to read a figure of dots; ``beside``: whether it has baselines."""
    if found.is_study:
        told = "Each dot is a seed, the bar the mean; the line is the mean's 95 % t interval over seeds, from three on"
    else:
        hidden = found.reference.first_run and found.reference.first_run.hidden
        told = "The dot is the score on the test split" + (", then with an input hidden at test time" if hidden else "")
    return f"{told}{f'; dotted lines are the best {BASELINES} baselines and the constant' if beside else ''}."


def comparisons(found: Findings, limits: Limits) -> Section | None:
    """The differences with their intervals, drawn and in numbers."""
    if not found.differences:
        return None
    shown = found.differences[: limits.drawn]
    rows = [
        [one.arm, one.reference, f"{one.task} {one.metric}", "yes" if one.planned else "no",
         signed(one.difference), f"{signed(one.low)} to {signed(one.high)}" if math.isfinite(one.low) else NONE,
         NONE if one.p is None else f"{one.p:.3g}", str(len(one.by_seed) or NONE)]
        for one in found.differences
    ]  # fmt: skip
    head = ["arm", "reference", "metric", "planned", "difference", "95 % interval", "p", "pairs"]
    if not found.is_study:
        rows, head = [[*row[:3], *row[4:7]] for row in rows], [*head[:3], *head[4:7]]
    over = "paired over seeds, each a small dot" if found.is_study else "paired bootstrap over the test rows"
    caption = f"Differences (arm minus reference) with their 95 % intervals, {over}. An interval over 0 may be chance."
    extra = left_out(found.differences, len(shown), "comparison")
    picture = Picture(differences("differences", shown), " ".join([caption, *extra]))
    return Section(
        "Comparisons", "comparisons", [picture, table(head, rows, limits, words=range(4 if found.is_study else 3))]
    )


def tasks(found: Findings, limits: Limits) -> Section:
    """For each task a table of all metrics, and a figure of the first."""
    names = found.tasks()
    shown = list(names.items())[: limits.panels]
    blocks: list[Block] = []
    drawn = [
        Picture(_dots(found, f"task{place}", task, metrics[0], limits), "")
        for place, (task, metrics) in enumerate(shown)
        if (task, metrics[0]) != found.primary
    ]
    if drawn:
        blocks += [Words([_caption(found, bool(found.baselines))]), Gallery(drawn)]
    blocks += [_task(found, task, metrics, limits, opened=len(shown) <= 2) for task, metrics in shown]
    if extra := left_out(list(names), len(shown), "task"):
        blocks.append(Words(extra))
    return Section("Tasks", "tasks", blocks)


def _task(found: Findings, task: str, metrics: Sequence[str], limits: Limits, *, opened: bool) -> Block:
    lines: list[tuple[str, list[float], list[float]]] = []
    for arm in found.arms:
        values = [list(arm.values(task, metric).values()) for metric in metrics]
        lines.append((arm.name, [mean(one) for one in values], [spread(one) for one in values]))
    if not found.is_study and (run := found.reference.first_run):
        masked = [(f"without {name}", scores.get(task, {})) for name, scores in run.hidden.items()]
    else:
        masked = []
    for name, scores in [*masked, *((name, scores.get(task, {})) for name, scores in found.baselines.items())]:
        if scores:
            lines.append((name, [scores.get(metric, math.nan) for metric in metrics], [math.nan] * len(metrics)))
    cells = [column([line[1][at] for line in lines]) for at in range(len(metrics))]
    deviations = [column([line[2][at] for line in lines]) for at in range(len(metrics))]
    rows, strong = [], set()
    for place, line in enumerate(lines):
        told = [f"{cells[at][place]} ± {deviations[at][place]}" if math.isfinite(line[2][at]) else cells[at][place]
                for at in range(len(metrics))]  # fmt: skip
        rows.append([line[0], *told])
    for at, metric in enumerate(metrics):
        best = found.best({str(place): line[1][at] for place, line in enumerate(lines)}, task, metric)
        if best is not None:
            top = lines[int(best)][1][at]
            strong |= {(place, at + 1) for place, line in enumerate(lines) if line[1][at] == top}
    made = table(["", *metrics], rows, limits, caption=f"{task}: the best of each column is bold", strong=strong)
    return Fold(task, [made], open=opened)
