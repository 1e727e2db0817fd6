"""A study from its file to its tables: planned, run where it is not finished, compared, written down."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mmbert.ablation.match_parameters import match_parameters
from mmbert.ablation.pool import LocalPool
from mmbert.ablation.runner import Runner
from mmbert.ablation.runs import PlannedRun, folder_name
from mmbert.ablation.study import Study, load_study
from mmbert.ablation.summary import report_findings
from mmbert.ablation.tables import write_tables
from mmbert.api import RUNS
from mmbert.errors import Elsewhere, MMBertError, RecipeError, nearest
from mmbert.experiment.build import build
from mmbert.experiment.data_report import present_inputs, survey
from mmbert.experiment.processors import check_tagged
from mmbert.experiment.splits import count, open_splits
from mmbert.recipe.schema import resolve_steps, with_steps
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.bad_samples import BadSamples
from mmbert.tracking.console import Console
from mmbert.tracking.ledger import Measured, append_results, as_text, read_results
from mmbert.tracking.outcome import ArmOutcome, Scores, StudyOutcome
from mmbert.tracking.run_folder import read_environment
from mmbert.training.artifacts import baselines


@dataclass(frozen=True)
class Prepared:
    """A study with its runs, the first seed of all arms first."""

    study: Study
    runs: tuple[PlannedRun, ...]
    folder: Path  # of the study's tables
    ledger: Path | None
    measured: Mapping[tuple[int, str, str], Mapping[str, Scores]]  # (seed, recipe, data) -> line -> scores: the ledger

    def of(self, arm: str, seed: int) -> PlannedRun:
        return next(run for run in self.runs if (run.arm.name, run.seed) == (arm, seed))

    def known(self, arm: str, seed: int, masks: str = "") -> Scores | None:
        """The test scores of a run, from its folder or else from the ledger; None where it has none."""
        run = self.of(arm, seed)
        line = f"{arm} without {masks}" if masks else arm
        return run.scores(masks) or self.lines(run).get(str(as_text(line)))

    def lines(self, run: PlannedRun) -> Mapping[str, Scores]:
        """What the ledger held of a run."""
        return self.measured.get((run.seed, run.identity, run.data), {})

    def finished(self, run: PlannedRun) -> bool:
        """Whether all is known that the study reads of a run: what is masked at test is read off the reference's."""
        masks = [arm.masks for arm in self.study.arms if arm.masks] if run.arm is self.study.arms[0] else []
        return all(self.known(run.arm.name, run.seed, one) is not None for one in ("", *masks))


def ablate(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    ledger: str | Path | None = None,
    slots: int | None = None,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    plugins: Sequence[str] = (),
) -> StudyOutcome:
    """Run what is not finished of a study, and write its tables, comparisons and report.

    Args:
        path: the study file.
        overrides: ``section.key=value``, of every arm.
        out: the folder of the study; by default ``runs/<name>``. Runs go beside it, under the hash of their recipe,
            data and code epoch: studies share those that they have in common.
        ledger: a CSV file that results are appended to; what stands there counts as finished.
        slots: how many runs beside each other; by default one for each GPU, or else for each CPU core.
        only: the arms to run; the tables show what there is of all.
        retry_failed: run again what has failed.
        plugins: modules that register parts.

    Raises ``RecipeError`` before anything runs; after everything has run, the error of the first run that failed.
    """
    prepared = prepare(path, overrides=overrides, out=out, ledger=ledger)
    study, console = prepared.study, Console(speaks=True)
    if unknown := {*only} - {arm.name for arm in study.trained}:
        name = min(unknown)
        raise RecipeError(f"--only: no arm of the study is called '{name}'. {nearest(name, names(study))}")
    wanted = [run for run in prepared.runs if not only or run.arm.name in only]
    todo = [run for run in wanted if not prepared.finished(run)]
    pool = LocalPool(slots or default_slots(), gpus=torch.cuda.device_count())
    console.say(f"{study.name}: {len(prepared.runs)} runs, {len(todo)} of {len(wanted)} to do, {pool.slots} at a time")
    failed: dict[tuple[str, int], str] = {}

    def tell(run: PlannedRun, reason: str) -> None:
        if reason:
            failed[run.arm.name, run.seed] = reason
        else:
            failed.pop((run.arm.name, run.seed), None)
            _record(prepared, run)
        done = sum(prepared.finished(one) for one in wanted)
        scores = run.scores() or {}
        value = scores.get(study.task, {}).get(study.metric)
        said = (
            f"failed: {reason}"
            if reason
            else f"{study.task}/{study.metric} {value:.4g}"
            if value is not None
            else "done"
        )
        console.say(f"[{done}/{len(wanted)}] {run.label}: {said}")
        write_tables(outcome(prepared, failed), prepared.folder)

    for run in wanted:  # what was finished without this ledger
        if run.result() is not None:
            _record(prepared, run)
    try:
        Runner(prepared.folder, pool, plugins, tell, console.say).run(todo, retry_failed=retry_failed)
    finally:
        found = outcome(prepared, failed)
        write_tables(found, prepared.folder)
    if not found.baselines and study.arms[0].recipe.evaluate.baselines:  # runs that another study trained may have none
        built = build(study.arms[0].recipe)
        found = replace(found, baselines={one.arm: one.scores for one in baselines(built, console)})
        write_tables(found, prepared.folder)
    report_findings(found, prepared.folder, console)
    if failures := [(arm.name, seed, why) for arm in found.arms for seed, why in arm.failed.items() if not arm.masked]:
        name, seed, _ = failures[0]
        lines = [f"  {arm}, seed {one}: {why}" for arm, one, why in failures]
        raise Elsewhere("\n".join(["failed, and left out of the tables:", *lines, "--retry-failed runs them again"]),
                        prepared.of(name, seed).exit_code())  # fmt: skip
    return found


def prepare(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    ledger: str | Path | None = None,
) -> Prepared:
    """Check all arms of a study, then read their data: what each run is, and how long."""
    study = match_parameters(load_study(path, overrides))
    folder = Path(out) if out else RUNS / study.name
    runs = []
    problems: list[MMBertError] = []
    for arm in study.trained:
        try:
            check_tagged(arm.recipe)
            opened = open_splits(arm.recipe)
            bad = BadSamples(count(opened), arm.recipe.train.max_bad_fraction)
            _, found = survey(arm.recipe, opened, bad.add)
        except MMBertError as error:
            problems.append(Elsewhere(f"arm '{arm.name}': {error}", error.exit_code))
            continue
        for seed in study.seeds:
            recipe = arm.seeded(seed)
            kept = present_inputs(recipe, found.rows["train"])
            steps, _ = resolve_steps(kept, found.rows["train"]["rows"])
            baselines = recipe.evaluate.model_copy(
                update={"baselines": arm is study.arms[0] and recipe.evaluate.baselines}
            )
            run = PlannedRun(
                arm=arm, seed=seed, steps=steps, data=found.fingerprint,
                recipe=recipe.model_copy(update={"evaluate": baselines}),
                folder=folder.parent / folder_name(recipe, found.fingerprint),
                identity=recipe_hash(with_steps(kept, steps)),
            )  # fmt: skip
            runs.append(run)
    if problems:
        told = "\n".join([f"{path}: nothing was run", *map(str, problems)])
        raise Elsewhere(told, problems[0].exit_code)
    order = {seed: place for place, seed in enumerate(study.seeds)}
    runs.sort(key=lambda run: order[run.seed])  # stable: a table of all arms is there early
    ledger = Path(ledger) if ledger else None
    return Prepared(study, tuple(runs), folder, ledger, read_results(ledger, study.name) if ledger else {})


def outcome(prepared: Prepared, failed: dict[tuple[str, int], str]) -> StudyOutcome:
    """What is there of a study by now."""
    study = prepared.study
    arms = []
    for arm in study.arms:
        trained = study.arms[0].name if arm.masks else arm.name
        runs = {seed: prepared.of(trained, seed) for seed in study.seeds}
        known = {seed: prepared.known(trained, seed, arm.masks) for seed in study.seeds}
        scores = {seed: found for seed, found in known.items() if found is not None}
        lost = {seed: failed.get((trained, seed)) or run.failure() for seed, run in runs.items() if seed not in scores}
        arms.append(
            ArmOutcome(
                name=arm.name,
                changes=arm.changes,
                scores=scores,
                runs={seed: run.folder for seed, run in runs.items() if run.result() is not None},
                failed={seed: reason for seed, reason in lost.items() if reason},
                masked=bool(arm.masks),
            )
        )
    return StudyOutcome(
        name=study.name,
        task=study.task,
        metric=study.metric,
        lower_is_better=study.lower_is_better,
        seeds=study.seeds,
        arms=arms,
        planned=study.planned,
        baselines=_baselines(prepared),
    )


def default_slots() -> int:
    """One for each GPU, or else for each CPU core."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def names(study: Study) -> list[str]:
    return [arm.name for arm in study.trained]


def _baselines(prepared: Prepared) -> Mapping[str, Scores]:
    """Those of the first run of the reference that has any."""
    reference = prepared.study.arms[0]
    for run in prepared.runs:
        if run.arm is reference and (result := run.result()) and result["baselines"]:
            return result["baselines"]
    for run in prepared.runs:
        lines = prepared.lines(run) if run.arm is reference else {}
        if beside := {line: one for line, one in lines.items() if not line.startswith(reference.name)}:
            return beside
    return {}


def _record(prepared: Prepared, run: PlannedRun) -> None:
    """Append a run's results to the ledger, unless they are there."""
    if prepared.ledger is None or (result := run.result()) is None:
        return
    own = {name.replace("mmbert", run.arm.name, 1): one for name, one in result["hidden"].items()}
    lines = {run.arm.name: result["test"], **own, **result["baselines"]}
    trained_by = read_environment(run.folder).get("commit", "")  # which may be long ago
    measured = Measured(prepared.study.name, run.seed, "test", run.identity, run.data, trained_by)
    append_results(prepared.ledger, lines, measured, once=True)
