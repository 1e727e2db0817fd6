"""A small recipe over generated texts and table rows, and training it without a run folder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from accelerate import Accelerator

from mmbert.data.loader import batches, evaluation_batches
from mmbert.data.sampler import StepPlan
from mmbert.evaluation.evaluate import Evaluation, evaluate
from mmbert.experiment.build import Built, build
from mmbert.layers.ema import WeightAverage
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.tracking.console import Console
from mmbert.tracking.run_folder import RunFolder
from mmbert.training.optimizer import make_optimizer
from mmbert.training.signals import Interruption
from mmbert.training.state import Progress, TrainingState
from mmbert.training.trainer import fit
from mmbert.types import Batch

DEBUG = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
SMALL = (
    "inputs.image=null", "inputs.sound=null", "inputs.series=null", "inputs.graph=null", "inputs.cells.width=16",
    "trunk.hidden_size=16", "trunk.heads=2", "train.batch_size=8", "train.steps=6",
)  # fmt: skip


def small(*settings: str) -> Recipe:
    """recipes/debug.yaml with the two inputs that need no library of their own, changed by ``settings``."""
    return load_recipe(DEBUG, [*SMALL, *settings]).recipe


def scored(skill: float, **scores: dict[str, float]) -> Evaluation:
    """An evaluation made up: of this mean skill, and of these metrics by task."""
    return Evaluation({}, {"kind": skill}, scores, {}, {})


def state_of(built: Built) -> TrainingState:
    train, model = built.recipe.train, built.model
    return TrainingState(model, make_optimizer(model, built.recipe.optim), WeightAverage(model, train.ema))


def trained(
    built: Built,
    evaluations: Iterable[Evaluation] | None = None,
    *,
    state: TrainingState | None = None,
    steps: Iterable[Sequence[Batch]] | None = None,
    every: int = 1,
    folder: RunFolder | None = None,
    workers: int = 0,
    signals: Interruption | None = None,
    save: Callable[[TrainingState], object] = lambda state: None,
) -> tuple[Progress, list[int]]:
    """Fit a model; returns how far it came, and the steps at which it was saved.

    ``evaluations`` are what the evaluations say, one after the other; by default the validation split's. ``steps`` are
    the batches, behind which it is told to stop; by default those of the plan, from where ``state`` is. ``save`` is
    called when the state is saved.
    """
    train, optim, total = built.recipe.train, built.recipe.optim, built.recipe.train.steps or 1
    state, signals = state or state_of(built), signals or Interruption()
    items, saved = built.items("train"), []
    plan = StepPlan(train.seed, len(items), train.batch_size)
    options = {"steps": total, "start": state.progress.step, "accumulate": train.accumulate, "workers": workers}
    told = None if evaluations is None else iter(evaluations)

    def some() -> Iterator[Sequence[Batch]]:
        yield from steps or ()
        signals.asked = "no more steps"
        yield ()

    def evaluation() -> Evaluation:
        rows = evaluation_batches(built.items("validation"), 16)
        return evaluate(built.model, rows, asked=lambda: signals.asked) if told is None else next(told)

    def saving() -> bool:
        saved.append(state.progress.step)
        return save(state) is not False

    fit(
        state, batches(plan, items, **options) if steps is None else some(), evaluation, saving,
        Accelerator(cpu=True), signals, folder or RunFolder(Path(), writes=False), Console(speaks=False),
        train=train, optim=optim, total=total, every=every,
    )  # fmt: skip
    return state.progress, saved


def fresh(*settings: str) -> Built:
    return build(small(*settings))
