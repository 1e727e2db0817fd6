"""Series: one or several channels over time, of any length and with gaps, one token per patch of steps."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Interval, Lt, MultipleOf
from torch import Tensor, nn
from torch.nn.functional import max_pool1d
from torch.nn.functional import pad as extend

from mmbert.contracts import Encoder, Processor
from mmbert.errors import DataError, RecipeError, SampleError
from mmbert.layers.masked import pad_and_stack, zero_masked
from mmbert.layers.transformer import TransformerLayer, sinusoidal_positions
from mmbert.preprocessing.synthetic import slope
from mmbert.preprocessing.tabular import MAX_DEVIATIONS, MAX_NUMBER
from mmbert.types import Tokens

HEADS = 4  # attention heads of the transformer
POINTS = 32  # points of each channel's resampled curve, for the linear baselines


class SeriesProcessor(Processor):
    """Turns nested lists or an array, [time, channels] or [time] of one channel, into standardised values.

    Text (of CSV files) is a JSON list or numbers with blanks between them. None and NaN are missing observations.
    ``fit`` learns the number of channels, and the mean and standard deviation of each from the observations of the
    training split. Series are truncated to their first ``max_length`` steps. A series without steps is absent; one
    without observations is not.

    Tensors of one series: ``values`` [time, channels] float32, zero where missing; ``observed`` [time, channels]
    bool. ``collate`` pads them and adds ``mask`` [present, time].

    Args:
        max_length: maximum number of steps.
        jitter: standard deviation of the noise added to each standardised observation, and of a factor around 1 for
            each channel, in training (jitter and scaling, Um et al. 2017).

    Raises:
        SampleError: for numbers beyond 1e30 (infinity included), non-numeric values, or a wrong number of channels.
        DataError: from ``fit``, if the series differ in their number of channels, or there is none.

    Example:
        >>> processor = SeriesProcessor()
        >>> processor.fit([[1.0, 3.0], [5.0, None, 3.0]])
        >>> processor([3.0, None])["observed"].tolist()
        [[True], [False]]
    """

    example_with_bit = staticmethod(slope)

    def __init__(self, *, max_length: Annotated[int, Ge(1)] = 4096, jitter: Annotated[float, Ge(0)] = 0.0):
        self.max_length, self.jitter = max_length, jitter
        self.mean: list[float] = []
        self.deviation: list[float] = []

    @property
    def channels(self) -> int:
        return len(self.mean)

    def fit(self, values: Iterable[Any]) -> None:
        arrays = [array for array in map(_array, values) if len(array)]
        if len(sizes := {array.shape[1] for array in arrays}) != 1:
            raise DataError(f"all series must have the same number of channels, found {sorted(sizes) or 'no series'}")
        steps = np.concatenate(arrays)
        observed = ~np.isnan(steps)
        count = observed.sum(0).clip(min=1)
        mean = np.where(observed, steps, 0.0).sum(0) / count
        deviation = np.sqrt((np.where(observed, steps - mean, 0.0) ** 2).sum(0) / count)
        self.mean = mean.tolist()
        self.deviation = np.where(deviation > 1e-12 * np.abs(mean).clip(min=1e-300), deviation, 1.0).tolist()

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        array = _array(value)
        if not len(array):
            return {}
        if array.shape[1] != self.channels:
            raise SampleError(f"expected a series of {self.channels} channels, as in training, found {array.shape[1]}")
        array = array[: self.max_length]
        observed = ~np.isnan(array)
        standard = (array - self.mean) / self.deviation
        if self.jitter and rng is not None:
            standard = standard * rng.normal(1, self.jitter, self.channels) + rng.normal(0, self.jitter, array.shape)
        standard = np.where(observed, standard, 0.0).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        return {"values": torch.tensor(standard, dtype=torch.float32), "observed": torch.tensor(observed)}

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        masks = [item.get("mask", torch.ones(len(item["values"]), dtype=torch.bool)) for item in items]
        values, observed = (pad_and_stack([item[name] for item in items]) for name in ("values", "observed"))
        return {"values": values, "observed": observed, "mask": pad_and_stack(masks)}

    def features(self, item: dict[str, Tensor]) -> np.ndarray:
        """Log length; then for each channel 32 points of the curve, mean, deviation, minimum and maximum."""
        real = item["mask"] if "mask" in item else slice(None)
        values, observed = item["values"][real].numpy(), item["observed"][real].numpy()
        points = np.linspace(0, len(values) - 1, POINTS)
        parts = [np.log([len(values)])]
        for curve, seen in zip(values.T, observed.T, strict=True):
            curve, steps = (curve[seen], seen.nonzero()[0]) if seen.any() else (np.zeros(1), np.zeros(1))
            parts += [np.interp(points, steps, curve), [curve.mean(), curve.std(), curve.min(), curve.max()]]
        return np.concatenate(parts)

    @classmethod
    def example(cls, rng: np.random.Generator) -> list[list[float | None]]:
        steps = rng.normal(size=(rng.integers(1, 40), 2)).cumsum(0)
        return [[None if rng.random() < 0.1 else float(value) for value in step] for step in steps]


def _array(value: Any) -> np.ndarray:
    """The raw value as float64 [time, channels], NaN where missing."""
    original = value
    try:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("[") else [float(word) for word in value.split()]
        is_nested = isinstance(value, np.ndarray) and value.dtype == object  # lists of lists, as parquet returns them
        array = np.asarray(list(value) if is_nested else value)
        if array.dtype == object and any(isinstance(cell, str | bytes) for cell in array.flat):
            raise TypeError("a string is not a number")
        array = array.astype(float) if array.dtype.kind in "biufO" else None
    except (OverflowError, RecursionError, TypeError, ValueError):
        array = None
    if array is None or array.ndim not in (1, 2):
        raise SampleError(f"expected a series as numbers [time, channels] or [time], found {str(original)[:80]}")
    array = array[:, None] if array.ndim == 1 else array
    for step, channel in np.argwhere(np.abs(array) > MAX_NUMBER)[:1]:
        value_at = f"{array[step, channel]:g} at step {step}"
        raise SampleError(f"expected numbers up to {MAX_NUMBER:g} or missing ones in a series, found {value_at}")
    return array


class SeriesEncoder(Encoder):
    """Residual convolutions (Wang et al. 2017) and an optional transformer, one token per patch of steps.

    The convolutions read the values and, as further channels, which are observed. The first blocks are followed by a
    maximum over two steps each, until a patch is one step. Normalisation within an item removes the scale of its
    values, so each token also adds a linear map of its patch's mean. Positions are added before the transformer.

    Args:
        dim: width of the output tokens.
        processor: the fitted processor of the input; gives the number of channels.
        patch: steps per token, a power of two.
        width: width of the blocks (half for the first).
        blocks: number of residual blocks.
        kernel: largest kernel size of a block, odd; the further convolutions of the block have two and four less.
        layers: number of transformer layers; 0 for none.
        dropout: dropout rate.

    Shape:
        values and observed [present, time, channels], mask [present, time] -> Tokens [present, patches, dim]; ``unit``
        is the number of the patch.

    Raises:
        RecipeError: if ``patch`` is not a power of two or needs more blocks, or ``kernel`` is even.

    Example:
        >>> processor = SeriesProcessor()
        >>> processor.fit([[1.0, 2.0, 3.0]])
        >>> tensors = processor.collate([processor([1.0] * 9), processor([2.0])])
        >>> SeriesEncoder(16, processor)(**tensors).mask.tolist()
        [[True, True, True], [True, False, False]]
    """

    processor = SeriesProcessor

    def __init__(
        self,
        dim: int,
        processor: SeriesProcessor,
        *,
        patch: Annotated[int, Ge(1)] = 4,
        width: Annotated[int, Interval(ge=32), MultipleOf(32)] = 128,
        blocks: Annotated[int, Ge(1)] = 3,
        kernel: Annotated[int, Ge(5)] = 7,
        layers: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ):
        super().__init__()
        self.halvings = patch.bit_length() - 1
        if patch != 2**self.halvings or self.halvings > blocks:
            powers = ", ".join(str(2**power) for power in range(blocks + 1))
            raise RecipeError(f"'patch' must be one of {powers} with {blocks} blocks, got {patch=}")
        if kernel % 2 == 0:
            raise RecipeError(f"'kernel' must be odd, got {kernel=}")
        self.patch = patch
        widths = [2 * processor.channels, width // 2, *[width] * blocks][: blocks + 1]
        kernels = (kernel, kernel - 2, kernel - 4)
        self.blocks = nn.ModuleList(ResidualBlock(*pair, kernels) for pair in pairwise(widths))
        self.level = nn.Linear(2 * processor.channels, widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(widths[-1], HEADS, dropout=dropout) for _ in range(layers))
        self.project = nn.Sequential(nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], dim))

    def forward(self, values: Tensor, observed: Tensor, mask: Tensor) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        observed = observed & mask[..., None]
        values = torch.cat([torch.where(observed, values, 0.0), observed.to(values.dtype)], -1)
        level, real = self._patch_means(values), mask
        for index, block in enumerate(self.blocks):
            values = block(values, real)
            if index < self.halvings:
                values, real = halve(values, real)
        values = self.dropout(values + self.level(level))
        if self.layers:
            values = values + sinusoidal_positions(*values.shape[1:], device=values.device).to(values.dtype)
        for layer in self.layers:
            values = layer(values, real)
        unit = torch.where(real, torch.arange(real.shape[1], device=real.device), -1)
        return Tokens(zero_masked(self.project(values), real), real, unit)

    def _patch_means(self, values: Tensor) -> Tensor:
        """The mean of each patch's observations and the observed fraction: [present, patches, 2 channels]."""
        missing = -values.shape[1] % self.patch
        total = extend(values, (0, 0, 0, missing)).unflatten(1, (-1, self.patch)).sum(2)
        sums, counts = total.chunk(2, -1)
        return torch.cat([sums / counts.clamp(min=1), counts / self.patch], -1)


CHANNELS = 16  # channels per group


class MaskedGroupNorm(nn.Module):
    """GroupNorm (Wu and He 2018) with statistics over the real steps of each item.

    Args:
        width: number of channels: one group below 32, otherwise width // 16 equal groups.

    Shape:
        values [batch, length, width], mask [batch, length] -> [batch, length, width], zero at masked steps.

    Raises:
        ValueError: if ``width`` is not divisible by the number of groups.
    """

    def __init__(self, width: int):
        super().__init__()
        self.groups = max(1, width // CHANNELS)
        if width % self.groups:
            raise ValueError(f"width must be below 32 or a multiple of its {self.groups} groups, got {width=}")
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        groups = zero_masked(values, mask).unflatten(-1, (self.groups, -1))
        size = mask.sum(1).clamp(min=1)[:, None, None, None] * groups.shape[-1]
        centred = groups - groups.sum((1, 3), keepdim=True) / size
        variance = (
            zero_masked(centred.flatten(2), mask).square().unflatten(-1, (self.groups, -1)).sum((1, 3), keepdim=True)
        )
        normed = (centred * torch.rsqrt(variance / size + 1e-5)).flatten(2)
        return zero_masked(normed * self.weight + self.bias, mask)


class ResidualBlock(nn.Module):
    """Residual block of convolutions, as in the ResNet for time series of Wang et al. 2017.

    Convolutions preserve the length; each is followed by a normalisation within the item and by the mask.

    Args:
        before: input width.
        after: output width.
        kernels: kernel size of each convolution.

    Shape:
        values [batch, length, before], mask [batch, length] -> [batch, length, after].
    """

    def __init__(self, before: int, after: int, kernels: Sequence[int]):
        super().__init__()
        widths = [before, *[after] * len(kernels)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(first, second, kernel, padding="same", bias=False)
            for first, second, kernel in zip(widths[:-1], widths[1:], kernels, strict=True)
        )
        self.norms = nn.ModuleList(MaskedGroupNorm(after) for _ in kernels)
        self.skip = nn.Linear(before, after, bias=False)
        self.skip_norm = MaskedGroupNorm(after)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        values = zero_masked(values, mask)
        skipped = self.skip_norm(self.skip(values), mask)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            if convolution is not self.convolutions[0]:
                values = values.relu()
            values = norm(convolution(values.mT).mT, mask)
        return zero_masked((values + skipped).relu(), mask)


def halve(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Max-pool pairs of steps: [batch, length, width] -> [batch, ceil(length / 2), width].

    Args:
        values: non-negative and zero where masked, so that masked steps do not count.
        mask: [batch, length] bool, which steps are real. A pair is real if one of its steps is.
    """
    odd = values.shape[1] % 2
    values, mask = extend(values, (0, 0, 0, odd)), extend(mask, (0, odd))
    return max_pool1d(values.mT, 2).mT, mask.unflatten(1, (-1, 2)).any(2)
