"""Reading of raw images (files, bytes, arrays) as 8-bit RGB."""

import io
import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmbert.errors import SampleError


def read_image(value: Any, max_pixels: int) -> Image.Image:
    """Read a raw image as 8-bit RGB.

    Args:
        value: a path, the bytes of a file, a dict with ``bytes`` and ``path``, a PIL image, or an array of uint8
            [height, width] or [height, width, channel].
        max_pixels: maximum of width times height, checked in the header before decoding.

    Raises:
        SampleError: if the value is not an image or is too large. The message names the file and what it holds.
    """
    name = "image"
    if isinstance(value, dict):
        name = value.get("path") or name
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, str | os.PathLike):
        name = os.fspath(value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _read(value, max_pixels)
    except MemoryError:
        raise
    except SampleError as error:
        raise SampleError(f"{name}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own limit
        raise SampleError(f"{name}: expected an image of at most {max_pixels:,} pixels: {error}") from error
    except Exception as error:  # Pillow's decoders raise many types of exception on broken bytes
        reason = "of unknown format" if isinstance(error, UnidentifiedImageError) else f"not readable: {error}"
        raise SampleError(f"{name}: expected an image, found {_found(value)}, {reason}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    The EXIF orientation is applied. 16-bit channels keep their high byte. Grey is repeated in the three channels;
    palettes are resolved; CMYK is converted without a colour profile. Transparent images are composited on white. An
    animation gives its first frame.

    Args:
        image: the image, of any mode.

    Raises:
        SampleError: if the pixels are floats, or integers beyond 16 bits.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65_535:
            raise SampleError(f"expected grey values of at most 16 bits, found {grey.min()} to {grey.max()}")
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise SampleError("expected pixels of 8 or 16 bits, found floats, whose range is unknown")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _read(value: Any, max_pixels: int) -> Image.Image:
    if isinstance(value, str | os.PathLike):
        with open(value, "rb") as file:
            return _checked(Image.open(file), max_pixels)
    if isinstance(value, bytes):
        return _checked(Image.open(io.BytesIO(value)), max_pixels)
    if isinstance(value, Image.Image):
        return _checked(value, max_pixels)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        image = Image.fromarray(value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value)
        return _checked(image, max_pixels)
    raise SampleError(f"expected a path, bytes, a PIL image or an array of uint8, found {_found(value)}")


def _checked(image: Image.Image, max_pixels: int) -> Image.Image:
    if image.width * image.height > max_pixels:
        raise SampleError(f"expected an image of at most {max_pixels:,} pixels, found {image.width} x {image.height}")
    return to_rgb(image)


def _found(value: Any) -> str:
    """A short description of a raw value, for error messages."""
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    if isinstance(value, str | os.PathLike):
        if not os.path.isfile(value):
            return "no such file"
        with open(value, "rb") as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(16)
    elif isinstance(value, bytes):
        size, head = len(value), value[:16]
    else:
        return type(value).__name__
    return f"{size:,} bytes that begin with {head!r}" if size else "0 bytes"


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A random crop (left, top, right, bottom): 50 to 100 % of the area, aspect ratio changed by 3:4 to 4:3.

    Args:
        width: width of the image.
        height: height of the image.
        rng: draws area, aspect ratio and position of the crop.
    """
    area, ratio = rng.uniform(0.5, 1.0), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide, high = min(1.0, (area * ratio) ** 0.5) * width, min(1.0, (area / ratio) ** 0.5) * height
    left, top = rng.random() * (width - wide), rng.random() * (height - high)
    return left, top, min(left + wide, width), min(top + high, height)
