"""The sections behind the scores: confusions and their rows, inputs against tasks, learning curves, cost."""

import math

from mmbert.report.blocks import Block, Fold, Gallery, Limits, Picture, Section, Words, left_out, table
from mmbert.report.confusions import Confusions, confusions, pairs, probability
from mmbert.report.curves import Curve, curves, over_seeds, thinned
from mmbert.report.figures import bars
from mmbert.report.formatting import NONE, as_number, duration, mean, number, plural
from mmbert.report.heatmaps import confusion, heat_map, scatter
from mmbert.report.subject import ArmRecord, Findings

MISTAKES = 5  # pairs of classes whose rows are shown
ARMS = 4  # whose confusions are shown
Points = list[tuple[int, float]]


def mistakes(found: Findings, limits: Limits) -> Section | None:
    """What was predicted for what, the reference's open: confusion matrices with rows behind them, numbers as dots."""
    blocks: list[Block] = []
    having = [arm for arm in found.arms if arm.first_run and arm.first_run.examples]
    for at, arm in enumerate(having[: min(ARMS, limits.panels)]):
        run = arm.first_run
        assert run is not None
        inner: list[Block] = []
        for place, task in enumerate(list(run.types)[: limits.panels]):
            counted = confusions(run.examples, task, most=limits.classes)
            if counted:
                inner += _confusions(counted, task, f"confusion{at}-{place}", limits)
            elif len(numbers := pairs(run.examples, task)) > 1:
                drawn = numbers[: 2 * limits.points]  # the ids' order is by chance
                caption = f"{task}: {plural(len(drawn), 'test row')} of {len(numbers)}; on the dashed line they agree."
                inner.append(Picture(scatter(f"scatter{at}-{place}", task, drawn), caption))
        if inner and found.is_study:
            blocks.append(Fold(f"{arm.name}, seed {run.seed}", inner, open=not blocks))
        else:
            blocks += inner
    if not blocks:
        return None
    if extra := left_out(having, ARMS, "arm"):
        blocks.append(Words(extra))
    return Section("Predictions", "predictions", blocks)


def _confusions(counted: Confusions, task: str, name: str, limits: Limits) -> list[Block]:
    joined = f" The {counted.joined} rarest classes stand together." if counted.joined > 1 else ""
    wrong = sum(len(rows) for _, _, rows in counted.mistakes)
    caption = (
        f"{task}: {plural(counted.rows, 'test row')}, {wrong} of them wrong. Shade is the share of the row.{joined}"
    )
    picture = Picture(confusion(name, task, counted.classes, counted.counts), caption)
    rows = []
    for true, predicted, behind in counted.mistakes[:MISTAKES]:
        sure = sorted(behind, key=lambda row: -_sure(row, task))
        for row in sure[: limits.examples]:
            text, place = str(row.get("text") or "(no text)"), str(row.get("row", row.get("id", "")))
            rows.append([true, predicted, len(behind), number(probability(row, task)), text, place])
    if not rows:
        return [picture, Words(["No row is wrong."])]
    head = ["true", "predicted", "rows", "probability", "text", "row"]
    told = f"{task}: rows behind the commonest confusions, at most {limits.examples} each, the surest mistakes first"
    return [picture, table(head, rows, limits, caption=told, words=range(len(head)), wide=(4,))]


def _sure(row, task: str) -> float:
    value = as_number(probability(row, task))
    return value if math.isfinite(value) else -1.0


def inputs(found: Findings, limits: Limits) -> Section | None:
    """What each task loses when an input is taken from the reference's runs at test time."""
    runs = list(found.reference.runs.values())
    names = list(dict.fromkeys(name for run in runs for name in run.hidden))
    metrics = {task: metric[0] for task, metric in found.tasks().items() if any(task in run.test for run in runs)}
    if not names or not metrics:
        return None
    changes: dict[tuple[str, str], tuple[float, bool | None]] = {}
    for name in names:
        for task, metric in metrics.items():
            pairs = [(run.test.get(task, {}).get(metric, math.nan),
                      run.hidden.get(name, {}).get(task, {}).get(metric, math.nan)) for run in runs]  # fmt: skip
            lower = found.lower_is_better(task, metric)
            change = mean([without - whole for whole, without in pairs])
            changes[name, task] = (change, None if lower is None else (change > 0) == lower)
    shown = names[: limits.drawn], list(metrics.items())[:10]
    kept = {pair: value for pair, value in changes.items() if pair[0] in shown[0] and pair[1] in dict(shown[1])}
    over = f", mean over {plural(len(runs), 'seed')}" if len(runs) > 1 else ""
    caption = (
        f"How each task's score changes when an input is hidden from {found.reference.name} at test time{over}. "
        "Red is worse, blue is better; the shade is relative to the largest change of the column."
    )
    extra = left_out(names, len(shown[0]), "input") + left_out(list(metrics), len(shown[1]), "task")
    picture = Picture(heat_map("inputs", *shown, kept), " ".join([caption, *extra]))
    return Section("Inputs and tasks", "inputs", [picture])


def learning(found: Findings, limits: Limits) -> Section | None:
    """Validation by step, one figure a metric; of a single run also the training loss of each task."""
    trained = [arm for arm in found.arms if arm.runs and not arm.masked]
    panels = {("all", "skill"): "mean skill"} | {
        (task, metrics[0]): f"{task} {metrics[0]}" for task, metrics in found.tasks().items()
    }
    pictures, cut = [], False
    for (task, metric), title in list(panels.items())[: limits.panels]:
        made = [_curve(arm, "validation", task, metric) for arm in trained[: limits.lines]]
        made = [one for one in made if one.steps]
        cut |= any(len(one.steps) > limits.points for one in made)
        if made:
            kept = 0 if found.is_study or len(made) > 1 else trained[0].runs[min(trained[0].runs)].best_step
            thin = [thinned(one, limits.points) for one in made]
            name = f"curve{len(pictures)}"
            pictures.append(Picture(curves(name, f"validation: {title}", thin, best_step=kept), ""))
    if not found.is_study and trained:
        run, losses = trained[0], []
        for task in run.runs[min(run.runs)].types:
            one = _curve(run, "train", task, "loss")
            losses += [Curve(task, one.steps, one.middle, one.low, one.high)] if one.steps else []
        cut |= any(len(one.steps) > limits.points for one in losses) or len(losses) > limits.lines
        if losses:
            thin = [thinned(one, limits.points) for one in losses[: limits.lines]]
            pictures.append(Picture(curves("loss", "training loss", thin), ""))
    if not pictures:
        return None
    told = [f"A line is the mean over {'the seeds of an arm, the band their range' if found.is_study else 'one run'}."]
    told = told if found.is_study else []
    told += left_out(trained, limits.lines, "arm")
    told += [f"Long curves are drawn with {limits.points} of their points, evenly chosen."] * cut
    return Section("Learning curves", "curves", [*([Words([" ".join(told)])] if told else []), Gallery(pictures)])


def _curve(arm: ArmRecord, split: str, task: str, metric: str) -> Curve:
    wanted = {"split": split, "task": task, "metric": metric}
    seeds: list[Points] = [
        [(line["step"], line["value"]) for line in run.log if wanted.items() <= line.items()]
        for run in arm.runs.values()
    ]
    return over_seeds(arm.name, [points for points in seeds if points])


def cost(found: Findings, limits: Limits) -> Section | None:
    """Time, memory and parameters of each arm; of a single run the parameters of each part."""
    trained = [arm for arm in found.arms if arm.runs and not arm.masked]
    seconds = [[_seconds(run) for run in arm.runs.values()] for arm in trained]
    memory = [[as_number(run.cost.get("memory_mb")) for run in arm.runs.values()] for arm in trained]
    counts = [[_parameters(run.cost) for run in arm.runs.values()] for arm in trained]
    if not any(math.isfinite(mean(one)) for one in [*seconds, *memory]):
        return None
    if not found.is_study:
        return _of_one(found, seconds[0][0], memory[0][0], limits)
    names = [arm.name for arm in trained][: limits.drawn]
    drawn = [
        Picture(bars("seconds", "seconds", list(zip(names, seconds, strict=False))), "Time of training and validation.")
    ]
    if any(math.isfinite(mean(one)) for one in memory):
        made = bars("memory", "megabytes", list(zip(names, memory, strict=False)))
        drawn.append(Picture(made, "Most memory held at once."))
    every = [[one[1] / 1e6 for one in found_counts if one] for found_counts in counts]
    if any(every):
        learn = [mean([one[0] / 1e6 for one in found_counts if one]) for found_counts in counts]
        made = bars("parameters", "million parameters", list(zip(names, every, strict=False)), part=learn[: len(names)])
        drawn.append(Picture(made, "All parameters, those that learn in the dark part."))
    rows = [
        [arm.name, duration(mean(took)), number(mean(held)), f"{mean(sizes):,.3f} M" if sizes else NONE]
        for arm, took, held, sizes in zip(trained, seconds, memory, every, strict=True)
    ]
    head = ["arm", "time", "memory, MB", "parameters"]
    extra = left_out(trained, limits.drawn, "arm")
    made = table(head, rows, limits, caption="Means over seeds")
    return Section("Cost", "cost", [Gallery(drawn), *([Words(extra)] if extra else []), made])


def _of_one(found: Findings, seconds: float, memory: float, limits: Limits) -> Section:
    run = found.reference.first_run
    assert run is not None
    told = f"Training and validation took {duration(seconds)}"
    told += f" and held at most {number(memory)} MB of memory." if math.isfinite(memory) else "."
    blocks: list[Block] = [Words([told])]
    parts = run.cost.get("parameters")
    parts = {name: one for name, one in parts.items() if _pair(one)} if isinstance(parts, dict) else {}
    if parts:
        shown = list(parts.items())[: limits.drawn]
        made = bars("parameters", "million parameters", [(name, [one[1] / 1e6]) for name, one in shown],
                    part=[one[0] / 1e6 for _, one in shown])  # fmt: skip
        blocks.append(Picture(made, "Parameters of each part, those that learn in the dark part."))
        rows = [[name, *(f"{count:,}" for count in one)] for name, one in parts.items()]
        blocks.append(table(["part", "learning", "all"], rows, limits))
    return Section("Cost", "cost", blocks)


def _seconds(run) -> float:
    found = as_number(run.cost.get("seconds"))
    return found if math.isfinite(found) else max((as_number(line.get("time")) for line in run.log), default=math.nan)


def _pair(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(one, int) for one in value)


def _parameters(found) -> tuple[int, int] | None:
    parts = found.get("parameters")
    pairs = [one for one in parts.values() if _pair(one)] if isinstance(parts, dict) else []
    return (sum(one[0] for one in pairs), sum(one[1] for one in pairs)) if pairs else None
