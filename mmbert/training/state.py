"""What training changes from step to step, and a checkpoint therefore keeps."""

import math
from dataclasses import dataclass, field

import torch

from mmbert.layers.ema import WeightAverage
from mmbert.model import MMBert


@dataclass
class Progress:
    """How far training has come; plain values.

    There is no state of a random generator: each random choice is keyed by what it is about.
    """

    step: int = 0
    best_step: int = 0  # 0: no evaluation yet
    best_score: float = 0.0  # higher is better
    waited: int = 0  # evaluations since the best
    skipped: int = 0  # steps whose loss or gradient was not finite
    evaluated: bool = True  # whether an evaluation that is due at this step is done
    stopped: bool = False  # by patience

    def see(self, score: float, patience: int | None) -> bool:
        """Count an evaluation; returns whether it is the best so far. The first of equals stays, NaN is never."""
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
    """All that the loop changes."""

    model: MMBert
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    progress: Progress = field(default_factory=Progress)
