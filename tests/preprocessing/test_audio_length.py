"""Sounds whose header does not know their length are read to the end, or refused."""

import io
import struct

import numpy as np
import pytest
import soundfile

from mmbert.errors import SampleError
from mmbert.preprocessing.audio import count_mp3_samples, read_sound

RATE = 16_000
SOUND = (np.random.default_rng(0).normal(0, 0.1, 3 * RATE)).astype(np.float32)


def encoded(samples=SOUND, kind="WAV", **options):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, **options)
    return file.getvalue()


def with_length(content, size):
    """A WAV file whose data chunk claims another size."""
    place = content.index(b"data") + 4
    return content[:place] + struct.pack("<I", size) + content[place + 4 :]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
@pytest.mark.parametrize("seconds", [0.5, 10])
def test_a_wav_file_from_a_pipe_is_read_to_its_end(size, seconds):
    content = encoded()
    samples, rate = read_sound(with_length(content, size), seconds)
    assert rate == RATE
    assert np.array_equal(samples, read_sound(content, seconds)[0])


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_a_wav_file_that_is_cut_is_refused(size):
    with pytest.raises(SampleError, match=f"expected {size} bytes of sound, as the header says"):
        read_sound(with_length(encoded(), size), 10)


@pytest.mark.parametrize("length", [3 * RATE, 100, 70_000])
@pytest.mark.parametrize("seconds", [0.1, 3, 30])
def test_a_flac_file_of_unknown_length_is_read_to_its_end(length, seconds):
    content = bytearray(encoded(np.resize(SOUND, length), "FLAC"))
    content[21] &= 0xF0  # the total of samples: 36 bits of STREAMINFO, which begins at byte 8
    content[22:26] = bytes(4)
    samples, _ = read_sound(bytes(content), seconds)
    assert np.array_equal(samples, read_sound(encoded(np.resize(SOUND, length), "FLAC"), seconds)[0])


def mp3():
    """Frames of a loud beginning, at a high bit rate, and of a long quiet end at a low one."""
    loud = encoded(SOUND, "MP3", bitrate_mode="CONSTANT", compression_level=0.0)
    quiet = encoded(SOUND * 0, "MP3", bitrate_mode="CONSTANT", compression_level=0.99)
    return loud, quiet


def test_an_mp3_file_is_never_cut_without_a_word():
    loud, quiet = mp3()
    whole = loud + quiet * 3
    assert count_mp3_samples(whole)[0] >= 4 * len(SOUND)
    with pytest.raises(SampleError, match=r"found \d+ samples of which \d+ can be read"):
        read_sound(whole, 60)
    assert len(read_sound(whole, 0.5)[0]) == RATE // 2


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("length", [RATE // 4, 3 * RATE, 20 * RATE])
def test_an_mp3_file_with_its_length_is_read(mode, length):
    samples, _ = read_sound(encoded(np.resize(SOUND, length), "MP3", bitrate_mode=mode), 60)
    assert abs(len(samples) - length) < 3 * 1152
