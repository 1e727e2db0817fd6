"""An uninformative input, to measure the cost of one.

``mmbert train RECIPE --plugin benchmarks.noise`` with the input ``{type: noise, column: ...}``, whose column holds
strings that differ from row to row. The numbers come from a hash of the string: equal strings have the same noise.
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
    """Turns a string into standard normal numbers.

    Args:
        size: how many numbers.

    Raises:
        SampleError: where the value is not a string.
    """

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
    """One token from a small network over the numbers, like that of a table.

    Args:
        dim: width of the token.
        processor: that gives the numbers.
    """

    processor = NoiseProcessor

    def __init__(self, dim: int, processor: NoiseProcessor):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(processor.size, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, values: Tensor) -> Tokens:
        token = self.network(values)[:, None]
        unit = torch.zeros(token.shape[:2], dtype=torch.int64, device=token.device)
        return Tokens(token, unit >= 0, unit)


ENCODERS.register("noise", Noise)
