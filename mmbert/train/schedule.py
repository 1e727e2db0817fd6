"""Learning-rate schedules in closed form: a factor for each optimiser step."""

import math
from typing import Literal


def factor(step: int, steps: int, *, warmup: float, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """The factor of the learning rate at ``step`` (1 is the first) of ``steps``.

    It rises linearly to 1 over the first ``warmup`` (a fraction) of the steps, then falls to 0 behind the last step.

    >>> [round(factor(step, 10, warmup=0.2, schedule="linear"), 3) for step in (1, 2, 3, 10)]
    [0.5, 1.0, 1.0, 0.125]
    """
    rising = math.ceil(round(warmup * steps, 6))  # 0.07 * 100 is a little above 7
    if step <= rising:
        return step / rising
    done = (step - rising - 1) / max(steps - rising, 1)
    if schedule == "linear":
        return 1 - done
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1.0
