"""Steps whose loss or gradient is not finite: passed over within bounds, or the end of the run."""

import math

from accelerate.utils import gather_object

from mmbert.errors import NumericalError
from mmbert.train.console import Console
from mmbert.train.folder import RunFolder
from mmbert.train.state import TrainingState
from mmbert.train.step import Outcome

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
