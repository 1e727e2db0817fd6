"""EEG windows, [samples][channels] in microvolts. mmbert train RECIPE --plugin my_lab_eeg, then {type: eeg}"""

import numpy as np
import torch

from encoders import ENCODERS
from mmbert.contracts import Encoder, Processor
from mmbert.errors import SampleError
from mmbert.types import Tokens


class EEGProcessor(Processor):
    def fit(self, values):  # the training split says how many samples and channels, and the scale
        self.shape, self.scale = np.shape(values[0]), 1.0
        self.scale = float(np.std([self(value)["values"] for value in values])) or 1.0

    def __call__(self, value, rng=None):
        try:
            window = torch.tensor(value, dtype=torch.float32) / self.scale
        except (TypeError, ValueError, RuntimeError) as error:
            raise SampleError(f"expected numbers [samples][channels], found {str(value)[:40]}") from error
        if window.shape != self.shape or not window.isfinite().all():
            raise SampleError(f"expected finite numbers {list(self.shape)}, found {list(window.shape)}")
        return {"values": window}

    @classmethod
    def example(cls, rng):
        return rng.normal(0, 20, (64, 4)).tolist()


class EEG(Encoder):
    processor = EEGProcessor

    def __init__(self, dim, processor, *, patch: int = 8):
        super().__init__()
        samples, channels = processor.shape
        self.embed = torch.nn.Conv1d(channels, dim, kernel_size=patch, stride=patch)  # a token a patch of samples
        self.position = torch.nn.Parameter(torch.zeros(samples // patch, dim))

    def forward(self, values):
        values = self.embed(values.mT).mT + self.position
        unit = torch.arange(values.shape[1], device=values.device).expand(values.shape[:2])
        return Tokens(values, unit >= 0, unit)


ENCODERS.register("eeg", EEG)
