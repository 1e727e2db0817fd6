"""EEG windows, [samples][channels] in microvolts. mmbert train RECIPE --plugin my_lab_eeg, then {type: eeg}"""

import torch

from encoders import ENCODERS
from mmbert.contracts import Encoder, Processor
from mmbert.errors import RecipeError, SampleError
from mmbert.types import Tokens


class EEGProcessor(Processor):
    def fit(self, values):  # the first window says how many samples and channels, all of them the scale
        self.shape, self.scale = None, 1.0
        windows = [self(value)["values"] for value in values]
        self.shape = tuple(windows[0].shape)
        self.scale = float(torch.cat([window.flatten() for window in windows]).std(correction=0)) or 1.0

    def __call__(self, value, rng=None):
        try:
            window = torch.tensor(value, dtype=torch.float32) / self.scale
        except (TypeError, ValueError, OverflowError) as error:
            raise SampleError(f"expected numbers [samples][channels], found {str(value)[:40]}") from error
        fits = window.ndim == 2 and window.numel() and window.shape == (self.shape or window.shape)
        if not fits or not window.isfinite().all():
            raise SampleError(f"expected finite numbers {self.shape or '[samples][channels]'}, found {str(value)[:40]}")
        return {"values": window}

    @classmethod
    def example(cls, rng):
        return rng.normal(0, 20, (64, 4)).tolist()


class EEG(Encoder):
    processor = EEGProcessor

    def __init__(self, dim, processor, *, patch: int = 8):
        super().__init__()
        samples, channels = processor.shape
        if samples % patch:
            raise RecipeError(f"'patch' must divide the {samples} samples of a window, however: {patch=}")
        self.embed = torch.nn.Conv1d(channels, dim, kernel_size=patch, stride=patch)
        self.position = torch.nn.Parameter(torch.zeros(samples // patch, dim))

    def forward(self, values):
        values = self.embed(values.mT).mT + self.position
        unit = torch.arange(values.shape[1], device=values.device).expand(values.shape[:2])
        return Tokens(values, unit >= 0, unit)


ENCODERS.register("eeg", EEG)
