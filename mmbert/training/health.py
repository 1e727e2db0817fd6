"""Health of a run: steps that are not finite, parts without a gradient, inputs that collapse."""

import math
from collections.abc import Sequence

from accelerate.utils import gather_object
from torch import nn

from mmbert.errors import NumericalError
from mmbert.evaluation.evaluate import Evaluation
from mmbert.model import MMBert
from mmbert.tracking.console import Console
from mmbert.tracking.run_folder import RunFolder
from mmbert.training.state import TrainingState
from mmbert.training.step import Outcome
from mmbert.types import Batch

SHOWN = 8  # samples named in a message
SILENT_STEPS = 20  # with rows for a part and a gradient of exactly zero, after which the part is reported
# spread over size, see ``evaluation.evaluate.spread``; fresh encoders have 0.1 and more, rounding gives 1e-6
LEAST_SPREAD = 1e-3


def not_finite(outcome: Outcome, norm: float) -> str:
    """What is not finite in a step, in words; empty where everything is finite. The same on all processes.

    Args:
        outcome: of the step.
        norm: of the gradient.
    """
    bad_losses = {name: loss for name, loss in outcome.losses.items() if not math.isfinite(loss)}
    if bad_losses:
        return "the loss of " + ", ".join(f"'{name}' is {loss}" for name, loss in bad_losses.items())
    return "" if math.isfinite(norm) else f"the norm of the gradient is {norm}"


def skip_step(
    problem: str, outcome: Outcome, state: TrainingState, folder: RunFolder, console: Console, *, most: int
) -> None:
    """Count a bad step and record it, with the samples and weights that may be the cause; on all processes.

    Args:
        problem: what is not finite.
        outcome: of the step.
        state: with the weights of before the step.
        folder: takes the event.
        console: takes the warning.
        most: the number of such steps that a run may skip.

    Raises:
        NumericalError: on all processes, if it is one more than ``most``.
    """
    progress = state.progress
    step = progress.step + 1
    samples = sorted(gather_object(outcome.suspects))
    weights = [name for name, weight in state.model.named_parameters() if not bool(weight.isfinite().all())]
    progress.skipped += 1
    folder.event("not finite", step, problem=problem, samples=samples, weights=weights)
    where = f"; among the samples {samples[:SHOWN]}" if samples else ""
    cause = f"; the weights {weights[:3]} are not finite, from before this step" if weights else ""
    if progress.skipped > most:
        raise NumericalError(
            f"step {step}: {problem}{where}{cause}. The weights are as before the step. Try a lower optim.lr, or "
            f"train.max_bad_steps={max(10, 2 * progress.skipped)} to skip such steps"
        )
    console.warn(f"step {step} is skipped: {problem}{where}{cause}")


class SilentParts:
    """Finds parts whose gradient was exactly zero in every step so far in which they had rows.

    A part is no longer checked after its first gradient, so that a healthy model costs one check.

    Args:
        model: whose encoders and tasks are watched.
    """

    def __init__(self, model: MMBert):
        parts = {f"inputs.{name}": part for name, part in model.encoders.items()}
        parts |= {f"tasks.{name}": part for name, part in model.tasks.items()}
        self._steps = {name: 0 for name, part in parts.items() if _learning(part)}
        self._parts = parts

    def step(self, batches: Sequence[Batch]) -> list[str]:
        """The parts that have now had no gradient for ``SILENT_STEPS`` steps; called before gradients are dropped.

        Args:
            batches: the micro-batches of the step.
        """
        if not self._steps:
            return []
        present = {f"inputs.{name}" for batch in batches for name in batch.inputs}
        present |= {f"tasks.{name}" for batch in batches for name in batch.targets}
        for name in self._steps.keys() & present:
            if any(weight.grad is not None and bool(weight.grad.any()) for weight in _learning(self._parts[name])):
                del self._steps[name]
            else:
                self._steps[name] += 1
        return sorted(name for name in present & self._steps.keys() if self._steps[name] == SILENT_STEPS)


def _learning(part: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in part.parameters() if weight.requires_grad]


class CollapsedInputs:
    """Names each collapsed input once, whatever the number of evaluations.

    Example:
        >>> collapsed = CollapsedInputs()
        >>> evaluation = Evaluation({}, {}, {}, {}, {}, spread={"image": 0.2, "sound": 1e-6})
        >>> collapsed.new(evaluation), collapsed.new(evaluation)
        (['sound'], [])
    """

    def __init__(self):
        self._reported: set[str] = set()

    def new(self, evaluation: Evaluation) -> list[str]:
        """The inputs that are collapsed in this evaluation and were not before.

        Args:
            evaluation: with the spread of each input's vectors.
        """
        collapsed = {name for name, spread in evaluation.spread.items() if spread < LEAST_SPREAD}
        new = sorted(collapsed - self._reported)
        self._reported.update(new)
        return new
