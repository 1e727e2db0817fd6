"""The sections that let a reader repeat a study: data, environment, recipe."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmbert.report.blocks import Block, Fold, Limits, Section, Words, code, table
from mmbert.report.formatting import listed, number, plural
from mmbert.report.run_files import RunRecord
from mmbert.report.subject import Findings

REASONS = 20  # different ones of bad rows


def data(found: Findings, limits: Limits) -> Section | None:
    """The data card: rows of each split, who has which input and label, what was left out and why."""
    run = _first(found)
    if run is None or not run.rows:
        return None
    splits = list(run.rows)
    names = list(dict.fromkeys(name for one in run.rows.values() for name in one if name != "rows"))
    names.sort(key=lambda name: (name in run.types, name))
    rows: list[list[Any]] = [["rows", "", *(f"{run.rows[split].get('rows', 0):,}" for split in splits)]]
    for name in names:
        kind = "label" if name in run.types else "input"
        rows.append([name, kind, *(_present(run.rows[split], name) for split in splits)])
    caption = "Rows of each split that have the input or label, and the share that has not"
    blocks: list[Block] = [table(["", "", *splits], rows, limits, caption=caption, words=(0, 1))]
    blocks += _bad(run, limits)
    if run.fingerprint:
        blocks.append(Words([f"Fingerprint of all raw values: {run.fingerprint}."]))
    others = {one.fingerprint for arm in found.arms for one in arm.runs.values()} - {run.fingerprint, ""}
    if others:
        blocks.append(Words([f"Other runs of this study saw other data: fingerprints {listed(sorted(others))}."]))
    return Section("Data", "data", blocks)


def _present(counts: Mapping[str, int], name: str) -> str:
    rows, have = counts.get("rows", 0), counts.get(name, 0)
    return f"{have:,} ({100 * (rows - have) / rows:.0f} % absent)" if rows else f"{have:,}"


def _bad(run: RunRecord, limits: Limits) -> list[Block]:
    if not run.bad:
        return [Words(["No row was left out as bad."])]
    reasons = Counter((str(one.get("field", "")), str(one.get("reason", ""))) for one in run.bad)
    told = [[field, reason, f"{count:,}"] for (field, reason), count in reasons.most_common()]
    rows = [[one.get("row", ""), one.get("field", ""), one.get("reason", "")] for one in run.bad]
    return [
        Words([f"{plural(len(run.bad), 'row')} with a bad value {'was' if len(run.bad) == 1 else 'were'} left out."]),
        table(["field", "reason", "rows"], told[:REASONS], limits, words=(0, 1)),
        Fold("the rows", [table(["row", "field", "reason"], rows, limits, words=(0, 1, 2))]),
    ]


def environment(found: Findings, limits: Limits) -> Section | None:
    """Versions, hardware, command and commit of the first run, and in what the others differ."""
    run = _first(found)
    if run is None or not run.environment:
        return None
    told = run.environment
    rows = [
        [name, _plain(told[name])] for name in ("python", "platform", "machine", "processes", "commit") if name in told
    ]
    command = told.get("command")
    if isinstance(command, list):
        rows.append(["command", " ".join(["mmbert", *map(str, command)])])
    for name, value in _items(told.get("hardware")):
        rows.append([f"hardware: {name}", _plain(value) + (" GB" if name == "memory" else "")])
    rows += [[f"version: {name}", _plain(value)] for name, value in _items(told.get("versions"))]
    blocks: list[Block] = [table(["", "of the first run"], rows, limits, words=(0, 1))]
    if differing := _differing(found, told):
        blocks.append(Words([f"Other runs differ in {listed(differing)}: times compare only on equal machines."]))
    happened = [f"{one.get('event')} at step {one.get('step')}" for one in run.events if one.get("event") != "begun"]
    if happened:
        blocks.append(Words([f"What happened during the run: {listed(happened, most=20)}."]))
    if isinstance(told.get("diff"), str) and told["diff"]:
        blocks.append(Fold("changes to the code that were not committed", [code(told["diff"], limits)]))
    return Section("Environment", "environment", blocks)


def _differing(found: Findings, told: Mapping[str, Any]) -> list[str]:
    others = [run.environment for arm in found.arms for run in arm.runs.values() if run.environment]
    return [name for name in ("python", "machine", "processes", "commit", "versions", "diff")
            if any(one.get(name) != told.get(name) for one in others)]  # fmt: skip


def recipe(found: Findings, limits: Limits) -> Section | None:
    """What each arm changes in the recipe, and the reference's recipe as a whole."""
    blocks: list[Block] = []
    if found.is_study:
        rows = [[arm.name, line] for arm in found.arms for line in arm.changes or ["nothing: the reference"]
                if arm.changes or arm is found.reference]  # fmt: skip
        blocks.append(
            table(["arm", "changes"], rows, limits, words=(0, 1), caption="What an arm changes in the recipe")
        )
    run = found.reference.first_run or _first(found)
    if run and run.recipe:
        blocks.append(
            Fold("the whole recipe" + (" of the reference" if found.is_study else ""), [code(run.recipe, limits)])
        )
    return Section("Recipe", "recipe", blocks) if blocks else None


def _first(found: Findings) -> RunRecord | None:
    return next((arm.first_run for arm in found.arms if arm.first_run), None)


def _items(value: Any) -> list[tuple[str, Any]]:
    return sorted(value.items()) if isinstance(value, dict) else []


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return listed([_plain(one) for one in value]) if value else "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return number(value) if isinstance(value, float) else str(value)
