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
STREAMED = 0x7FFF_F000  # bytes; programs that write into a pipe put this many or more, or 0, for an unknown length
UNKNOWN_LENGTH = 1 << 62  # samples, of a FLAC file that does not say how many it has
BLOCK = 1 << 16  # samples read at once from such a file
MP3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MP3_KILOBITS_OF_LOW_RATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MP3_SLACK = 6  # frames of an MP3 file that hold no sound: its header, and the delay and padding of the encoder
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
            if wrong_length and 0 < int(wrong_length[1]) < STREAMED:
                raise SampleError(
                    f"expected {wrong_length[1]} bytes of sound, as the header says, found {wrong_length[2]}"
                )
            if not sound.frames and (whole := _with_unknown_length(file)):
                return _decode(io.BytesIO(whole), max_seconds)
            wanted = math.ceil(max_seconds * sound.samplerate)
            if sound.frames >= UNKNOWN_LENGTH:
                return _read_stream(sound, wanted), sound.samplerate
            if sound.format == "MP3" and sound.frames < wanted:
                _check_mp3_length(file, sound.frames)
            expected = min(sound.frames, wanted)
            samples = sound.read(expected, dtype="float32", always_2d=True)
            if len(samples) < expected:
                raise SampleError(f"expected {expected} samples, as the header says, found {len(samples)}")
            return samples, sound.samplerate
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", error)
        content = f"bytes that begin with {head!r}" if head else "0 bytes"
        raise SampleError(f"expected sound, found {content}: {reason}") from error


def _with_unknown_length(file: BinaryIO) -> bytes:
    """A WAV file whose sound has a length of 0 by its header, with one that is unknown; empty where it has no sound."""
    file.seek(0)
    content = file.read()
    start = content.find(b"data\0\0\0\0") + 8
    if content[:4] != b"RIFF" or start < 8 or len(content) < start + 8:
        return b""
    name, size = content[start : start + 4], int.from_bytes(content[start + 4 : start + 8], "little")
    if name.isascii() and name.isalnum() and start + 8 + size <= len(content):  # another chunk
        return b""
    return content[: start - 4] + b"\xff" * 4 + content[start:]


def _read_stream(sound: Any, wanted: int) -> np.ndarray:
    """The samples up to the end of a file that does not say where it is."""
    sound.seekable = lambda: False  # after each read soundfile would seek, which such a file refuses
    blocks: list[np.ndarray] = []
    while (rest := wanted - sum(map(len, blocks))) > 0:
        blocks.append(sound.read(min(BLOCK, rest), dtype="float32", always_2d=True))
        if len(blocks[-1]) < min(BLOCK, rest):
            break
    return np.concatenate(blocks)


def _check_mp3_length(file: BinaryIO, frames: int) -> None:
    """Refuse an MP3 file that is longer than libsndfile believes.

    Without a header of its length it is estimated from the bit rate of the first frame, and reading ends there.
    """
    place = file.tell()
    file.seek(0)
    samples, frame_size = count_mp3_samples(file.read())
    file.seek(place)
    if samples > frames + MP3_SLACK * frame_size:
        raise SampleError(
            f"expected an MP3 file whose beginning tells its length, found {samples} samples of which {frames} can be "
            "read: its bit rate varies and it has no Xing header. Write it again (ffmpeg -i OLD.mp3 NEW.mp3), or as WAV"
        )


def count_mp3_samples(content: bytes) -> tuple[int, int]:
    """The samples in the frames of an MP3 file, and those in one frame, by the headers of the frames.

    Args:
        content: of the file.
    """
    place = 0
    if content[:3] == b"ID3" and len(content) >= 10:
        place = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    samples, frame_size = 0, 1152
    while place + 4 <= len(content):
        length, size = _mp3_frame(content[place : place + 4])
        if not length:
            place += 1
            continue
        samples, frame_size, place = samples + size, size, place + length
    return samples, frame_size


def _mp3_frame(header: bytes) -> tuple[int, int]:
    """The bytes and samples of the layer III frame that begins with a header; (0, 0) where none does."""
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    rate, bits = header[2] >> 2 & 3, header[2] >> 4
    if header[0] != 0xFF or header[1] < 0xE0 or version == 1 or layer != 1 or rate == 3 or bits in (0, 15):
        return 0, 0
    size = 1152 if version == 3 else 576
    kilobits = (MP3_KILOBITS if version == 3 else MP3_KILOBITS_OF_LOW_RATES)[bits - 1]
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return size // 8 * kilobits * 1000 // hertz + (header[2] >> 1 & 1), size
