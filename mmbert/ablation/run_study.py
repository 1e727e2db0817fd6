"""Runs a study: from its file to its finished runs, tables, comparisons and report."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from mmbert.ablation.match_parameters import match_parameters
from mmbert.ablation.pool import LocalPool
from mmbert.ablation.runner import Runner
from mmbert.ablation.runs import PlannedRun, folder_name
from mmbert.ablation.study import Arm, Study, load_study
from mmbert.ablation.summary import report_findings
from mmbert.ablation.tables import adopt_study, write_tables
from mmbert.api import RUNS
from mmbert.errors import MMBertError, OtherProcessError, RecipeError, nearest
from mmbert.experiment.build import build
from mmbert.experiment.data_report import DataReport
from mmbert.experiment.prepare_data import prepare_data, resolve_recipe
from mmbert.experiment.processors import check_tagged
from mmbert.io.ownership import claim
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.console import Console
from mmbert.tracking.ledger import Measured, append_results, as_text, read_results
from mmbert.tracking.outcome import ArmOutcome, Scores, StudyOutcome, scored
from mmbert.tracking.run_folder import read_environment
from mmbert.training.comparison import score_baselines


@dataclass(frozen=True)
class PreparedStudy:
    """A study with its runs; the first seed of all arms comes first."""

    study: Study
    runs: tuple[PlannedRun, ...]
    folder: Path  # of the study's tables
    ledger: Path | None
    measured: Mapping[tuple[int, str, str], Mapping[str, Scores]]  # (seed, recipe, data) -> line -> scores: the ledger

    def find_run(self, arm: str, seed: int) -> PlannedRun:
        """Return the run of an arm and a seed.

        Args:
            arm: the name of a trained arm.
            seed: one of the study's.
        """
        return next(run for run in self.runs if (run.arm.name, run.seed) == (arm, seed))

    def find_scores(self, arm: str, seed: int, masks: str = "") -> Scores | None:
        """Return the test scores of a run, from its folder or else from the ledger; None if neither has them.

        Args:
            arm: the name of a trained arm.
            seed: one of the study's.
            masks: the input that is hidden at test; empty for none.
        """
        run = self.find_run(arm, seed)
        line = f"{arm} without {masks}" if masks else arm
        return run.scores(masks) or self.ledger_scores(run).get(str(as_text(line)))

    def ledger_scores(self, run: PlannedRun) -> Mapping[str, Scores]:
        """Return the scores that the ledger held of a run when the study began, by line.

        Args:
            run: of this study.
        """
        return self.measured.get((run.seed, run.identity, run.data), {})

    def is_finished(self, run: PlannedRun) -> bool:
        """Return whether all scores of a run are known; of the reference also those with an input hidden at test.

        Args:
            run: of this study.
        """
        masks = [arm.masks for arm in self.study.arms if arm.masks] if run.arm is self.study.arms[0] else []
        return all(self.find_scores(run.arm.name, run.seed, name) is not None for name in ("", *masks))


def prepare_study(
    path: str | Path,
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    ledger: str | Path | None = None,
) -> PreparedStudy:
    """Check all arms of a study, and read their data to plan its runs.

    Args:
        path: a study file, or the name of a shipped study.
        overrides: ``section.key=value``, for every arm.
        out: the folder of the study; by default ``runs/<name>``. The folders of its runs are placed beside it and named
            by the hash of recipe, data and code epoch, so that studies share equal runs.
        ledger: a CSV file to which results are appended; runs with results in it count as finished.

    Raises:
        RecipeError: if the study or an arm is not valid.
        MMBertError: if the data of an arm cannot be read.
    """
    study = match_parameters(load_study(path, overrides))
    folder = Path(out) if out else RUNS / study.name
    runs: list[PlannedRun] = []
    problems: list[MMBertError] = []
    for arm in study.trained:
        try:
            data = _scan_data(arm)
        except MMBertError as error:
            problems.append(OtherProcessError(f"arm '{arm.name}': {error}", error.exit_code))
            continue
        runs += [_plan_run(study, arm, seed, data, folder.parent) for seed in study.seeds]
    if problems:
        raise OtherProcessError("\n".join([f"{path}: nothing was run", *map(str, problems)]), problems[0].exit_code)
    order = {seed: position for position, seed in enumerate(study.seeds)}
    runs.sort(key=lambda run: order[run.seed])  # stable: the first seed of all arms is done early
    ledger = Path(ledger) if ledger else None
    return PreparedStudy(study, tuple(runs), folder, ledger, read_results(ledger, study.name) if ledger else {})


def _scan_data(arm: Arm) -> DataReport:
    check_tagged(arm.recipe)
    return prepare_data(arm.recipe).report


def _plan_run(study: Study, arm: Arm, seed: int, data: DataReport, parent: Path) -> PlannedRun:
    recipe = arm.seeded(seed)
    resolved = resolve_recipe(recipe, data)
    has_baselines = arm is study.arms[0] and recipe.evaluate.baselines  # once for the study is enough
    evaluate = recipe.evaluate.model_copy(update={"baselines": has_baselines})
    return PlannedRun(
        arm=arm,
        seed=seed,
        recipe=recipe.model_copy(update={"evaluate": evaluate}),
        folder=parent / folder_name(recipe, data.fingerprint),
        identity=recipe_hash(resolved),
        data=data.fingerprint,
        steps=resolved.train.steps or 0,
    )


def run_study(
    prepared: PreparedStudy,
    *,
    slots: int | None = None,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    plugins: Sequence[str] = (),
    adopt: bool = False,
) -> StudyOutcome:
    """Run the unfinished runs of a study, and write its tables, comparisons and report.

    Args:
        prepared: the study.
        slots: how many runs at the same time; by default one for each GPU, or else for each CPU core.
        only: the arms to run; the tables show what is known of all arms.
        retry_failed: whether failed runs run again.
        plugins: modules that register parts.
        adopt: whether a folder with the tables of a study, which an earlier version wrote, is taken over.

    Raises:
        RecipeError: before anything runs, if ``only`` names an unknown arm.
        IntegrityError: before anything runs, if the folder holds other files than those of a study.
        MMBertError: after everything has run, with the exit code of the first run that failed.
    """
    study, console = prepared.study, Console(speaks=True)
    if unknown := {*only} - {arm.name for arm in study.trained}:
        name = min(unknown)
        known = [arm.name for arm in study.trained]
        raise RecipeError(f"--only: no arm of the study is called '{name}'. {nearest(name, known)}")
    if adopt:
        adopt_study(prepared.folder)
    claim(prepared.folder, "study")
    selected = [run for run in prepared.runs if not only or run.arm.name in only]
    todo = [run for run in selected if not prepared.is_finished(run)]
    pool = LocalPool(slots or default_slots(), gpus=torch.cuda.device_count())
    runs = f"{len(prepared.runs)} run{'s' * (len(prepared.runs) != 1)}"
    console.say(f"{study.name}: {runs}, {len(todo)} of {len(selected)} to do, {pool.slots} at a time")
    for run in selected:  # finished earlier, without this ledger
        if run.result() is not None:
            _append_to_ledger(prepared, run)
    progress = _Progress(prepared, selected, console)
    try:
        runner = Runner(prepared.folder, pool, plugins, progress.on_end, console.say)
        runner.run(todo, retry_failed=retry_failed)
    finally:
        outcome = progress.write_tables()
    if not outcome.baselines and study.arms[0].recipe.evaluate.baselines:  # none if another study trained these runs
        results = score_baselines(build(study.arms[0].recipe), console)
        outcome = replace(outcome, baselines=scored({result.arm: result.scores for result in results}))
        write_tables(outcome, prepared.folder)
    report_findings(outcome, prepared.folder, console)
    _raise_failures(prepared, outcome)
    return outcome


@dataclass
class _Progress:
    """Reports each run that ends, and keeps the tables up to date."""

    prepared: PreparedStudy
    selected: Sequence[PlannedRun]
    console: Console
    failed: dict[tuple[str, int], str] = field(default_factory=dict)  # (arm, seed) -> reason

    def on_end(self, run: PlannedRun, reason: str) -> None:
        study = self.prepared.study
        if reason:
            self.failed[run.arm.name, run.seed] = reason
        else:
            self.failed.pop((run.arm.name, run.seed), None)
            _append_to_ledger(self.prepared, run)
        done = sum(map(self.prepared.is_finished, self.selected))
        value = (run.scores() or {}).get(study.task, {}).get(study.metric)
        result = "done" if value is None else f"{study.task}/{study.metric} {value:.4g}"
        self.console.say(f"[{done}/{len(self.selected)}] {run.label}: {f'failed: {reason}' if reason else result}")
        self.write_tables()

    def write_tables(self) -> StudyOutcome:
        outcome = collect_outcome(self.prepared, self.failed)
        write_tables(outcome, self.prepared.folder)
        return outcome


def _raise_failures(prepared: PreparedStudy, outcome: StudyOutcome) -> None:
    failures = [
        (arm.name, seed, reason) for arm in outcome.arms for seed, reason in arm.failed.items() if not arm.masked
    ]
    if failures:
        name, first_seed, _ = failures[0]
        lines = [f"  {arm}, seed {seed}: {reason}" for arm, seed, reason in failures]
        lines = ["failed, and left out of the tables:", *lines, "--retry-failed runs them again"]
        raise OtherProcessError("\n".join(lines), prepared.find_run(name, first_seed).exit_code())


def collect_outcome(prepared: PreparedStudy, failed: Mapping[tuple[str, int], str]) -> StudyOutcome:
    """Return the results of a study as far as it has run.

    Args:
        prepared: the study.
        failed: (arm, seed) -> reason, of the runs that failed in this call.
    """
    study, arms = prepared.study, []
    for arm in study.arms:
        trained = study.arms[0].name if arm.masks else arm.name
        runs = {seed: prepared.find_run(trained, seed) for seed in study.seeds}
        by_seed = {seed: prepared.find_scores(trained, seed, arm.masks) for seed in study.seeds}
        scores = {seed: run_scores for seed, run_scores in by_seed.items() if run_scores is not None}
        reasons = {
            seed: failed.get((trained, seed)) or run.failure() for seed, run in runs.items() if seed not in scores
        }
        arms.append(
            ArmOutcome(
                name=arm.name,
                changes=arm.changes,
                scores=scores,
                runs={seed: run.folder for seed, run in runs.items() if run.result() is not None},
                failed={seed: reason for seed, reason in reasons.items() if reason},
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
        split=next((result.get("split", "test") for run in prepared.runs if (result := run.result())), "test"),
    )


def default_slots() -> int:
    """Return how many runs at the same time: one for each GPU, or else for each CPU core."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def _baselines(prepared: PreparedStudy) -> Mapping[str, Scores]:
    """The baselines of the first run of the reference that has any."""
    reference = prepared.study.arms[0]
    for run in (runs := [run for run in prepared.runs if run.arm is reference]):
        if (result := run.result()) and result["baselines"]:
            return scored(result["baselines"])
    for run in runs:
        lines = prepared.ledger_scores(run).items()
        if others := {line: scores for line, scores in lines if not line.startswith(reference.name)}:
            return others
    return {}


def _append_to_ledger(prepared: PreparedStudy, run: PlannedRun) -> None:
    """Append the results of a run to the ledger, unless it holds them already."""
    if prepared.ledger is None or (result := run.result()) is None:
        return
    hidden = {name.replace("mmbert", run.arm.name, 1): scores for name, scores in result["hidden"].items()}
    lines = {run.arm.name: result[split := result.get("split", "test")], **hidden, **scored(result["baselines"])}
    commit = read_environment(run.folder).get("commit", "")  # of the run, which may be older than this study
    measured = Measured(prepared.study.name, run.seed, split, run.identity, run.data, commit)
    append_results(prepared.ledger, lines, measured, once=True)
