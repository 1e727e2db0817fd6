"""One training run, from a recipe to its result: prepared, begun or gone on with, trained, scored, written down."""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from mmbert.checkpoint.checkpoint import Content, FailedSaves, attempt, read_trainer, save
from mmbert.checkpoint.manifest import checkpoint_name, verify
from mmbert.checkpoint.resume import Identity, checkpoint_to_resume
from mmbert.checkpoint.tensors import load_training, load_weights
from mmbert.data.loader import LoaderOptions, batches, evaluation_batches
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import Shard
from mmbert.distributed import together
from mmbert.errors import NumericalError, Preempted, RecipeError, nearest
from mmbert.evaluation.evaluate import Evaluation, evaluate
from mmbert.evaluation.results import from_evaluation
from mmbert.experiment.build import build, facts
from mmbert.experiment.trunk_cache import cache_features
from mmbert.layers.ema import WeightAverage
from mmbert.model import MMBert
from mmbert.recipe.schema import Recipe, resolve_steps, with_steps
from mmbert.recipe.serialize import to_plain
from mmbert.recipe.training import OgmGe, Optim, Train
from mmbert.tracking.console import Console, count_parameters
from mmbert.tracking.environment import environment, other_versions
from mmbert.tracking.run_folder import RunFolder, read_environment
from mmbert.tracking.status import Status
from mmbert.tracking.trackers import start_trackers
from mmbert.training.artifacts import ResultTable, append_table, baselines, differences, record, summary
from mmbert.training.failures import in_words
from mmbert.training.forecast import outlook
from mmbert.training.health import STEPS, Collapse, Silent, not_finite, pass_over
from mmbert.training.memory import keep_freed_memory
from mmbert.training.ogm_ge import Modulation
from mmbert.training.optimizer import factor, make_optimizer
from mmbert.training.signals import Interruption
from mmbert.training.state import Progress, TrainingState
from mmbert.training.step import accumulate_gradients, count_units
from mmbert.types import Batch

T = TypeVar("T")
LONG = 100  # steps: a shorter run is over before a forecast helps


class Run:
    """The parts of one run; every method is called on all processes, of which the main one writes."""

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        folder: RunFolder,
        status: Status,
        signals: Interruption,
        console: Console,
    ):
        self.accelerator, self.folder, self.status = accelerator, folder, status
        self.signals, self.console = signals, console
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        self.built = self._agreed(lambda: build(recipe))
        if recipe.trunk.cache:
            self._agreed(lambda: cache_features(self.built, accelerator.device))
        self.total, self.every = resolve_steps(recipe, len(self.built.items("train")))
        self.identity = Identity(with_steps(self.built.recipe, self.total), self.built.survey.fingerprint)
        self.train, self.optim, self.ogm_ge = self.identity.recipe.train, recipe.optim, recipe.balance.ogm_ge
        self._failed_saves = FailedSaves(console.warn)
        self._items: dict[str, SampleDataset] = {}  # of the splits that are evaluated
        options = LoaderOptions(self.train.workers, accelerator.device.type == "cuda", self.built.bad.add)
        shard = Shard(accelerator.process_index, accelerator.num_processes)
        self._loading: dict[str, Any] = {"shard": shard, "loading": options}

    def begin(self, resume: str) -> TrainingState:
        """The state of a checkpoint, or a fresh one; what the run folder holds fits it afterwards."""
        choose = partial(checkpoint_to_resume, self.folder.path, resume, self.identity, self.console.warn)
        found = self._agreed(lambda: choose() if self.accelerator.is_main_process else None)
        found = broadcast_object_list([found])[0]
        model = self.built.model.to(self.accelerator.device)
        optimizer = make_optimizer(model, self.optim, self.ogm_ge)
        state = TrainingState(model, optimizer, WeightAverage(model, self.train.ema))
        if found is not None:
            self._agreed(lambda: load_training(found, model, state.optimizer, state.average))
            told = read_trainer(found)
            state.progress = Progress(**{one.name: told[one.name] for one in fields(Progress)})
        self._agreed(lambda: self._write_beginning(found, state.progress), breakable=False)
        self.console.banner(f"mmbert: {self.identity.recipe.name}", self._facts(found))
        for warning in self.built.survey.warnings:
            self.console.warn(warning)
        return state

    def _write_beginning(self, checkpoint: Path | None, progress: Progress) -> None:
        """Make the run folder fit the state that training begins with."""
        folder = self.folder
        if checkpoint is None:
            folder.clear()
        else:
            if checkpoint.resolve().parent != folder.checkpoints.resolve():
                names = {
                    checkpoint.name,
                    *([checkpoint_name(progress.best_step, evaluated=True)] * (progress.best_step > 0)),
                }
                folder.adopt(checkpoint.parent.parent, names)
            folder.rewind(progress.step, evaluated=progress.evaluated)
        folder.write("recipe.yaml", self.identity.text)
        folder.write("data.json", {"fingerprint": self.identity.data, "rows": self.built.survey.rows})
        self.built.bad.keep_in(folder)
        self._write_environment(checkpoint, progress.step)
        self.status.step, self.status.begun = progress.step, True
        self.status.write(folder)

    def fit(self, state: TrainingState) -> None:
        """Train to the last step, or until the run is told to stop."""
        options = {"steps": self.total, "start": state.progress.step, "accumulate": self.train.accumulate}
        steps = batches(self.built.plan(self.total), self.built.items("train"), **options, **self._loading)
        if self.total - state.progress.step >= LONG:
            with in_words("the forecast"):
                found = outlook(self.built, self.accelerator, total=self.total - state.progress.step, every=self.every)
            self.console.say(f"forecast: {found.sentence()}")
        if self.accelerator.is_main_process:
            recipe, folder = self.identity.recipe, self.folder
            settings = to_plain(recipe)
            folder.trackers = start_trackers(self.train.trackers, folder.path, recipe.name, settings, self.console.say)
        self.console.start(self.total, done=state.progress.step)
        try:
            fit(
                state, steps, lambda: self._evaluate("validation"), lambda: self._save(state),
                self.accelerator, self.signals, self.folder, self.console,
                train=self.train, optim=self.optim, total=self.total, every=self.every, ogm_ge=self.ogm_ge,
            )  # fmt: skip
        finally:
            self.console.stop()
            self.status.step = state.progress.step

    def score(self, best_step: int, ledger: str | Path | None, arm: str) -> dict[str, Any]:
        """The best checkpoint on the test split beside the baselines, written down; what ``result.json`` holds."""
        if not best_step:
            raise NumericalError("no evaluation gave a finite score with a checkpoint that could be saved")
        best = self.folder.checkpoints / checkpoint_name(best_step, evaluated=True)
        self._agreed(lambda: verify(best) and load_weights(best, self.built.model))
        found = self._evaluate("test")
        ours = from_evaluation("mmbert", found)
        inputs = sorted(self.built.processors) if len(self.built.processors) > 1 else []
        hidden = [from_evaluation(f"mmbert without {name}", self._evaluate("test", [name])) for name in inputs]
        self.accelerator.end_training()
        if not self.accelerator.is_main_process:
            return {}
        with self.signals.breakable():
            beside = baselines(self.built, self.console) if self.built.recipe.evaluate.baselines else []
            compared = differences(self.built, ours, beside, found)
            files = record(self.built, found, self.folder.path, self.accelerator.device)
        table = ResultTable(ours, hidden, beside, compared)
        result = summary(self.identity, best_step, table)
        self.folder.log(best_step, "test", ours.scores)
        self.console.results([ours, *hidden, *beside], compared)
        for name, content in files.items():
            self.folder.write(name, content)
        if ledger:
            append_table(ledger, self.identity, arm, table)
        self.folder.write("result.json", result)  # last: what has it is finished
        path = shlex.quote(str(self.folder.path))
        self.console.say("", f"run folder: {self.folder.path}")
        self.console.say(f"next: python -m mmbert predict {path} --split test --output predictions.jsonl")
        return result

    def _agreed(self, work: Callable[[], T], *, breakable: bool = True) -> T:
        """What ``work`` makes, unless it fails or is interrupted on any process: then all of them raise."""
        made, error = None, None
        try:
            with self.signals.breakable() if breakable else nullcontext(), in_words("preparing"):
                made = work()
        except Preempted:
            pass  # told below
        except Exception as caught:
            error = caught
        together(error=error, stop=self.signals.asked)
        return cast(T, made)

    def _save(self, state: TrainingState) -> bool:
        """A checkpoint; returns whether it is there. Where the disk fails, training goes on without it, twice."""
        progress, built = state.progress, self.built
        content = Content(
            model=state.model,
            optimizer=state.optimizer,
            average=state.average,
            processors={f"inputs.{name}": one for name, one in built.processors.items()}
            | {f"tasks.{name}": one for name, one in built.labels.items()},
            facts=facts(state.model),
            trainer=asdict(progress),
            recipe=self.identity.text,
            identity=self.identity.stamp(),
        )
        reason = None
        if self.accelerator.is_main_process:
            reason = attempt(lambda: save(self.folder.checkpoints, progress.step, content, keep=()))
        reason = broadcast_object_list([reason])[0]
        if not (done := self._failed_saves.note(reason)):
            self.folder.event("not saved", progress.step, reason=reason)
        return done

    def _evaluate(self, split: str, without: Sequence[str] = ()) -> Evaluation:
        if split not in self._items:
            self._items[split] = self.built.items(split)  # what it keeps serves the next evaluation
        items = self._items[split]
        rows = evaluation_batches(items, self.built.recipe.evaluate.batch_size, **self._loading)
        asked = lambda: self.signals.asked  # noqa: E731
        with in_words(f"evaluation of {split}"):
            found = evaluate(self.built.model, rows, device=self.accelerator.device, without=without, asked=asked)
        self.built.bad.share()
        return found

    def _write_environment(self, checkpoint: Path | None, step: int) -> None:
        """Tell and record with what the run begins, or goes on."""
        now = environment(self.accelerator.num_processes)
        if checkpoint is None:
            self.folder.event("begun", step)
        else:
            changed = other_versions(read_environment(self.folder.path), now)
            if changed:
                self.console.warn(f"other versions than before: {', '.join(f'{k} {v}' for k, v in changed.items())}")
            self.folder.event("resumed", step, checkpoint=checkpoint.name, versions=changed)
        self.folder.write("env.json", now)

    def _facts(self, checkpoint: Path | None) -> dict[str, str]:
        built, accelerator = self.built, self.accelerator
        rows = built.survey.rows
        present = {
            name: " / ".join(str(rows[split].get(name, 0)) for split in rows)
            for name in ("rows", *sorted(built.processors), *sorted(built.labels))
        }
        precision = "fp64" if self.train.precision == "fp64" else accelerator.mixed_precision.replace("no", "fp32")
        return {
            "run folder": str(self.folder.path),
            **({"goes on from": checkpoint.name} if checkpoint else {}),
            "processes": f"{accelerator.num_processes} on {accelerator.device.type}, {precision}",
            "steps": f"{self.total} of {self.train.batch_size} rows",
            **{f"{name} (train/validation/test)": counts for name, counts in present.items()},
            **{
                f"{name} parameters (learning / all)": f"{learning / 1e6:.2f} / {total / 1e6:.2f} M"
                for name, (learning, total) in count_parameters(built.model).items()
            },
        }


def fit(
    state: TrainingState,
    steps: Iterator[Sequence[Batch]],
    evaluate: Callable[[], Evaluation],
    save: Callable[[], bool],
    accelerator: Accelerator,
    interruption: Interruption,
    folder: RunFolder,
    console: Console,
    *,
    train: Train,
    optim: Optim,
    total: int,
    every: int,
    ogm_ge: OgmGe | None = None,
) -> None:
    """Train a model from where ``state`` is to step ``total``.

    Args:
        state: changed in place.
        steps: the micro-batches of each further step, this process's share, on any device.
        evaluate: evaluates the validation split; called on all processes.
        save: keeps the state as it is, and returns whether it could; called on all processes.
        total: optimiser steps.
        every: steps between evaluations; the last step is always evaluated.

    Raises ``NumericalError`` on all processes where more steps than ``train.max_bad_steps`` have a loss or a gradient
    that is not finite; ``Preempted`` on all, with the state saved, where any is told to stop; and what reading data
    raises.
    """
    model, progress, average = state.model, state.progress, state.average
    weights = model.weights
    wrapped, optimizer = accelerator.prepare(model, state.optimizer)
    silent, collapse = Silent(model), Collapse()
    modulation = Modulation(model, ogm_ge, train.seed) if ogm_ge else None

    def evaluate_and_save() -> None:
        with average.applied():
            found = evaluate()
        before = replace(progress)
        better = progress.see(selected(found, model, train.select), train.patience)
        folder.log(progress.step, "validation", {**found.scores, "all": {"skill": found.mean_skill}})
        console.evaluation(progress.step, found)
        for name in collapse.see(found):
            folder.event("collapsed", progress.step, input=name)
            console.warn(f"input '{name}' has collapsed: what is read of it is all but the same in every row")
        if better or train.save_every is None or due() or progress.stopped or progress.step == total:
            saved = save()
            if better and not saved:  # what is not on the disk cannot be the best
                progress.best_step, progress.best_score = before.best_step, before.best_score
                progress.waited = before.waited

    def due() -> bool:
        return train.save_every is not None and progress.step % train.save_every == 0

    try:
        if not progress.evaluated:
            evaluate_and_save()
        while progress.step < total and not progress.stopped:
            step = progress.step + 1
            batches, error = _next(steps, interruption)
            units = count_units(model, batches, accelerator.device)
            units = together(units, error=error, stop=interruption.asked).sums
            scale = factor(step, total, warmup=optim.warmup, schedule=optim.schedule)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * scale
            with in_words(f"step {step}"):
                outcome = accumulate_gradients(wrapped, batches, units, weights, accelerator, seed=(train.seed, step))
                factors = modulation.apply(outcome, optimizer, step) if modulation else {}
                norm = float(cast(Tensor, accelerator.clip_grad_norm_(wrapped.parameters(), optim.clip or math.inf)))
            if problem := not_finite(outcome, norm):
                pass_over(step, problem, outcome, state, folder, console, most=train.max_bad_steps)
            else:
                for part in silent.step(batches) if step > optim.warmup * total else ():
                    folder.event("silent", step, part=part)
                    console.warn(f"{part}: no gradient has reached it in {STEPS} steps with rows; it learns nothing")
                optimizer.step()
                average.update()
                folder.log(step, "train", told(outcome.losses, factors))
            optimizer.zero_grad()
            progress.step = step
            console.step(step, {name: loss for name, loss in outcome.losses.items() if name in model.tasks})
            if step % every == 0 or step == total:
                progress.evaluated = False
                evaluate_and_save()
            elif due():
                save()
    except Preempted:
        if progress.step:
            save()
        raise


def _next(steps: Iterator[Sequence[Batch]], interruption: Interruption) -> tuple[Sequence[Batch], Exception | None]:
    """The micro-batches of the next step, or what went wrong with them. A signal ends the wait for them."""
    try:
        with interruption.breakable():
            return next(steps), None
    except Preempted:
        return (), None
    except Exception as error:
        return (), error


def told(losses: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Task -> metric -> value of a step; the factors, which belong to no task, stand under ``all``.

    >>> told({"kind": 0.5, "kind/text": 0.9}, {"text": 1.0})
    {'kind': {'loss': 0.5, 'loss_of_text': 0.9}, 'all': {'factor_of_text': 1.0}}
    """
    found: dict[str, dict[str, float]] = {}
    for name, loss in losses.items():
        task, _, stream = name.partition("/")
        found.setdefault(task, {})[f"loss_of_{stream}" if stream else "loss"] = loss
    return found | ({"all": {f"factor_of_{name}": one for name, one in factors.items()}} if factors else {})


def selected(evaluation: Evaluation, model: MMBert, select: str) -> float:
    """The score, higher is better, by which checkpoints are chosen: mean skill, or a metric of one task.

    Raises ``RecipeError`` where the evaluation has no such score.
    """
    if select == "skill":
        return evaluation.mean_skill
    task, _, metric = select.partition("/")
    scores = evaluation.scores.get(task, {})
    if metric not in scores:
        valid = [f"{name}/{own}" for name, metrics in evaluation.scores.items() for own in metrics]
        raise RecipeError(f"train.select: validation gives no score '{select}'. {nearest(select, ['skill', *valid])}")
    value = scores[metric]
    return -value if metric in model.tasks[task].lower_is_better else value
