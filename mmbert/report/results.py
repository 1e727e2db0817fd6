"""The sections about the results: the summary in words, the arms, the comparisons, every task."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from mmbert.report.blocks import Block, Fold, Gallery, Limits, Picture, Section, Words, limited_table, omission_note
from mmbert.report.comparisons import verdict
from mmbert.report.figures import draw_dots
from mmbert.report.formatting import column, enumerate_words, mean, number, plural, signed, standard_deviation
from mmbert.report.run_files import RunRecord
from mmbert.report.subject import ArmRecord, Subject

BASELINES = 3  # drawn in a figure: the best ones; the constant is always drawn


def summary_section(subject: Subject, limits: Limits) -> Section:
    """Return the main results in words; every number is also in a table of the page.

    Args:
        subject: of the page.
        limits: of the page.
    """
    lines = _study_sentences(subject) if subject.is_study else _run_sentences(subject)
    blocks: list[Block] = [Words(lines, listed=not subject.is_study)]
    if sentences := subject.sentences[: limits.rows]:
        note = omission_note(subject.sentences, len(sentences), "sentence")
        blocks.append(Words([*sentences, *note], listed=True))
    return Section("Summary", "summary", blocks)


def _study_sentences(subject: Subject) -> list[str]:
    assert subject.primary is not None
    task, metric = subject.primary
    lower = subject.lower_is_better(task, metric)
    direction = {True: " (lower is better)", False: " (higher is better)", None: ""}[lower]
    others = plural(len(subject.arms) - 1, "other arm")
    lines = [
        f"The study compares the reference “{subject.reference.name}” with {others} by {metric} of {task}{direction} "
        f"on the {subject.split} split, over {plural(len(subject.seeds), 'seed')}."
    ]
    means = subject.means(task, metric)
    reference = means[subject.reference.name]
    if math.isnan(reference):
        lines.append("The reference has no result yet.")
    else:
        lines.append(f"The reference has a mean of {_mean_and_deviation(subject.reference, task, metric)}.")
    best = subject.best(means, task, metric)
    if best is not None and len(subject.arms) > 1:
        if best == subject.reference.name:
            lines.append("No arm has a better mean than the reference.")
        else:
            gap = "" if math.isnan(reference) else f", {signed(means[best] - reference)} relative to the reference"
            lines.append(f"The best mean is that of “{best}”: {number(means[best])}{gap}.")
    lines += _baseline_sentence(subject, task, metric, reference)
    planned = len(subject.seeds) * len(subject.arms)
    missing = planned - sum(len(arm.values(task, metric)) for arm in subject.arms)
    if missing > 0:
        lines.append(f"{missing} of {plural(planned, 'planned run')} {'has' if missing == 1 else 'have'} no result.")
    diverged = sum(not math.isfinite(value) for arm in subject.arms for value in arm.values(task, metric).values())
    if diverged:
        verb = "is not finite and is" if diverged == 1 else "are not finite and are"
        lines.append(f"{plural(diverged, 'result')} {verb} left out of the means.")
    return lines


def _baseline_sentence(subject: Subject, task: str, metric: str, reference: float) -> list[str]:
    values = subject.baseline_values(task, metric)
    best = subject.best(values, task, metric)
    if best is None or math.isnan(reference):
        return []
    if values[best] == reference:
        relation = "equal to"
    else:
        best_of_both = subject.best({"reference": reference, "baseline": values[best]}, task, metric)
        relation = "better than" if best_of_both == "reference" else "worse than"
    which = f"the best of {len(values)} baselines" if len(values) > 1 else "the baseline"
    return [f"The mean of the reference is {relation} {which}, {best}: {number(values[best])}."]


def _run_sentences(subject: Subject) -> list[str]:
    run = subject.reference.first_run
    assert run is not None
    rows = run.rows.get(run.split, {}).get("rows")
    split = f"{plural(rows, 'row')} of the {run.split} split" if rows is not None else f"the {run.split} split"
    if run.split != "test":
        split += ", by which they were also chosen, as no test row has a label"
    lines = [f"Trained with seed {run.seed}. The weights after step {run.best_step} were the best; scored on {split}."]
    differences = {difference.task: difference for difference in subject.differences}
    for task, metrics in run.scores.items():
        metric, difference = next(iter(metrics), ""), differences.get(task)
        text = f"{task}: {metric} {number(metrics.get(metric))}"
        if difference and difference.metric == metric:
            value = subject.baselines.get(difference.reference, {}).get(task, {}).get(metric)
            text += f". The best baseline, {difference.reference}, has {number(value)}; {verdict(difference)}"
        lines.append(f"{text}.")
    return lines


def _mean_and_deviation(arm: ArmRecord, task: str, metric: str) -> str:
    values = list(arm.values(task, metric).values())
    return " ± ".join(column([mean(values), standard_deviation(values)])) if len(values) > 1 else number(mean(values))


def arms_section(subject: Subject, limits: Limits) -> Section | None:
    """Return the primary metric of each arm and baseline, as a figure and as a table.

    Args:
        subject: of the page.
        limits: of the page.
    """
    if subject.primary is None:
        return None
    task, metric = subject.primary
    means = subject.means(task, metric)
    reference = means[subject.reference.name]
    baselines = subject.baseline_values(task, metric)
    values = [list(arm.values(task, metric).values()) for arm in subject.arms]
    shown_means = column([*means.values(), *baselines.values()])
    deviations = column([standard_deviation(arm_values) for arm_values in values])
    rows = []
    for position, arm in enumerate(subject.arms):
        kind = "reference" if not position else "input masked at test time" if arm.masked else "trained"
        gap = signed(means[arm.name] - reference) if position else ""
        seeds = f"{sum(map(math.isfinite, values[position]))} of {len(subject.seeds)}"
        reasons = enumerate_words(sorted(set(arm.failed.values())))
        rows.append([arm.name, kind, shown_means[position], deviations[position], gap, seeds, reasons])
    for position, name in enumerate(baselines, len(subject.arms)):
        gap = signed(baselines[name] - reference)
        rows.append([name, "baseline", shown_means[position], "", gap, "", ""])
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    best = subject.best(means, task, metric)
    strong = {(position, 2) for position, arm in enumerate(subject.arms) if arm.name == best}
    head = ["arm", "kind", f"{metric}, mean", "standard deviation", "minus reference", "seeds", "reasons of failures"]
    caption = f"{metric} of {task} on the {subject.split} split; the best mean of the arms is bold"
    figure = Picture(_score_figure(subject, "arms", task, metric, limits), _score_caption(subject, bool(baselines)))
    note = omission_note(subject.arms, limits.drawn, "arm")
    words = [Words(note)] if note else []
    cells = limited_table(head[: len(rows[0])], rows, limits, caption=caption, words=(0, 1, 6), strong=strong)
    return Section("Arms", "arms", [figure, *words, cells])


def _score_figure(subject: Subject, name: str, task: str, metric: str, limits: Limits) -> Markup:
    arms = [(arm.name, arm.values(task, metric)) for arm in subject.arms[: limits.drawn]]
    if run := _single_run(subject):
        hidden = {name: scores for name, scores in run.hidden.items() if metric in scores.get(task, {})}
        arms += [(_hidden_label(name), {run.seed: scores[task][metric]}) for name, scores in hidden.items()]
    return draw_dots(
        name,
        f"{task} {metric}",
        arms[: limits.drawn],
        drawn_baselines(subject, task, metric),
        lower_is_better=subject.lower_is_better(task, metric),
    )


def _single_run(subject: Subject) -> RunRecord | None:
    return None if subject.is_study else subject.reference.first_run


def _hidden_label(name: str) -> str:
    return f"{name} hidden at test"


def drawn_baselines(subject: Subject, task: str, metric: str) -> dict[str, float]:
    """Return the baselines that a figure shows: the best ones and the constant.

    Args:
        subject: of the page.
        task: the name of the task.
        metric: one of its metrics.
    """
    values = subject.baseline_values(task, metric)
    sign = 1 if subject.lower_is_better(task, metric) else -1
    finite = sorted((name for name in values if math.isfinite(values[name])), key=lambda name: sign * values[name])
    names = finite[:BASELINES] + ["constant"] * ("constant" in finite[BASELINES:])
    return {name: values[name] for name in names}


def _score_caption(subject: Subject, has_baselines: bool) -> str:
    """How to read a figure of scores."""
    if subject.is_study:
        text = "Each dot is a seed, the bar is the mean, the line its 95 % t interval over seeds (from three seeds on)"
    else:
        run = subject.reference.first_run
        text = f"The dot is the score on the {subject.split} split" + (
            "; below it, with one input hidden" if run and run.hidden else ""
        )
    return f"{text}{f'; dotted lines are the {BASELINES} best baselines and the constant' if has_baselines else ''}."


def tasks_section(subject: Subject, limits: Limits) -> Section:
    """Return for each task a table of all metrics, and a figure of the first one.

    Args:
        subject: of the page.
        limits: of the page.
    """
    metrics = subject.tasks()
    shown = list(metrics.items())[: limits.panels]
    blocks: list[Block] = []
    pictures = [
        Picture(_score_figure(subject, f"task{position}", task, names[0], limits), "")
        for position, (task, names) in enumerate(shown)
        if (task, names[0]) != subject.primary
    ]
    if pictures:
        blocks += [Words([_score_caption(subject, bool(subject.baselines))]), Gallery(pictures)]
    blocks += [_task_fold(subject, task, names, limits, is_open=len(shown) <= 2) for task, names in shown]
    if note := omission_note(list(metrics), len(shown), "task"):
        blocks.append(Words(note))
    return Section("Tasks", "tasks", blocks)


def _task_fold(subject: Subject, task: str, metrics: Sequence[str], limits: Limits, *, is_open: bool) -> Block:
    lines: list[tuple[str, list[float], list[float]]] = []  # (name, means, standard deviations)
    for arm in subject.arms:
        values = [list(arm.values(task, metric).values()) for metric in metrics]
        lines.append((arm.name, [*map(mean, values)], [*map(standard_deviation, values)]))
    run = _single_run(subject)
    single = [(_hidden_label(name), scores) for name, scores in run.hidden.items()] if run else []
    for name, scores in [*single, *subject.baselines.items()]:
        if task_scores := scores.get(task, {}):
            lines.append((name, [task_scores.get(metric, math.nan) for metric in metrics], [math.nan] * len(metrics)))
    rows, strong = [[name] for name, _, _ in lines], set()
    for index, metric in enumerate(metrics):
        means = column([line_means[index] for _, line_means, _ in lines])
        deviations = column([line_deviations[index] for _, _, line_deviations in lines])
        for row, (_, _, line_deviations) in enumerate(lines):
            has_deviation = math.isfinite(line_deviations[index])
            rows[row].append(f"{means[row]} ± {deviations[row]}" if has_deviation else means[row])
        values = {str(row): line[1][index] for row, line in enumerate(lines)}
        if (best := subject.best(values, task, metric)) is not None:
            top = lines[int(best)][1][index]
            strong |= {(row, index + 1) for row, line in enumerate(lines) if line[1][index] == top}
    failed = {name: reasons[task] for name, reasons in run.failed_baselines.items() if task in reasons} if run else {}
    rows += [[name, *("none" for _ in metrics)] for name in failed]
    caption = f"{task}: the best of each column is bold"
    table = limited_table(["", *metrics], rows, limits, caption=caption, strong=strong)
    reasons = [f"{name} is none: {reason}." for name, reason in failed.items()]
    return Fold(task, [table, Words(reasons)] if reasons else [table], open=is_open)
