"""An input that tells nothing, to measure what one costs: ``mmbert train RECIPE --plugin benchmarks.noise``, then
``{type: noise, column: ...}`` with a column of strings that differ from row to row: the numbers come from a hash of the
string, so that equal ones have the same noise.
"""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from encoders import ENCODERS
from mmbert.contracts import Encoder, Processor
from mmbert.data.keyed_random import generator
from mmbert.errors import SampleError
from mmbert.types import Tokens


class NoiseProcessor(Processor):
    """A string -> ``size`` standard normal numbers. Raises ``SampleError`` on anything else."""

    def __init__(self, *, size: Annotated[int, Ge(1)] = 64):
        self.size = size

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        if not isinstance(value, str):
            raise SampleError(f"expected a string to hash, found {type(value).__name__}")
        return {"values": torch.from_numpy(generator("noise", value).normal(size=self.size)).float()}

    @classmethod
    def example(cls, rng: np.random.Generator) -> Any:
        return str(rng.random())


class Noise(Encoder):
    """One token: a small network over the numbers, as that of a table would be."""

    processor = NoiseProcessor

    def __init__(self, dim: int, processor: NoiseProcessor):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(processor.size, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, values: Tensor) -> Tokens:
        made = self.network(values)[:, None]
        unit = torch.zeros(made.shape[:2], dtype=torch.int64, device=made.device)
        return Tokens(made, unit >= 0, unit)


ENCODERS.register("noise", Noise)
