"""EEG windows, [samples][channels] in microvolts. mmbert train RECIPE --plugin my_lab_eeg, then {type: eeg}"""

import numpy as np
import torch
from einops.layers.torch import Rearrange

from encoders import ENCODERS
from mmbert.contracts import Encoder, Processor
from mmbert.errors import RecipeError, SampleError
from mmbert.types import Tokens


class EEGProcessor(Processor):
    """A window as ``values`` [samples, channels]; the training split says how many of each, and the scale."""

    def fit(self, values):
        self.shape = _window(values[0]).shape
        self.scale = float(np.mean([_window(value).std() for value in values])) or 1.0

    def __call__(self, value, rng=None):
        return {"values": torch.from_numpy(_window(value, self.shape) / self.scale)}

    @classmethod
    def example(cls, rng):
        return rng.normal(0, 20, (64, 4)).tolist()


def _window(value, shape=None):
    try:
        window = np.array(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        window = np.empty(0)
    if window.ndim != 2 or window.shape != (shape or window.shape) or not np.isfinite(window).all():
        raise SampleError(f"expected {shape or '[samples][channels]'} finite numbers, found {str(value)[:40]}")
    return window


class EEG(Encoder):
    """One token a patch of samples of all channels, by a linear map and a learned position."""

    processor = EEGProcessor

    def __init__(self, dim, processor, *, patch: int = 8):
        super().__init__()
        samples, channels = processor.shape
        if samples % patch:
            raise RecipeError(f"'patch' must divide the {samples} samples of a window, however: {patch=}")
        patches = Rearrange("present (length patch) channel -> present length (patch channel)", patch=patch)
        self.embed = torch.nn.Sequential(patches, torch.nn.Linear(patch * channels, dim))
        self.position = torch.nn.Parameter(torch.zeros(samples // patch, dim))

    def forward(self, values):
        values = self.embed(values) + self.position
        mask = torch.ones_like(values[..., 0], dtype=torch.bool)
        return Tokens(values, mask, torch.arange(values.shape[1], device=values.device).expand(mask.shape))


ENCODERS.register("eeg", EEG)
