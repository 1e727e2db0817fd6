"""A small recipe over generated texts and table rows, and training it without a run folder."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from accelerate import Accelerator

from mmbert.build import Built, build
from mmbert.data.loader import batches, evaluation_batches
from mmbert.data.plan import StepPlan
from mmbert.evaluate.evaluator import Evaluation, evaluate
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.train.console import Console
from mmbert.train.folder import RunFolder
from mmbert.train.loop import Progress, fit
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


def trained(
    built: Built,
    evaluations: Iterable[Evaluation] | None = None,
    *,
    steps: Iterable[Sequence[Batch]] | None = None,
    every: int = 1,
    folder: RunFolder | None = None,
    workers: int = 0,
    keep: Callable[[], None] = lambda: None,
) -> tuple[Progress, list[int]]:
    """Fit a model; returns what was seen, and the steps at which it was kept.

    ``evaluations`` are what the evaluations say, one after the other; by default the validation split's. ``steps`` are
    the batches; by default those of the plan. ``keep`` is called when the model is kept.
    """
    train, optim, total = built.recipe.train, built.recipe.optim, built.recipe.train.steps or 1
    items, kept = built.items("train"), []
    plan = StepPlan(train.seed, len(items), train.batch_size)
    planned = batches(plan, items, steps=total, accumulate=train.accumulate, workers=workers)
    seen: list[Sequence[Batch]] = []

    def counted():
        for step in planned if steps is None else steps:
            seen.append(step)
            yield step

    told = None if evaluations is None else iter(evaluations)

    def evaluation() -> Evaluation:
        return evaluate(built.model, evaluation_batches(built.items("validation"), 16)) if told is None else next(told)

    def keeping() -> None:
        kept.append(len(seen))
        keep()

    progress = fit(
        built.model, counted(), evaluation, keeping, Accelerator(cpu=True), train=train,
        optim=optim, total=total, every=every, folder=folder or RunFolder(Path(), writes=False),
        console=Console(speaks=False),
    )  # fmt: skip
    return progress, kept


def fresh(*settings: str) -> Built:
    return build(small(*settings))
