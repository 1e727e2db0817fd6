"""The sections for reproducing a run or a study: data, environment, recipe."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmbert.report.blocks import Block, Fold, Limits, Section, Words, limited_code, limited_table
from mmbert.report.formatting import enumerate_words, number, plural
from mmbert.report.run_files import RunRecord
from mmbert.report.subject import Subject

REASONS = 20  # different reasons of bad rows that are shown
FACTS = ("python", "platform", "machine", "processes", "commit")
COMPARED = ("python", "machine", "processes", "commit", "versions", "diff")


def data_section(subject: Subject, limits: Limits) -> Section | None:
    """Return the data card: rows of each split, how many have which input and label, which rows were left out.

    Args:
        subject: of the page.
        limits: of the page.
    """
    run = _first_run(subject)
    if run is None or not run.rows:
        return None
    splits = list(run.rows)
    names = list(dict.fromkeys(name for counts in run.rows.values() for name in counts if name != "rows"))
    names.sort(key=lambda name: (name in run.types, name))
    rows: list[list[Any]] = [["rows", "", *(f"{run.rows[split].get('rows', 0):,}" for split in splits)]]
    for name in names:
        kind = "label" if name in run.types else "input"
        rows.append([name, kind, *(_presence(run.rows[split], name) for split in splits)])
    caption = "Rows of each split that have the input or label, and the share of rows where it is absent"
    blocks: list[Block] = [limited_table(["", "", *splits], rows, limits, caption=caption, words=(0, 1))]
    blocks += _bad_rows(run, limits)
    if run.fingerprint:
        blocks.append(Words([f"Fingerprint of all raw values: {run.fingerprint}."]))
    fingerprints = {record.fingerprint for arm in subject.arms for record in arm.runs.values()}
    others = fingerprints - {run.fingerprint, ""}
    if others:
        text = f"Other runs of this study used other data: fingerprints {enumerate_words(sorted(others))}."
        blocks.append(Words([text]))
    return Section("Data", "data", blocks)


def _presence(counts: Mapping[str, int], name: str) -> str:
    rows, present = counts.get("rows", 0), counts.get(name, 0)
    return f"{present:,} ({100 * (rows - present) / rows:.0f} % absent)" if rows else f"{present:,}"


def _bad_rows(run: RunRecord, limits: Limits) -> list[Block]:
    if not run.bad:
        return [Words(["No row was left out because of a bad value."])]
    reasons = Counter((str(sample.get("field", "")), str(sample.get("reason", ""))) for sample in run.bad)
    counts = [[field, reason, f"{count:,}"] for (field, reason), count in reasons.most_common()]
    rows = [[sample.get("row", ""), sample.get("field", ""), sample.get("reason", "")] for sample in run.bad]
    return [
        Words([f"{plural(len(run.bad), 'row')} with a bad value {'was' if len(run.bad) == 1 else 'were'} left out."]),
        limited_table(["field", "reason", "rows"], counts[:REASONS], limits, words=(0, 1)),
        Fold("The rows", [limited_table(["row", "field", "reason"], rows, limits, words=(0, 1, 2))]),
    ]


def environment_section(subject: Subject, limits: Limits) -> Section | None:
    """Return versions, hardware, command and commit of the first run, and how the other runs differ.

    Args:
        subject: of the page.
        limits: of the page.
    """
    run = _first_run(subject)
    if run is None or not run.environment:
        return None
    facts = run.environment
    rows = [[name, _format(facts[name])] for name in FACTS if name in facts]
    command = facts.get("command")
    if isinstance(command, list):
        rows.append(["command", " ".join(["mmbert", *map(str, command)])])
    for name, value in _items(facts.get("hardware")):
        rows.append([f"hardware: {name}", _format(value) + (" GB" if name == "memory" else "")])
    rows += [[f"version: {name}", _format(value)] for name, value in _items(facts.get("versions"))]
    blocks: list[Block] = [limited_table(["", "of the first run"], rows, limits, words=(0, 1))]
    if differing := _differing_facts(subject, facts):
        names = enumerate_words(differing)
        blocks.append(Words([f"Other runs differ in {names}: compare times only between equal machines."]))
    events = [
        f"{event.get('event')} at step {event.get('step')}" for event in run.events if event.get("event") != "begun"
    ]
    if events:
        blocks.append(Words([f"Events during the run: {enumerate_words(events, max_words=20)}."]))
    if isinstance(facts.get("diff"), str) and facts["diff"]:
        blocks.append(Fold("Changes to the code that were not committed", [limited_code(facts["diff"], limits)]))
    return Section("Environment", "environment", blocks)


def _differing_facts(subject: Subject, facts: Mapping[str, Any]) -> list[str]:
    environments = [run.environment for arm in subject.arms for run in arm.runs.values() if run.environment]
    return [name for name in COMPARED if any(environment.get(name) != facts.get(name) for environment in environments)]


def recipe_section(subject: Subject, limits: Limits) -> Section | None:
    """Return what each arm changes in the recipe, and the whole recipe of the reference.

    Args:
        subject: of the page.
        limits: of the page.
    """
    blocks: list[Block] = []
    if subject.is_study:
        rows = [[arm.name, change] for arm in subject.arms for change in arm.changes]
        if not subject.reference.changes:
            rows.insert(0, [subject.reference.name, "nothing: the reference"])
        caption = "What each arm changes in the recipe"
        blocks.append(limited_table(["arm", "changes"], rows, limits, words=(0, 1), caption=caption))
    run = subject.reference.first_run or _first_run(subject)
    if run and run.recipe:
        title = "The whole recipe of the reference" if subject.is_study else "The whole recipe"
        blocks.append(Fold(title, [limited_code(run.recipe, limits)]))
    return Section("Recipe", "recipe", blocks) if blocks else None


def _first_run(subject: Subject) -> RunRecord | None:
    return next((arm.first_run for arm in subject.arms if arm.first_run), None)


def _items(value: Any) -> list[tuple[str, Any]]:
    return sorted(value.items()) if isinstance(value, dict) else []


def _format(value: Any) -> str:
    if isinstance(value, list):
        return enumerate_words([_format(item) for item in value]) if value else "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format(item)}" for name, item in value.items())
    return number(value) if isinstance(value, float) else str(value)
