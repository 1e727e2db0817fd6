"""Steps whose loss or gradient is not finite: passed over within bounds, or the end of the run."""

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

SHOWN = 8  # samples


def not_finite(outcome: Outcome, norm: float) -> str:
    """What is not finite in a step; empty where all is. The answer is the same on all processes."""
    wrong = {name: loss for name, loss in outcome.losses.items() if not math.isfinite(loss)}
    if wrong:
        return "the loss of " + ", ".join(f"'{name}' is {loss}" for name, loss in wrong.items())
    return "" if math.isfinite(norm) else f"the norm of the gradient is {norm}"


def pass_over(
    step: int, problem: str, outcome: Outcome, state: TrainingState, folder: RunFolder, console: Console, *, most: int
) -> None:
    """Count a bad step and write it down, with the samples and weights that may be the cause; on all processes.

    Raises ``NumericalError`` on all of them where it is one more than ``most``. The weights are as before the step.
    """
    progress = state.progress
    samples = sorted(gather_object(outcome.suspects))
    weights = [name for name, weight in state.model.named_parameters() if not bool(weight.isfinite().all())]
    progress.skipped += 1
    folder.event("not finite", step, problem=problem, samples=samples, weights=weights)
    where = f"; among the samples {samples[:SHOWN]}" if samples else ""
    cause = f"; the weights {weights[:3]} are not finite, from before this step" if weights else ""
    if progress.skipped > most:
        raise NumericalError(
            f"step {step}: {problem}{where}{cause}. The weights are as before the step. Try a lower optim.lr, or "
            f"train.max_bad_steps={max(10, 2 * progress.skipped)} to pass over such steps"
        )
    console.warn(f"step {step} is passed over: {problem}{where}{cause}")


STEPS = 20  # without any gradient, although there were rows


class Silent:
    """Watches the parts whose gradient was exactly zero in every step so far in which they had rows.

    A part leaves the watch at its first gradient, so that a healthy model costs one look.
    """

    def __init__(self, model: MMBert):
        parts = {f"inputs.{name}": part for name, part in model.encoders.items()}
        parts |= {f"tasks.{name}": part for name, part in model.tasks.items()}
        self._steps = {name: 0 for name, part in parts.items() if _learning(part)}
        self._parts = parts

    def step(self, batches: Sequence[Batch]) -> list[str]:
        """The parts that have now been silent for ``STEPS`` steps; called before gradients are dropped."""
        if not self._steps:
            return []
        there = {f"inputs.{name}" for batch in batches for name in batch.inputs}
        there |= {f"tasks.{name}" for batch in batches for name in batch.targets}
        for name in self._steps.keys() & there:
            if any(weight.grad is not None and bool(weight.grad.any()) for weight in _learning(self._parts[name])):
                del self._steps[name]
            else:
                self._steps[name] += 1
        return sorted(name for name in there & self._steps.keys() if self._steps[name] == STEPS)


def _learning(part: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in part.parameters() if weight.requires_grad]


LEAST = 1e-3  # spread over size, see ``evaluate.spread``; of fresh encoders it is .1 and more, of rounding 1e-6


class Collapse:
    """Names each collapsed input once, whatever the number of evaluations.

    >>> collapse = Collapse()
    >>> found = Evaluation({}, {}, {}, {}, {}, spread={"image": 0.2, "sound": 1e-6})
    >>> collapse.see(found), collapse.see(found)
    (['sound'], [])
    """

    def __init__(self):
        self._told: set[str] = set()

    def see(self, found: Evaluation) -> list[str]:
        """The inputs that are collapsed in this evaluation and were not before."""
        new = sorted(name for name, spread in found.spread.items() if spread < LEAST and name not in self._told)
        self._told.update(new)
        return new
