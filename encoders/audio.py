"""Audio: a log-mel spectrogram processor, and a small transformer over patches of frames."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad as extend

from mmbert.contracts import Encoder, Processor
from mmbert.errors import RecipeError
from mmbert.layers.masked import pad_and_stack, zero_masked
from mmbert.layers.transformer import TransformerLayer, sinusoidal_positions
from mmbert.preprocessing.audio import read_sound
from mmbert.preprocessing.synthetic import tone
from mmbert.types import Tokens


class AudioProcessor(Processor):
    """Turns sound into ``frames`` [length, mels], a normalised logarithmic mel spectrogram, and ``mask`` [length].

    A raw value is anything that ``preprocessing.audio.read_sound`` reads: a path, bytes, ``(array, rate)``, a dict.
    Channels are averaged, then the sound is resampled. Frames span 25 ms, with a hop of 10 ms.

    Args:
        rate: sample rate in hertz to which every sound is resampled.
        mels: number of mel bands.
        max_seconds: maximum duration; longer sounds are cut at the end.
        normalise: normalise each band by mean and deviation over the training split ("training"), or over the item
            ("item"), which removes loudness and the microphone's response.
        augment: whether training applies SpecAugment: two masks over time and two over bands.

    Raises:
        SampleError: from a call, if ``read_sound`` raises it.

    Reference:
        Park et al. 2019 (SpecAugment).

    Example:
        >>> AudioProcessor(mels=8)((np.zeros(8000), 8000))["frames"].shape
        torch.Size([101, 8])
    """

    reads_files = True
    example_with_bit = staticmethod(tone)

    def __init__(
        self,
        *,
        rate: Annotated[int, Ge(4_000), Le(48_000)] = 16_000,
        mels: Annotated[int, Ge(8), Le(128)] = 64,
        max_seconds: Annotated[float, Gt(0), Le(600)] = 10.0,
        normalise: Literal["training", "item"] = "training",
        augment: bool = False,
    ):
        self.rate = rate
        self.mels = mels
        self.max_seconds = max_seconds
        self.normalise = normalise
        self.augment = augment
        self.mean = torch.zeros(mels)
        self.std = torch.ones(mels)

    def fit(self, values: Iterable[Any]) -> None:
        """Learn the mean and deviation of each band, in one pass (Chan et al. 1979)."""
        if self.normalise == "item":
            return
        count, mean, squares = 0, np.zeros(self.mels), np.zeros(self.mels)
        for value in values:
            frames = self._spectrogram(value).double().numpy()
            new, total = len(frames), count + len(frames)
            difference = frames.mean(0) - mean
            squares += ((frames - frames.mean(0)) ** 2).sum(0) + difference**2 * (count * new / total)
            mean += difference * (new / total)
            count = total
        if count:
            self.mean, self.std = torch.tensor(mean).float(), _deviation(torch.tensor(squares / count)).float()

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        frames = self._spectrogram(value)
        mean, std = self.mean, self.std
        if self.normalise == "item":
            mean, std = frames.mean(0), _deviation(frames.var(0, correction=0))
        frames = (frames - mean) / std
        if self.augment and rng is not None:
            for axis in (0, 0, 1, 1):
                size = frames.shape[axis]
                width = int(rng.integers(0, size // 5 + 1))
                start = int(rng.integers(0, size - width + 1))
                frames.narrow(axis, start, width).zero_()  # zero is the mean after normalisation
        return {"frames": frames, "mask": torch.ones(len(frames), dtype=torch.bool)}

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: pad_and_stack([item[name] for item in items]) for name in ("frames", "mask")}

    def features(self, item: dict[str, Tensor]) -> np.ndarray:
        """Mean, deviation, and the 10th, 50th and 90th percentile of each band."""
        frames = item["frames"][item["mask"]].numpy()
        return np.concatenate([frames.mean(0), frames.std(0), *np.percentile(frames, (10, 50, 90), axis=0)])

    @classmethod
    def example(cls, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        return rng.normal(0, 0.1, int(rng.integers(800, 4_000))).astype(np.float32), 8_000

    def _spectrogram(self, value: Any) -> Tensor:
        from torchaudio.functional import spectrogram

        samples = torch.from_numpy(self._resampled(*read_sound(value, self.max_seconds)))
        window, filters, size = _filters(self.rate, self.mels)
        hop = round(0.010 * self.rate)
        # constant padding works for sounds shorter than a window
        power = spectrogram(samples, 0, window, size, hop, len(window), 2.0, False, pad_mode="constant")
        return (power.T @ filters + 1e-6).log()

    def _resampled(self, samples: np.ndarray, rate: int) -> np.ndarray:
        from scipy.signal import (
            resample_poly,
        )  # torchaudio's resampler takes gigabytes for rates without a common divisor

        mono = samples.mean(1, dtype=np.float32)
        if rate == self.rate:
            return mono
        divisor = math.gcd(rate, self.rate)
        return resample_poly(mono, self.rate // divisor, rate // divisor).astype(np.float32)


@lru_cache(maxsize=4)
def _filters(rate: int, mels: int) -> tuple[Tensor, Tensor, int]:
    """The 25 ms window, the mel filters [frequencies, mels], and the size of the Fourier transform."""
    from torchaudio.functional import melscale_fbanks

    window = round(0.025 * rate)
    size = 2 ** math.ceil(
        math.log2(2 * window)
    )  # twice the window, so that the lowest filters do not fall between bins
    return torch.hann_window(window), melscale_fbanks(size // 2 + 1, 0.0, rate / 2, mels, rate), size


def _deviation(variance: Tensor) -> Tensor:
    """The standard deviation; 1 for a constant band, as in silence."""
    return torch.where(variance > 1e-6, variance, 1.0).sqrt()


class AudioEncoder(Encoder):
    """A small pre-norm transformer over patches of frames (after AST).

    A token covers ``patch`` frames in all bands and is real if any frame is; ``unit`` is the index of the patch,
    -1 where masked. Patches start at frame 0, so that appended masked frames change nothing.

    Args:
        dim: width of the output tokens.
        processor: the processor of the input; gives the number of bands.
        patch: frames in a token (80 ms by default).
        layers: number of transformer layers.
        heads: attention heads of each layer.
        width: width of the transformer, a multiple of ``heads``.
        dropout: dropout rate.

    Shape:
        ``frames`` [present, length, mels], ``mask`` [present, length] bool -> [present, ceil(length / patch), dim].

    Raises:
        RecipeError: if ``width`` is not a multiple of ``heads``.

    Reference:
        Gong et al. 2021 (AST).

    Example:
        >>> processor = AudioProcessor(mels=8)
        >>> item = processor((np.zeros(8000), 8000))
        >>> AudioEncoder(16, processor)(**processor.collate([item])).values.shape
        torch.Size([1, 13, 16])
    """

    processor = AudioProcessor

    def __init__(
        self,
        dim: int,
        processor: AudioProcessor,
        *,
        patch: Annotated[int, Ge(1)] = 8,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 4,
        width: Annotated[int, Ge(4)] = 192,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ):
        super().__init__()
        if width % heads:
            raise RecipeError(f"'width' must be a multiple of 'heads', got {width=}, {heads=}")
        self.patch = patch
        self.embed = nn.Linear(patch * processor.mels, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout=dropout) for _ in range(layers))
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def forward(self, frames: Tensor, mask: Tensor) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        missing = -frames.shape[1] % self.patch
        frames, mask = extend(zero_masked(frames, mask), (0, 0, 0, missing)), extend(mask, (0, missing))
        pattern = "present (length patch) mels -> present length (patch mels)"
        values = self.embed(rearrange(frames, pattern, patch=self.patch))
        mask = rearrange(mask, "present (length patch) -> present length patch", patch=self.patch).any(-1)
        values = self.dropout(values + sinusoidal_positions(*values.shape[1:], device=values.device).to(values.dtype))
        for layer in self.layers:
            values = layer(values, mask)
        unit = torch.where(mask, torch.arange(mask.shape[1], device=mask.device), -1)
        return Tokens(zero_masked(self.project(values), mask), mask, unit)
