"""Fake run folders and studies for reports, without training."""

import json
import random
from pathlib import Path

from mmbert.report.figures import ArmDifference
from mmbert.tracking.outcome import ArmOutcome, StudyOutcome

RECIPE = """\
name: {name}
data:
  shop: {{type: files}}
inputs:
  text: {{type: text}}
  photo: {{type: vit}}
tasks:
  kind: {{type: classification}}
  price: {{type: regression}}
"""
KINDS = ("apple", "pear", "plum")
WORDS = ("green", "round", "sweet", "small", "ripe", "fresh", "soft")
ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux",
    "machine": "x86_64, 2 CPU cores",
    "hardware": {"processor": "EPYC", "cores": 2, "threads": 1, "memory": 25.3, "gpus": []},
    "processes": 1,
    "commit": "0123456789",
    "diff": "",
    "command": ["train", "recipes/shop.yaml"],
    "versions": {"torch": "2.14.1", "mmbert": "0.1.0"},
}


def lines(*objects) -> str:
    return "".join(json.dumps(content) + "\n" for content in objects)


def scores(skill: float) -> dict:
    """Scores of a task measured by accuracy and of one measured by an error."""
    price = {"rmse": 2 - skill, "r2": skill - 0.1}
    return {"kind": {"accuracy": skill, "log_loss": 1.5 - skill}, "price": price}


def write_run(
    folder: Path, *, name="shop", seed=0, skill=0.8, classes=KINDS, rows=120, steps=10, text=None, full=True
) -> Path:
    """Write the folder of a finished run; with ``full``, all optional files too."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(name=json.dumps(name)), encoding="utf-8")
    result = {"recipe": "abc", "seed": seed, "best_step": steps, "test": scores(skill)}
    if not full:
        (folder / "result.json").write_text(json.dumps(result))
        return folder
    result["hidden"] = {"mmbert without text": scores(skill - 0.2), "mmbert without photo": scores(skill - 0.04)}
    result["baselines"] = {"constant": scores(0.34), "linear (text)": scores(0.7), "boosting (photo)": scores(0.5)}
    against = {"accuracy_difference": skill - 0.7, "accuracy_difference_low": skill - 0.78}
    against |= {"accuracy_difference_high": skill - 0.62, "accuracy_difference_p": 0.03}
    result["against_best_baseline"] = {"kind": {"baseline": "linear (text)", **against}}
    log = []
    for step in range(1, steps + 1):
        share = step / steps
        now = {"step": step, "time": 3.0 * step}
        for task in ("kind", "price"):
            log.append(
                {**now, "split": "train", "task": task, "metric": "loss", "value": 1.2 - share + rng.random() / 9}
            )
        if step % 2 == 0:
            at = skill * share**0.5 + rng.random() / 50
            log.append({**now, "split": "validation", "task": "all", "metric": "skill", "value": at / 2})
            log.append({**now, "split": "validation", "task": "kind", "metric": "accuracy", "value": at})
            log.append({**now, "split": "validation", "task": "price", "metric": "rmse", "value": 2 - at})
    examples = []
    for row in range(rows):
        true = classes[int(len(classes) * rng.random() ** 2)]
        guess = true if rng.random() < skill else rng.choice(classes)
        written = text if text is not None else " ".join(rng.choices(WORDS, k=9))
        examples.append(
            {
                "id": row,
                "row": f"shop (prices.csv row {row})",
                "text": written,
                "group": None,
                "true": {"kind": true, "price": rng.random()},
                "predicted": {"kind": {"label": guess, "probability": rng.random()}, "price": rng.random()},
            }
        )
    counts = {"train": {"rows": 900, "text": 880, "photo": 500, "kind": 900, "price": 850}}
    counts["test"] = {"rows": rows, "text": rows, "photo": rows // 2, "kind": rows, "price": rows - 1}
    cost = {
        "seconds": 30.0 + seed,
        "memory_mb": 812.5,
        "parameters": {"trunk": [0, 22_000_000], "tasks.kind": [900, 900]},
    }
    bad = {"row": "shop (prices.csv row 7)", "field": "task 'price'", "reason": "expected a number, found 'x'"}
    files = {
        "result.json": json.dumps(result),
        "metrics.jsonl": lines(*log),
        "events.jsonl": lines({"event": "begun", "step": 0, "time": 0.1}, {"event": "resumed", "step": 4, "time": 9}),
        "bad_samples.jsonl": lines(bad),
        "data.json": json.dumps({"fingerprint": "f00d", "rows": counts}),
        "env.json": json.dumps(ENVIRONMENT),
        "examples.jsonl": lines(*examples),
        "cost.json": json.dumps(cost),
    }
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
    return folder


def write_study(
    folder: Path, names=("joint", "no photo", "late fusion"), *, seeds=(0, 1, 2, 3, 4), text=None, classes=KINDS
) -> tuple[StudyOutcome, list[ArmDifference]]:
    """Write a study whose arms get worse by 0.03 each, with their differences to the first."""
    arms, differences = [], []
    skills = {}
    for place, name in enumerate(names):
        rng = random.Random(place)
        skills[name] = {seed: 0.85 - 0.03 * place + rng.random() / 30 for seed in seeds}
        runs = {
            seed: write_run(folder / f"{place}-{seed}", seed=seed, skill=skills[name][seed], text=text, classes=classes)
            for seed in seeds
        }
        changes = (f"fusion.type: joint -> {name}", "fusion.tokens: 4 -> 8") if place else ()
        arms.append(ArmOutcome(name, changes, {seed: scores(skills[name][seed]) for seed in seeds}, runs))
        if place:
            by_seed = {seed: skills[name][seed] - skills[names[0]][seed] for seed in seeds}
            middle = sum(by_seed.values()) / len(by_seed)
            low, high = (middle - 0.02, middle + 0.02) if len(seeds) > 1 else (float("nan"), float("nan"))
            differences.append(
                ArmDifference(
                    name,
                    names[0],
                    "kind",
                    "accuracy",
                    middle,
                    low,
                    high,
                    0.06,
                    by_seed,
                    planned=place < 3,
                    lower_is_better=False,
                )
            )
    baselines = {"constant": scores(0.34), "linear (text)": scores(0.7), "boosting (photo)": scores(0.5)}
    planned = [(name, names[0]) for name in names[1:]]
    return StudyOutcome("shop study", "kind", "accuracy", False, list(seeds), arms, planned, baselines), differences
