"""The state of training: what changes from step to step, and what a checkpoint therefore stores."""

import math
from dataclasses import asdict, dataclass, field

import torch

from mmbert.checkpoint.checkpoint import Content
from mmbert.checkpoint.resume import Identity
from mmbert.errors import RecipeError, nearest
from mmbert.evaluation.evaluate import Evaluation
from mmbert.experiment.build import model_config
from mmbert.experiment.experiment import Experiment
from mmbert.layers.ema import WeightAverage
from mmbert.model import MMBert


@dataclass
class Progress:
    """How far training has come; plain values.

    There is no state of a random generator: each random choice is keyed by seed, step and what it concerns.
    """

    step: int = 0
    best_step: int = 0  # 0: no evaluation yet
    best_score: float = 0.0  # higher is better
    waited: int = 0  # evaluations since the best
    skipped: int = 0  # steps whose loss or gradient was not finite
    evaluated: bool = True  # whether an evaluation that is due at this step is done
    stopped: bool = False  # by patience

    def record_score(self, score: float, patience: int | None) -> bool:
        """Record the score of an evaluation; returns whether it is the best so far.

        Of equal scores the first stays the best; NaN and infinity are never the best.

        Args:
            score: higher is better.
            patience: evaluations without a better one after which training stops; None for never.
        """
        self.evaluated = True
        better = math.isfinite(score) and (not self.best_step or score > self.best_score)
        if better:
            self.best_step, self.best_score, self.waited = self.step, score, 0
        else:
            self.waited += 1
            self.stopped = patience is not None and self.waited >= patience
        return better


@dataclass
class TrainingState:
    """All that the training loop changes."""

    model: MMBert
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    progress: Progress = field(default_factory=Progress)


def checkpoint_content(state: TrainingState, experiment: Experiment, identity: Identity) -> Content:
    """What a checkpoint of a state holds.

    Args:
        state: read while the checkpoint is written, not copied.
        experiment: its processors are stored.
        identity: of the run.
    """
    processors = experiment.processors
    return Content(
        model=state.model,
        optimizer=state.optimizer,
        average=state.average,
        processors={f"inputs.{name}": processor for name, processor in processors.inputs.items()}
        | {f"tasks.{name}": processor for name, processor in processors.targets.items()},
        config=model_config(state.model) | {"reading": experiment.data_report.reading},
        trainer=asdict(state.progress),
        recipe=identity.text,
        identity=identity.stamp(),
    )


def selection_score(evaluation: Evaluation, model: MMBert, select: str) -> float:
    """The score, higher is better, by which the best checkpoint is chosen.

    Args:
        evaluation: of the validation split.
        model: whose tasks say which metrics are errors.
        select: ``skill`` (the mean over tasks), or ``task/metric``.

    Raises:
        RecipeError: where the evaluation has no such score.
    """
    if select == "skill":
        return evaluation.mean_skill
    task, _, metric = select.partition("/")
    scores = evaluation.scores.get(task, {})
    if metric not in scores:
        valid = [f"{name}/{metric}" for name, metrics in evaluation.scores.items() for metric in metrics]
        raise RecipeError(f"train.select: validation gives no score '{select}'. {nearest(select, ['skill', *valid])}")
    return -scores[metric] if metric in model.tasks[task].lower_is_better else scores[metric]
