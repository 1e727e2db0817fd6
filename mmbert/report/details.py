"""The sections behind the scores: predictions and their rows, inputs against tasks, learning curves, cost."""

import math
from collections.abc import Mapping
from typing import Any

from mmbert.report.blocks import Block, Fold, Gallery, Limits, Picture, Section, Words, limited_table, omission_note
from mmbert.report.confusions import Confusions, count_confusions, number_pairs, probability
from mmbert.report.curves import Curve, average_seeds, draw_curves, thin
from mmbert.report.figures import draw_bars
from mmbert.report.formatting import NONE, as_number, duration, mean, number, plural
from mmbert.report.heatmaps import draw_confusion, draw_heat_map, draw_scatter
from mmbert.report.run_files import RunRecord
from mmbert.report.subject import ArmRecord, Subject

MISTAKES = 5  # pairs of classes whose rows are shown
MAX_ARMS = 4  # whose predictions are shown
MAX_TASKS = 10  # columns of the heat map
Points = list[tuple[int, float]]


def predictions_section(subject: Subject, limits: Limits) -> Section | None:
    """Return predictions against true values: confusion matrices with the rows behind them, numbers as dots.

    Args:
        subject: of the page.
        limits: of the page.
    """
    blocks: list[Block] = []
    runs = [(arm, arm.first_run) for arm in subject.arms if arm.first_run and arm.first_run.examples]
    for position, (arm, run) in enumerate(runs[: min(MAX_ARMS, limits.panels)]):
        arm_blocks: list[Block] = []
        for number_of_task, task in enumerate(list(run.types)[: limits.panels]):
            name = f"{position}-{number_of_task}"
            confusions = count_confusions(run.examples, task, max_classes=limits.classes)
            if confusions:
                arm_blocks += _confusion_blocks(confusions, task, f"confusion{name}", limits)
            elif len(pairs := number_pairs(run.examples, task)) > 1:
                drawn = pairs[: 2 * limits.points]  # examples are in random order
                caption = f"{task}: {len(drawn):,} of {plural(len(pairs), 'test row')}; the dashed line is equality."
                arm_blocks.append(Picture(draw_scatter(f"scatter{name}", task, drawn), caption))
        if arm_blocks and subject.is_study:
            blocks.append(Fold(f"{arm.name}, seed {run.seed}", arm_blocks, open=not blocks))
        else:
            blocks += arm_blocks
    if not blocks:
        return None
    if note := omission_note(runs, MAX_ARMS, "arm"):
        blocks.append(Words(note))
    return Section("Predictions", "predictions", blocks)


def _confusion_blocks(confusions: Confusions, task: str, name: str, limits: Limits) -> list[Block]:
    merged = f" The {confusions.merged} rarest classes are merged." if confusions.merged > 1 else ""
    wrong = sum(len(rows) for _, _, rows in confusions.mistakes)
    caption = (
        f"{task}: {plural(confusions.rows, 'test row')}, {wrong} of them wrong. The shade is the share of the row."
        f"{merged}"
    )
    picture = Picture(draw_confusion(name, task, confusions.classes, confusions.counts), caption)
    rows = []
    for true, predicted, examples in confusions.mistakes[:MISTAKES]:
        for row in sorted(examples, key=lambda row: -_confidence(row, task))[: limits.examples]:
            text, place = str(row.get("text") or "(no text)"), str(row.get("row", row.get("id", "")))
            rows.append([true, predicted, len(examples), number(probability(row, task)), text, place])
    if not rows:
        return [picture, Words(["No row is wrong."])]
    head = ["true", "predicted", "rows", "probability", "text", "row"]
    caption = (
        f"{task}: rows of the most frequent confusions, at most {limits.examples} for each, the most confident "
        "mistakes first"
    )
    return [picture, limited_table(head, rows, limits, caption=caption, words=range(len(head)), wide=(4,))]


def _confidence(row: Mapping[str, Any], task: str) -> float:
    value = as_number(probability(row, task))
    return value if math.isfinite(value) else -1.0


def inputs_section(subject: Subject, limits: Limits) -> Section | None:
    """Return how each task's score changes if one input is hidden from the reference's runs at test time.

    Args:
        subject: of the page.
        limits: of the page.
    """
    runs = list(subject.reference.runs.values())
    inputs = list(dict.fromkeys(name for run in runs for name in run.hidden))
    metrics = {task: names[0] for task, names in subject.tasks().items() if any(task in run.scores for run in runs)}
    if not inputs or not metrics:
        return None
    shown, tasks = inputs[: limits.drawn], list(metrics.items())[:MAX_TASKS]
    changes: dict[tuple[str, str], tuple[float, bool | None]] = {}
    for name in shown:
        for task, metric in tasks:
            lower = subject.lower_is_better(task, metric)
            change = mean(
                [_value(run.hidden.get(name, {}), task, metric) - _value(run.scores, task, metric) for run in runs]
            )
            changes[name, task] = (change, None if lower is None else (change > 0) == lower)
    over = f", mean over {plural(len(runs), 'seed')}" if len(runs) > 1 else ""
    caption = (
        f"How each task's score changes if an input is hidden from {subject.reference.name} at test time{over}. "
        "Red is worse, blue is better; the shade is relative to the largest change of the column."
    )
    notes = omission_note(inputs, len(shown), "input") + omission_note(list(metrics), len(tasks), "task")
    picture = Picture(draw_heat_map("inputs", shown, tasks, changes), " ".join([caption, *notes]))
    return Section("Inputs and tasks", "inputs", [picture])


def _value(scores: Mapping[str, Mapping[str, float]], task: str, metric: str) -> float:
    return scores.get(task, {}).get(metric, math.nan)


def learning_section(subject: Subject, limits: Limits) -> Section | None:
    """Return validation scores by step, one figure for each metric; for a single run also its training losses.

    Args:
        subject: of the page.
        limits: of the page.
    """
    trained = [arm for arm in subject.arms if arm.runs and not arm.masked]
    panels = {("all", "skill"): "mean skill"} | {
        (task, metrics[0]): f"{task} {metrics[0]}" for task, metrics in subject.tasks().items()
    }
    pictures, is_cut = [], False
    for (task, metric), title in list(panels.items())[: limits.panels]:
        all_curves = [_curve(arm, "validation", task, metric) for arm in trained[: limits.lines]]
        curves = [curve for curve in all_curves if curve.steps]
        is_cut |= any(len(curve.steps) > limits.points for curve in curves)
        if curves:
            single = None if subject.is_study or len(curves) > 1 else trained[0].first_run
            thinned = [thin(curve, limits.points) for curve in curves]
            best_step = single.best_step if single else 0
            figure = draw_curves(f"curve{len(pictures)}", f"validation: {title}", thinned, best_step=best_step)
            pictures.append(Picture(figure, ""))
    if not subject.is_study and trained and (run := trained[0].first_run):
        losses = [(task, _curve(trained[0], "train", task, "loss")) for task in run.types]
        curves = [
            Curve(task, curve.steps, curve.middle, curve.low, curve.high) for task, curve in losses if curve.steps
        ]
        is_cut |= any(len(curve.steps) > limits.points for curve in curves) or len(curves) > limits.lines
        if curves:
            thinned = [thin(curve, limits.points) for curve in curves[: limits.lines]]
            pictures.append(Picture(draw_curves("loss", "training loss", thinned), ""))
    if not pictures:
        return None
    sentences = ["A line is the mean over the seeds of an arm, the band is their range."] if subject.is_study else []
    sentences += omission_note(trained, limits.lines, "arm")
    sentences += [f"Long curves are drawn with {limits.points} of their points, evenly chosen."] * is_cut
    words = [Words([" ".join(sentences)])] if sentences else []
    return Section("Learning curves", "curves", [*words, Gallery(pictures)])


def _curve(arm: ArmRecord, split: str, task: str, metric: str) -> Curve:
    keys = {"split": split, "task": task, "metric": metric}
    seeds: list[Points] = [
        [(line["step"], line["value"]) for line in run.log if keys.items() <= line.items()] for run in arm.runs.values()
    ]
    return average_seeds(arm.name, [points for points in seeds if points])


def cost_section(subject: Subject, limits: Limits) -> Section | None:
    """Return time, memory and parameters of each arm; for a single run the parameters of each part.

    Args:
        subject: of the page.
        limits: of the page.
    """
    trained = [arm for arm in subject.arms if arm.runs and not arm.masked]
    seconds = [[_seconds(run) for run in arm.runs.values()] for arm in trained]
    memory = [[as_number(run.cost.get("memory_mb")) for run in arm.runs.values()] for arm in trained]
    counts = [[count for run in arm.runs.values() if (count := _parameters(run.cost))] for arm in trained]
    if not any(math.isfinite(mean(values)) for values in [*seconds, *memory]):
        return None
    if not subject.is_study:
        return _run_cost(subject, seconds[0][0], memory[0][0], limits)
    names = [arm.name for arm in trained][: limits.drawn]
    figure = draw_bars("seconds", "seconds", list(zip(names, seconds, strict=False)))
    pictures = [Picture(figure, "Time of training and validation.")]
    if any(math.isfinite(mean(values)) for values in memory):
        figure = draw_bars("memory", "megabytes", list(zip(names, memory, strict=False)))
        pictures.append(Picture(figure, "Peak memory."))
    totals = [[total / 1e6 for _, total in arm_counts] for arm_counts in counts]
    if any(totals):
        learning = [mean([learned / 1e6 for learned, _ in arm_counts]) for arm_counts in counts]
        items = list(zip(names, totals, strict=False))
        figure = draw_bars("parameters", "million parameters", items, part=learning[: len(names)])
        pictures.append(Picture(figure, "All parameters; the dark part is those that are trained."))
    rows = [
        [arm.name, duration(mean(times)), number(mean(peaks)), f"{mean(sizes):,.3f} M" if sizes else NONE]
        for arm, times, peaks, sizes in zip(trained, seconds, memory, totals, strict=True)
    ]
    note = omission_note(trained, limits.drawn, "arm")
    means = limited_table(["arm", "time", "memory, MB", "parameters"], rows, limits, caption="Means over seeds")
    return Section("Cost", "cost", [Gallery(pictures), *([Words(note)] if note else []), means])


def _run_cost(subject: Subject, seconds: float, memory: float, limits: Limits) -> Section:
    run = subject.reference.first_run
    assert run is not None
    text = f"Training and validation took {duration(seconds)}"
    text += f" and at most {number(memory)} MB of memory." if math.isfinite(memory) else "."
    blocks: list[Block] = [Words([text])]
    parameters = run.cost.get("parameters")
    parts = {name: pair for name, pair in parameters.items() if _is_pair(pair)} if isinstance(parameters, dict) else {}
    if parts:
        shown = list(parts.items())[: limits.drawn]
        items = [(name, [total / 1e6]) for name, (_, total) in shown]
        figure = draw_bars("parameters", "million parameters", items, part=[learned / 1e6 for _, (learned, _) in shown])
        blocks.append(Picture(figure, "Parameters of each part; the dark part is those that are trained."))
        rows = [[name, *(f"{count:,}" for count in pair)] for name, pair in parts.items()]
        blocks.append(limited_table(["part", "trained", "all"], rows, limits))
    return Section("Cost", "cost", blocks)


def _seconds(run: RunRecord) -> float:
    seconds = as_number(run.cost.get("seconds"))
    if math.isfinite(seconds):
        return seconds
    return max((as_number(line.get("time")) for line in run.log), default=math.nan)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(count, int) for count in value)


def _parameters(cost: Mapping[str, Any]) -> tuple[int, int] | None:
    """How many parameters of a run are trained, and how many there are; None if its folder does not say."""
    parts = cost.get("parameters")
    pairs = [pair for pair in parts.values() if _is_pair(pair)] if isinstance(parts, dict) else []
    return (sum(learned for learned, _ in pairs), sum(total for _, total in pairs)) if pairs else None
