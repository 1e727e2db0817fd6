"""The start of a run: restore the state, update the run folder to match it, and print what the run consists of."""

from dataclasses import fields
from pathlib import Path

import torch
from accelerate import Accelerator

from mmbert.checkpoint.checkpoint import import_checkpoints, read_trainer, remove_all
from mmbert.checkpoint.manifest import checkpoint_name, newest
from mmbert.checkpoint.resume import Identity
from mmbert.checkpoint.tensors import load_training
from mmbert.errors import IntegrityError
from mmbert.experiment.experiment import Experiment
from mmbert.io.ownership import is_marked, mark
from mmbert.layers.ema import WeightAverage
from mmbert.tracking.console import Console, count_parameters
from mmbert.tracking.environment import changed_versions, environment
from mmbert.tracking.run_folder import KIND, RunFolder, read_environment, read_log
from mmbert.training.optimizer import make_optimizer
from mmbert.training.state import Progress, TrainingState


def adopt_run(folder: Path) -> None:
    """Mark a folder with a verified checkpoint as that of a run: earlier versions wrote no marker.

    Args:
        folder: of the run.

    Raises:
        IntegrityError: if it holds no verified checkpoint.
    """
    if is_marked(folder, KIND):
        return
    if newest(folder / "checkpoints", lambda reason: None) is None:
        raise IntegrityError(f"--adopt: '{folder}' holds no verified checkpoint of mmbert: it is left as it is")
    mark(folder, KIND)


def restore_state(experiment: Experiment, checkpoint: Path | None, device: torch.device | str) -> TrainingState:
    """The state of a checkpoint, or a fresh one.

    Args:
        experiment: its model is moved to the device.
        checkpoint: to restore; None for a fresh state.
        device: that the model trains on.
    """
    model, recipe = experiment.model.to(device), experiment.recipe
    optimizer = make_optimizer(model, recipe.optim, recipe.balance.ogm_ge)
    state = TrainingState(model, optimizer, WeightAverage(model, recipe.train.ema))
    if checkpoint is not None:
        load_training(checkpoint, model, optimizer, state.average)
        stored = read_trainer(checkpoint)
        state.progress = Progress(**{field.name: stored[field.name] for field in fields(Progress)})
    return state


def prepare_folder(
    folder: RunFolder,
    console: Console,
    experiment: Experiment,
    identity: Identity,
    progress: Progress,
    checkpoint: Path | None,
) -> None:
    """Update the run folder to match the state that training starts from.

    Args:
        folder: of the run.
        console: takes warnings of damaged files.
        experiment: its bad samples are written there from now on.
        identity: of the run.
        progress: of the state.
        checkpoint: that the state was restored from; None for a fresh state, which clears the folder.
    """
    if not folder.writes:
        return
    if checkpoint is None:
        remove_all(folder.checkpoints)
        folder.clear()
    else:
        run = checkpoint.resolve().parent.parent
        log = read_log(run, console.warn)
        if run != folder.path.resolve():
            best = {checkpoint_name(progress.best_step, evaluated=True)} if progress.best_step else set()
            import_checkpoints(
                [checkpoint.parent / name for name in sorted({checkpoint.name, *best})], folder.checkpoints
            )
            folder.clear()
        folder.rewind(log, progress.step, evaluated=progress.evaluated)
    folder.write("recipe.yaml", identity.text)
    folder.write("data.json", {"fingerprint": identity.data, "rows": experiment.data_report.rows})
    experiment.bad_samples.keep_in(folder)


def record_environment(folder: RunFolder, console: Console, world: int, checkpoint: Path | None, step: int) -> None:
    """Write ``env.json`` and the event of the start; warn if versions of libraries have changed.

    Args:
        folder: of the run.
        console: takes the warning.
        world: the number of processes.
        checkpoint: that the run resumes from, if any.
        step: that the run starts from.
    """
    current = environment(world)
    if checkpoint is None:
        folder.event("begun", step)
    else:
        changed = changed_versions(read_environment(folder.path), current)
        if changed:
            versions = ", ".join(f"{library} {change}" for library, change in changed.items())
            console.warn(f"the versions of some libraries have changed since the run began: {versions}")
        folder.event("resumed", step, checkpoint=checkpoint.name, versions=changed)
    folder.write("env.json", current)


def announce(
    console: Console, experiment: Experiment, accelerator: Accelerator, folder: Path, checkpoint: Path | None
) -> None:
    """Print the facts of a run, and the warnings about its data.

    Args:
        console: the terminal output.
        experiment: that is trained.
        accelerator: of this process.
        folder: of the run.
        checkpoint: that it resumes from, if any.
    """
    recipe, rows = experiment.recipe, experiment.data_report.rows
    names = ("rows", *sorted(experiment.processors.inputs), *sorted(experiment.processors.targets))
    counts = {name: " / ".join(str(rows[split].get(name, 0)) for split in rows) for name in names}
    precision = "fp64" if recipe.train.precision == "fp64" else accelerator.mixed_precision.replace("no", "fp32")
    facts = {
        "run folder": str(folder),
        **({"resumes from": checkpoint.name} if checkpoint else {}),
        "processes": f"{accelerator.num_processes} on {accelerator.device.type}, {precision}",
        "length": f"{experiment.total_steps} steps, batch size {recipe.train.batch_size}",
        **{f"{name} (train/validation/test)": count for name, count in counts.items()},
        **{
            f"{name} parameters (learning / all)": f"{learning / 1e6:.2f} / {total / 1e6:.2f} M"
            for name, (learning, total) in count_parameters(experiment.model).items()
        },
    }
    console.banner(f"mmbert: {recipe.name}", facts)
    for warning in experiment.data_report.warnings:
        console.warn(warning)
