"""The trainer: one run of a recipe, from preparing its data to scoring its best checkpoint.

``prepare -> start -> fit -> score``. Every process calls each method; only the main process writes files.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from accelerate import Accelerator
from torch import Tensor

from mmbert.checkpoint.checkpoint import FailedSaves, attempt, save
from mmbert.checkpoint.manifest import checkpoint_name, verify
from mmbert.checkpoint.resume import Identity, checkpoint_to_resume, finished
from mmbert.checkpoint.tensors import load_weights
from mmbert.data.loader import LoaderOptions, batches, evaluation_batches
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import Shard
from mmbert.distributed import all_reduce_or_raise, on_main_then_broadcast
from mmbert.errors import NumericalError, Preempted
from mmbert.evaluation.evaluate import Evaluation, evaluate
from mmbert.evaluation.results import Result, from_evaluation
from mmbert.experiment.build import build
from mmbert.experiment.experiment import Experiment
from mmbert.experiment.trunk_cache import cache_features
from mmbert.recipe.schema import Recipe
from mmbert.recipe.serialize import to_plain
from mmbert.tracking.console import Console
from mmbert.tracking.run_folder import RunFolder
from mmbert.tracking.status import Status
from mmbert.tracking.trackers import start_trackers
from mmbert.training.artifacts import next_command, result_files, write_results
from mmbert.training.comparison import append_table, make_table, score_baselines
from mmbert.training.failures import call_or_raise_everywhere, explain_resource_errors, next_or_error
from mmbert.training.forecast import forecast_experiment
from mmbert.training.health import SILENT_STEPS, CollapsedInputs, SilentParts, not_finite, skip_step
from mmbert.training.memory import keep_freed_memory
from mmbert.training.ogm_ge import Modulation
from mmbert.training.optimizer import learning_rate_factor
from mmbert.training.signals import Interruption
from mmbert.training.start import announce, prepare_folder, record_environment, restore_state
from mmbert.training.state import TrainingState, checkpoint_content, selection_score
from mmbert.training.step import accumulate_gradients, count_units, step_metrics
from mmbert.types import Batch

FORECAST_MIN_STEPS = 100  # a shorter run is over before a forecast helps


class Trainer:
    """One training run.

    Args:
        recipe: as it was loaded.
        accelerator: of this process.
        folder: the run folder, locked with ``status.lock_run_folder``.
        status: of this job, as ``lock_run_folder`` returns it.
        interruption: whether the run has been asked to stop.
        console: the terminal output.
    """

    experiment: Experiment  # after prepare
    identity: Identity
    state: TrainingState  # after start

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        folder: RunFolder,
        status: Status,
        interruption: Interruption,
        console: Console,
    ):
        self.recipe, self.accelerator, self.folder, self.status = recipe, accelerator, folder, status
        self.interruption, self.console = interruption, console
        self._call_or_raise_everywhere = partial(call_or_raise_everywhere, interruption=interruption)
        self._shard = Shard(accelerator.process_index, accelerator.num_processes)
        self._failed_saves = FailedSaves(console.warn)
        self._datasets: dict[str, SampleDataset] = {}  # of the splits that are evaluated, with their caches
        self._baselines: Sequence[Result] = ()

    def prepare(self) -> None:
        """Read the data, build the model and, if the recipe asks for it, fill the trunk cache."""
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        self.set_experiment(self._call_or_raise_everywhere(lambda: build(self.recipe)))
        if self.recipe.trunk.cache:
            self._call_or_raise_everywhere(lambda: cache_features(self.experiment, self.accelerator.device))

    def set_experiment(self, experiment: Experiment) -> None:
        """Train this experiment, by its resolved recipe: all defaults and data-dependent values are filled in."""
        self.experiment, self.recipe = experiment, experiment.recipe
        self.identity = Identity(experiment.recipe, experiment.data_report.fingerprint)

    def finished_result(self) -> dict[str, Any] | None:
        """What ``result.json`` holds if this very run has been finished before, else None."""
        return on_main_then_broadcast(lambda: finished(self.folder.path, self.identity))

    def start(self, resume: str) -> None:
        """Restore a checkpoint, or start with fresh weights; update the run folder to match the restored step.

        Args:
            resume: ``auto``, ``never``, or the path of a checkpoint or of a run.
        """
        folder, experiment, console, device = self.folder, self.experiment, self.console, self.accelerator.device
        checkpoint = on_main_then_broadcast(
            lambda: checkpoint_to_resume(folder.path, resume, self.identity, console.warn)
        )
        self.state = self._call_or_raise_everywhere(lambda: restore_state(experiment, checkpoint, device))

        def write_start() -> None:
            progress, world = self.state.progress, self.accelerator.num_processes
            prepare_folder(folder, console, experiment, self.identity, progress, checkpoint)
            record_environment(folder, console, world, checkpoint, progress.step)
            self.status.step, self.status.begun = progress.step, True
            self.status.write(folder)

        self._call_or_raise_everywhere(write_start, interruptible=False)
        announce(console, experiment, self.accelerator, folder.path, checkpoint)
        self._call_or_raise_everywhere(self._fit_baselines)

    def _fit_baselines(self) -> None:
        """Before training, so that what is wrong with them shows now; a resumed run finds them in the cache."""
        if self.recipe.evaluate.baselines and self.accelerator.is_main_process:
            self._baselines = score_baselines(self.experiment, self.console)

    def fit(self) -> None:
        """Train to the last step, or until the run is asked to stop.

        Raises:
            NumericalError: on all processes, if more steps than ``train.max_bad_steps`` have a loss or a gradient that
                is not finite.
            Preempted: on all processes, with the state saved, if any of them is asked to stop.
        """
        remaining = self.experiment.total_steps - self.state.progress.step
        if remaining >= FORECAST_MIN_STEPS:
            with explain_resource_errors("the forecast"):
                forecast = forecast_experiment(self.experiment, self.accelerator, steps=remaining)
            self.console.say(f"forecast: {forecast.sentence()}")
        if self.accelerator.is_main_process:
            settings, warn = to_plain(self.recipe), self.console.say
            trackers = start_trackers(self.recipe.train.trackers, self.folder.path, self.recipe.name, settings, warn)
            self.folder.trackers = trackers
        self.console.start(self.experiment.total_steps, done=self.state.progress.step)
        try:
            self._train(self._training_batches())
        finally:
            self.console.stop()

    def _training_batches(self) -> Iterator[Sequence[Batch]]:
        """The micro-batches of each further step, this process's share."""
        return batches(
            self.experiment.plan(),
            self.experiment.dataset("train"),
            steps=self.experiment.total_steps,
            start=self.state.progress.step,
            accumulate=self.recipe.train.accumulate,
            shard=self._shard,
            loading=self._loading,
        )

    def _train(self, training_batches: Iterator[Sequence[Batch]]) -> None:
        """The training loop."""
        model, progress = self.state.model, self.state.progress
        total, interval = self.experiment.total_steps, self.experiment.evaluation_interval
        ogm_ge = self.recipe.balance.ogm_ge
        self._wrapped, self._optimizer = self.accelerator.prepare(model, self.state.optimizer)
        self._silent_parts, self._collapsed_inputs = SilentParts(model), CollapsedInputs()
        self._modulation = Modulation(model, ogm_ge, self.recipe.train.seed) if ogm_ge else None
        try:
            if not progress.evaluated:
                self._evaluate_and_save()
            while progress.step < total and not progress.stopped:
                self._train_step(training_batches)
                if progress.step % interval == 0 or progress.step == total:
                    progress.evaluated = False
                    self._evaluate_and_save()
                elif self._checkpoint_is_due():
                    self._save_checkpoint()
        except Preempted as request:
            saved = progress.step > 0 and self._save_checkpoint()
            state = "checkpoint saved; the same command resumes from here" if saved else "no checkpoint saved"
            raise Preempted(f"{request} at step {progress.step}: {state}") from None

    def _train_step(self, training_batches: Iterator[Sequence[Batch]]) -> None:
        """One optimiser step on all processes."""
        model, optimizer, optim = self.state.model, self._optimizer, self.recipe.optim
        step, total, seed = self.state.progress.step + 1, self.experiment.total_steps, self.recipe.train.seed
        micro_batches, error = next_or_error(training_batches, self.interruption)
        units = count_units(model, micro_batches, self.accelerator.device)
        units = all_reduce_or_raise(units, error=error or self.folder.vanished(), stop=self.interruption.reason).sums
        factor = learning_rate_factor(step, total, warmup=optim.warmup, schedule=optim.schedule)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        with explain_resource_errors(f"step {step}"):
            wrapped, accelerator = self._wrapped, self.accelerator
            weights = model.loss_weights
            outcome = accumulate_gradients(wrapped, micro_batches, units, weights, accelerator, seed=(seed, step))
            factors = self._modulation.apply(outcome, optimizer, step) if self._modulation else {}
            clipped = accelerator.clip_grad_norm_(wrapped.parameters(), optim.clip or math.inf)
            norm = float(cast(Tensor, clipped))
        if problem := not_finite(outcome, norm):
            skip_step(problem, outcome, self.state, self.folder, self.console, most=self.recipe.train.max_bad_steps)
        else:
            for part in self._silent_parts.step(micro_batches) if step > optim.warmup * total else ():
                self.folder.event("silent", step, part=part)
                self.console.warn(f"{part} is not learning: its gradient was 0 in {SILENT_STEPS} steps with rows")
            optimizer.step()
            self.state.average.update()
            self.folder.log(step, "train", step_metrics(outcome.losses, factors))
        optimizer.zero_grad()
        self.state.progress.step = step
        self.status.advance(self.folder, step)
        self.console.step(step, {name: outcome.losses[name] for name in model.tasks if name in outcome.losses})

    def _evaluate_and_save(self) -> None:
        """Evaluate the averaged weights on validation; save a checkpoint if one is due or if the score is the best."""
        progress, train = self.state.progress, self.recipe.train
        with self.state.average.applied():
            evaluation = self._evaluate("validation")
        before = replace(progress)
        better = progress.record_score(selection_score(evaluation, self.state.model, train.select), train.patience)
        self.folder.log(progress.step, "validation", {**evaluation.scores, "all": {"skill": evaluation.mean_skill}})
        self.console.evaluation(progress.step, evaluation)
        for name in self._collapsed_inputs.new(evaluation):
            self.folder.event("collapsed", progress.step, input=name)
            self.console.warn(f"input '{name}' has collapsed: its encoder gives almost the same vector for every row")
        last = progress.stopped or progress.step == self.experiment.total_steps
        if better or train.save_every is None or self._checkpoint_is_due() or last:
            saved = self._save_checkpoint()
            if better and not saved:  # what is not on the disk cannot be the best
                progress.best_step, progress.best_score = before.best_step, before.best_score
                progress.waited = before.waited

    def _checkpoint_is_due(self) -> bool:
        save_every = self.recipe.train.save_every
        return save_every is not None and self.state.progress.step % save_every == 0

    def _save_checkpoint(self) -> bool:
        """Save a checkpoint of this step; False if the disk failed. The third failure in a row raises ResourceError."""
        content, step = checkpoint_content(self.state, self.experiment, self.identity), self.state.progress.step
        reason = on_main_then_broadcast(lambda: attempt(lambda: save(self.folder.checkpoints, step, content, keep=())))
        if not (saved := self._failed_saves.record(reason)):
            self.folder.event("not saved", step, reason=reason)
        return saved

    def score(self, ledger: str | Path | None = None, arm: str = "mmbert") -> dict[str, Any]:
        """Score the best checkpoint on the test split, or on validation without one, and write the results.

        Args:
            ledger: a CSV file to append the result table to.
            arm: the name of this run in the ledger.

        Returns:
            What ``result.json`` holds; empty on all but the main process.
        """
        if not (best_step := self.state.progress.best_step):
            raise NumericalError("no evaluation gave a finite score with a checkpoint that could be saved")
        best = self.folder.checkpoints / checkpoint_name(best_step, evaluated=True)
        self._call_or_raise_everywhere(lambda: verify(best) and load_weights(best, self.experiment.model))
        experiment, console, split = self.experiment, self.console, self.experiment.scored_split
        evaluation, inputs = self._evaluate(split), sorted(experiment.processors.inputs)
        without_one_input = [
            from_evaluation(f"mmbert without {name}", self._evaluate(split, without=[name]))
            for name in (inputs if len(inputs) > 1 else ())
        ]
        self.accelerator.end_training()
        if not self.accelerator.is_main_process:
            return {}
        with self.interruption.interruptible():
            table = make_table(experiment, evaluation, without_one_input, self._baselines)
            files = result_files(experiment, evaluation, self.folder.path, self.accelerator.device, console.warn)
        console.results(table.results, table.comparisons, split=split)
        try:
            if ledger:
                append_table(ledger, self.identity, arm, table)
        finally:  # an error of the ledger is raised, but does not cost the result
            result = write_results(self.folder, self.identity, best_step, table, files)
        console.say("", f"run folder: {self.folder.path}", f"next: {next_command(self.folder.path, experiment)}")
        return result

    def _evaluate(self, split: str, without: Sequence[str] = ()) -> Evaluation:
        if split not in self._datasets:
            self._datasets[split] = self.experiment.dataset(split)
        size = self.recipe.evaluate.batch_size
        split_batches = evaluation_batches(self._datasets[split], size, shard=self._shard, loading=self._loading)
        model, device, stop_reason = self.experiment.model, self.accelerator.device, lambda: self.interruption.reason
        with explain_resource_errors(f"evaluation of {split}"):
            evaluation = evaluate(model, split_batches, device=device, without=without, stop_reason=stop_reason)
        self.experiment.bad_samples.share()
        return evaluation

    @property
    def _loading(self) -> LoaderOptions:
        pin_memory = self.accelerator.device.type == "cuda"
        return LoaderOptions(self.recipe.train.workers, pin_memory, self.experiment.bad_samples.add)
