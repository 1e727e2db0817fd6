"""A small recipe over generated texts and table rows, and training it without a run folder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from mmbert.evaluation.evaluate import Evaluation
from mmbert.experiment.build import build
from mmbert.experiment.experiment import Experiment
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.tracking.console import Console
from mmbert.tracking.run_folder import RunFolder
from mmbert.tracking.status import Status
from mmbert.training.signals import Interruption
from mmbert.training.start import restore_state
from mmbert.training.state import Progress, TrainingState
from mmbert.training.trainer import Trainer
from mmbert.types import Batch

DEBUG = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
SMALL = (
    "inputs.image=null",
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "train.batch_size=8",
    "train.steps=6",
)


def small(*settings: str) -> Recipe:
    """recipes/debug.yaml with the two inputs that need no library of their own, changed by ``settings``."""
    return load_recipe(DEBUG, [*SMALL, *settings]).recipe


def scored(skill: float, **scores: dict[str, float]) -> Evaluation:
    """A fake evaluation with this mean skill and these metrics by task."""
    return Evaluation({}, {"kind": skill}, scores, {}, {})


def state_of(experiment: Experiment) -> TrainingState:
    return restore_state(experiment, None, "cpu")


def trained(
    experiment: Experiment,
    evaluations: Iterable[Evaluation] | None = None,
    *,
    state: TrainingState | None = None,
    steps: Iterable[Sequence[Batch]] | None = None,
    every: int = 1,
    folder: RunFolder | None = None,
    workers: int = 0,
    signals: Interruption | None = None,
    save: Callable[[TrainingState], object] = lambda state: None,
    accelerator: Accelerator | None = None,
) -> tuple[Progress, list[int]]:
    """Train an experiment without preparing a folder; returns the progress, and the steps at which it was saved.

    ``evaluations`` are the results of the evaluations, one after the other; by default the validation split's.
    ``steps`` are the batches, after which the run is asked to stop where there are fewer than the recipe's steps; by
    default those of the plan, from where ``state`` is. ``save`` is called when the state is saved.
    """
    recipe, rows = experiment.recipe, experiment.data_report.rows["train"]["rows"]
    evaluate_section = recipe.evaluate.model_copy(update={"every": every * recipe.train.batch_size / rows})
    train_section = recipe.train.model_copy(update={"workers": workers})
    recipe = recipe.model_copy(update={"evaluate": evaluate_section, "train": train_section})
    interruption = signals or Interruption()
    trainer = Trainer(
        recipe,
        accelerator or Accelerator(cpu=True),
        folder or RunFolder(Path(), writes=False),
        Status(),
        interruption,
        Console(speaks=False),
    )
    trainer.set_experiment(replace(experiment, recipe=recipe))
    trainer.state = state or state_of(experiment)
    saved: list[int] = []

    def given_steps() -> Iterator[Sequence[Batch]]:
        yield from steps or ()
        interruption.reason = "no more steps"
        yield ()

    def save_checkpoint() -> bool:
        saved.append(trainer.state.progress.step)
        return save(trainer.state) is not False

    if evaluations is not None:
        results = iter(evaluations)
        trainer._evaluate = lambda split: next(results)
    trainer._save_checkpoint = save_checkpoint
    trainer._train(trainer._training_batches() if steps is None else given_steps())
    return trainer.state.progress, saved


def fresh(*settings: str) -> Experiment:
    return build(small(*settings))
