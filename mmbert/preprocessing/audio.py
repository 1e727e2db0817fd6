"""Reading of raw sound (files, bytes, arrays) as float32 samples."""

import io
import math
import os
import re
from typing import Any, BinaryIO

import numpy as np

from mmbert.errors import SampleError

RATES = range(1_000, 384_001)  # in hertz; a header outside this range is damaged, and resampling would take gigabytes
CHANNELS = 64
LOUDEST = 1e6  # amplitudes are about -1 to 1; far larger ones overflow the power spectrum


def read_sound(value: Any, max_seconds: float) -> tuple[np.ndarray, int]:
    """The first seconds of a sound as float32 [samples, channels], and their rate in hertz.

    Args:
        value: a path, the bytes of a file, a pair ``(array, rate)``, or a dict with ``array`` and ``sampling_rate`` or
            with ``bytes`` and ``path``. An array is [samples] or [samples, channels], int16 or floats of about -1 to 1.
        max_seconds: maximum duration, from the start of the sound.

    Raises:
        SampleError: if the value is not sound, has no samples or non-finite ones, or the file is shorter than its
            header says. The message names the file.
    """
    name = "audio"
    if isinstance(value, dict):
        name = value.get("path") or name
        if value.get("array") is not None:
            value = value["array"], value.get("sampling_rate")
        else:
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, str | os.PathLike):
        name = os.fspath(value)
    try:
        samples, rate = _from_array(value) if isinstance(value, tuple) else _from_file(value, max_seconds)
        if not len(samples) or rate not in RATES or not 1 <= samples.shape[1] <= CHANNELS:
            raise SampleError(
                f"expected samples at {RATES[0]} to {RATES[-1]} Hz in at most {CHANNELS} channels, "
                f"found {len(samples)} samples at {rate} Hz in {samples.shape[1]} channels"
            )
        samples = samples[: math.ceil(max_seconds * rate)]
        if not (loudest := np.abs(samples).max()) <= LOUDEST:  # negated, so that NaN fails as well
            raise SampleError(f"expected amplitudes of about -1 to 1, found {loudest:.3g}")
    except SampleError as error:
        raise SampleError(f"{name}: {error}") from error
    return samples, rate


def _from_array(value: tuple) -> tuple[np.ndarray, int]:
    try:
        samples, rate = value
        samples, rate = np.asarray(samples), int(rate)
    except (OverflowError, TypeError, ValueError) as error:
        raise SampleError(f"expected an array and its rate in hertz: {error}") from error
    if samples.ndim not in (1, 2) or (samples.dtype.kind != "f" and samples.dtype != np.int16):
        raise SampleError(
            f"expected an array [samples] or [samples, channels] of floats or int16, "
            f"found {list(samples.shape)} of {samples.dtype}"
        )
    if samples.dtype == np.int16:
        samples = samples / np.float32(32_768)
    return (samples if samples.ndim == 2 else samples[:, None]).astype(np.float32), rate


def _from_file(value: Any, max_seconds: float) -> tuple[np.ndarray, int]:
    if not isinstance(value, str | os.PathLike | bytes):
        raise SampleError(f"expected a path, bytes or (array, rate), found {type(value).__name__}")
    try:
        with io.BytesIO(value) if isinstance(value, bytes) else open(value, "rb") as file:
            return _decode(file, max_seconds)
    except SampleError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the path contains NUL or a lone surrogate
        reason = getattr(error, "strerror", None) or error
        raise SampleError(f"expected a sound file, but it cannot be read: {reason}") from error


def _decode(file: BinaryIO, max_seconds: float) -> tuple[np.ndarray, int]:
    import soundfile

    head = file.read(16)
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            # libsndfile corrects a wrong length by the file size and reports that only in its log
            wrong_length = re.search(r"\b(?:data|SSND) : (\d+) \(should be (\d+)\)", sound.extra_info)
            if wrong_length:
                raise SampleError(
                    f"expected {wrong_length[1]} bytes of sound, as the header says, found {wrong_length[2]}"
                )
            expected = min(sound.frames, math.ceil(max_seconds * sound.samplerate))
            samples = sound.read(expected, dtype="float32", always_2d=True)
            if len(samples) < expected:
                raise SampleError(f"expected {expected} samples, as the header says, found {len(samples)}")
            return samples, sound.samplerate
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", error)
        content = f"bytes that begin with {head!r}" if head else "0 bytes"
        raise SampleError(f"expected sound, found {content}: {reason}") from error
