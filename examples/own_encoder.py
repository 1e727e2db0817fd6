"""An encoder of your own for EEG windows: registered under the type "eeg", then trained on generated samples.

Run: python examples/own_encoder.py [FOLDER]    (by default a temporary folder, removed at the end)

From the command line the same file is a plug-in, in the folder where it lies:
mmbert train RECIPE --plugin own_encoder
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import torch

import mmbert
from encoders import ENCODERS
from mmbert.contracts import Encoder, Processor
from mmbert.errors import RecipeError, SampleError
from mmbert.types import Tokens

RECIPE = """\
name: sleep
data: {nights: {type: generated, rows: 96}}  # for your own: {type: files, path: nights.jsonl}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs:
  note: {type: text, max_length: 8}
  window: {type: eeg, patch: 16}
fusion: {type: joint, tokens: 2}
tasks: {stage: {type: classification}}
train: {steps: 4, batch_size: 16}
evaluate: {every: 4, baselines: false}
"""


class EEGProcessor(Processor):
    """Turns one window, a list [samples][channels] of microvolts, into a scaled tensor. It runs in the data workers."""

    def fit(self, values):
        """Learn the shape of a window and the scale of its values from the training split."""
        self.shape, self.scale = None, 1.0
        windows = [self(value)["values"] for value in values]
        self.shape = tuple(windows[0].shape)
        self.scale = float(torch.cat([window.flatten() for window in windows]).std(correction=0)) or 1.0

    def __call__(self, value, rng=None):
        """The tensors of one value. ``rng`` is for augmentation in training; this processor has none."""
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
        """A fake value, for contract tests and generated data."""
        return rng.normal(0, 20, (64, 4)).tolist()


class EEG(Encoder):
    """One token a patch of samples. ``patch`` is an option of the recipe, because it is keyword-only."""

    processor = EEGProcessor

    def __init__(self, dim, processor, *, patch: int = 8):
        super().__init__()
        samples, channels = processor.shape
        if samples % patch:
            raise RecipeError(f"'patch' must divide the {samples} samples of a window, however: {patch=}")
        self.embed = torch.nn.Conv1d(channels, dim, kernel_size=patch, stride=patch)
        self.position = torch.nn.Parameter(torch.zeros(samples // patch, dim))

    def forward(self, values):
        """Shape: values [present, samples, channels] -> Tokens [present, samples / patch, dim]."""
        values = self.embed(values.mT).mT + self.position
        unit = torch.arange(values.shape[1], device=values.device).expand(values.shape[:2])
        return Tokens(values, unit >= 0, unit)


ENCODERS.register("eeg", EEG)


def main() -> None:
    """Train for four steps in the current folder: the labels are random, so the scores mean nothing."""
    Path("sleep.yaml").write_text(RECIPE, encoding="utf-8")
    result = mmbert.train("sleep.yaml", out="run")
    print("test accuracy:", result["test"]["stage"]["accuracy"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.chdir(sys.argv[1])
        main()
    else:
        with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
            main()
