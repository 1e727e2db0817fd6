"""Tests of audio: errors that name the file, mixing, resampling, normalisation, tokens independent of padding."""

import io
import pickle
import struct

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from encoders.audio import AudioEncoder, AudioProcessor
from mmbert.errors import RecipeError, SampleError


def tone(frequency: float = 440.0, rate: int = 16_000, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def with_field(wav: bytes, after: bytes, skip: int, value: int) -> bytes:
    """A WAV file with one 32-bit number of its header changed."""
    place = wav.index(after) + skip
    return wav[:place] + struct.pack("<I", value) + wav[place + 4 :]


def frames_of(value, **options) -> torch.Tensor:
    return AudioProcessor(**options)(value)["frames"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(np.zeros(0, np.float32)), "found 0 samples"),
        (encoded(np.array([0.1, np.nan, 0.2], np.float32), subtype="FLOAT"), "found nan"),
        (encoded(np.array([0.1, np.inf, 0.2], np.float32), subtype="FLOAT"), "found inf"),
        (encoded(np.array([0.1, 1e30, 0.2], np.float32), subtype="FLOAT"), "found 1e.30"),
        (with_field(encoded(tone()), b"data", 4, 320_000), "expected 320000 bytes of sound.*found 16000"),
        (encoded(tone())[:5_000], "expected 16000 bytes of sound"),
        (with_field(encoded(tone()), b"fmt ", 12, 2**31 - 1), "8000 samples at 2147483647 Hz"),
        (encoded(tone(), kind="FLAC")[:2_000], "bytes that begin with b'fLaC"),
        (b"<!DOCTYPE html><html>", "bytes that begin with b'<!DOCTYPE html>"),
        (b"", "found 0 bytes"),
    ],
    ids=["0 frames", "NaN", "inf", "1e30", "longer header", "truncated", "rate", "truncated FLAC", "HTML", "empty"],
)
def test_fault_09_bad_sound_is_refused(tmp_path, content, expected):
    path = tmp_path / "voice.wav"
    path.write_bytes(content)
    for value, name in ((path, "voice.wav"), (str(path), "voice.wav"), (content, "audio")):
        with pytest.raises(SampleError, match=expected) as caught:
            AudioProcessor()(value)
        assert name in str(caught.value)


def test_fault_09_three_channels_are_mixed():
    channels = np.stack([tone(300), tone(900), tone(2_500)], 1)
    mixed = frames_of((channels, 16_000))
    assert torch.allclose(mixed, frames_of((channels.mean(1), 16_000)), atol=1e-5)
    assert torch.allclose(frames_of(encoded(channels, subtype="FLOAT")), mixed, atol=1e-5)
    assert not torch.allclose(mixed, frames_of((channels[:, 0], 16_000)), atol=1e-1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 15_999])
def test_fault_09_other_rates_are_resampled(rate):
    expected = frames_of((tone(), 16_000))
    resampled = frames_of(encoded(tone(rate=rate), rate, subtype="FLOAT"))
    assert abs(len(resampled) - len(expected)) <= 1
    inner = slice(5, 45)
    assert resampled[inner].argmax(1).equal(expected[inner].argmax(1))
    assert torch.allclose(resampled[inner].amax(1), expected[inner].amax(1), atol=0.02)


def test_frames_equal_torchaudios_mel_spectrogram():
    samples = np.random.default_rng(0).normal(0, 0.1, 12_345).astype(np.float32)
    reference = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=1_024, win_length=400, hop_length=160, n_mels=64, pad_mode="constant"
    )
    expected = (reference(torch.from_numpy(samples)).T + 1e-6).log()
    assert torch.allclose(frames_of((samples, 16_000)), expected, atol=1e-5)


def test_every_kind_of_raw_value_gives_the_same_frames(tmp_path):
    samples = (tone() * 32_768).astype(np.int16)
    data = encoded(samples)
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    expected = frames_of((samples, 16_000))
    dicts = [{"array": samples, "sampling_rate": 16_000, "path": None}, {"bytes": data, "path": None}, {"path": path}]
    for value in (data, path, str(path), (samples / 32_768, 16_000), *dicts):
        assert torch.allclose(frames_of(value), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "found NoneType"),
        ("absent.wav", "absent.wav: expected a sound file.*No such file"),
        ((np.zeros(9), None), "its rate in hertz"),
        ((["a"], 16_000), "of floats or int16"),
        ((np.zeros(9, np.int64), 16_000), "found .9. of int64"),
        ((np.zeros((2, 16_000)), 16_000), "2 samples at 16000 Hz in 16000 channels"),
        ((np.zeros(0), 16_000), "found 0 samples"),
        ((np.zeros((9, 0)), 16_000), "in 0 channels"),
        ({}, "found NoneType"),
    ],
)
def test_other_values_are_refused_with_what_was_found(value, expected):
    with pytest.raises(SampleError, match=expected):
        AudioProcessor()(value)


def test_the_beginning_is_kept():
    sound = np.concatenate([tone(440, seconds=0.3), tone(2_000, seconds=0.4)])
    expected = frames_of((sound[:4_800], 16_000))
    assert frames_of((sound, 16_000), max_seconds=0.3).equal(expected)
    assert torch.allclose(frames_of(encoded(sound, subtype="FLOAT"), max_seconds=0.3), expected, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 159, 401])
def test_the_shortest_sounds_and_silence_give_finite_frames(length):
    for normalise in ("training", "item"):
        processor = AudioProcessor(normalise=normalise)
        processor.fit([(np.zeros(length), 16_000)])
        frames = processor((np.zeros(length), 16_000))["frames"]
        assert frames.shape == (1 + length // 160, 64)
        assert frames.isfinite().all()


def test_fitting_standardises_the_training_split_in_one_pass():
    rng = np.random.default_rng(0)
    values = [AudioProcessor.example(rng) for _ in range(5)]
    raw = torch.cat([frames_of(value) for value in values])
    processor = AudioProcessor()
    processor.fit(iter(values))
    assert torch.allclose(processor.mean, raw.mean(0), atol=1e-5)
    assert torch.allclose(processor.std, raw.std(0, correction=0), atol=1e-5)
    frames = torch.cat([processor(value)["frames"] for value in values])
    assert torch.allclose(frames.mean(0), torch.zeros(64), atol=1e-4)
    copy = pickle.loads(pickle.dumps(processor))
    assert copy(values[0])["frames"].equal(processor(values[0])["frames"])


def test_normalising_by_item_hides_loudness_and_needs_no_training_split():
    processor = AudioProcessor(normalise="item")
    processor.fit(value for value in [None])  # reading it would raise
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 8_000)
    quiet, louder = (processor((sound * factor, 16_000))["frames"] for factor in (1, 3))
    assert torch.allclose(quiet, louder, atol=1e-2)
    assert torch.allclose(quiet.std(0, correction=0), torch.ones(64), atol=1e-4)


def test_augmentation_hides_bands_and_times_when_asked_with_a_generator():
    value = AudioProcessor.example(np.random.default_rng(0))
    plain = frames_of(value)
    processor = AudioProcessor(augment=True)
    assert processor(value)["frames"].equal(plain)
    assert AudioProcessor()(value, np.random.default_rng(1))["frames"].equal(plain)
    hidden_times, hidden_bands = [], []
    for seed in range(20):
        masked = processor(value, np.random.default_rng(seed))["frames"]
        assert masked.equal(processor(value, np.random.default_rng(seed))["frames"])
        zero = masked == 0
        assert masked[~zero].equal(plain[~zero])
        hidden_times.append(zero.all(1).float().mean())
        hidden_bands.append(zero.all(0).float().mean())
    for hidden in (torch.stack(hidden_times), torch.stack(hidden_bands)):
        assert 0.05 < hidden.mean() < 0.3
        assert hidden.max() <= 0.4


def test_features_summarise_the_real_frames_of_each_band():
    processor = AudioProcessor()
    short, long = (processor((tone(seconds=seconds), 16_000)) for seconds in (0.2, 0.5))
    padded = processor.collate([short, long])
    row = {name: value[0] for name, value in padded.items()}
    features = processor.features(row)
    assert features.shape == (5 * 64,)
    assert np.array_equal(features, processor.features(short))
    assert np.allclose(features[:64], short["frames"].mean(0), atol=1e-5)
    assert np.allclose(features[3 * 64 : 4 * 64], np.median(short["frames"], 0), atol=1e-5)


def test_collate_pads_and_takes_rows_of_an_earlier_result():
    processor = AudioProcessor()
    items = [processor((tone(seconds=seconds), 16_000)) for seconds in (0.2, 0.5)]
    batch = processor.collate(items)
    assert batch["mask"].sum(1).tolist() == [21, 51]
    again = processor.collate([{name: value[0] for name, value in batch.items()}, items[0]])
    assert again["mask"].sum(1).tolist() == [21, 21]
    assert again["frames"][0].equal(batch["frames"][0])


@pytest.fixture
def encoder() -> AudioEncoder:
    """In training mode, without dropout, in float64."""
    torch.manual_seed(0)
    return AudioEncoder(8, AudioProcessor(mels=8), patch=4, width=16, dropout=0.0).double()


def batch(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(len(lengths), max(lengths), 8, generator=generator, dtype=torch.float64)
    return frames, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def test_a_token_is_real_where_any_of_its_frames_is(encoder):
    tokens = encoder(*batch(9, 4, 1))
    assert tokens.values.shape == (3, 3, 8)
    assert tokens.mask.sum(1).tolist() == [3, 1, 1]
    assert tokens.unit.tolist() == [[0, 1, 2], [0, -1, -1], [0, -1, -1]]
    assert (tokens.values[~tokens.mask] == 0).all()


@pytest.mark.parametrize("extra", [1, 3, 4, 30])
@pytest.mark.parametrize("content", [0.0, 1e30, float("nan")])
def test_appended_masked_frames_change_nothing(encoder, extra, content):
    frames, mask = batch(9, 6)
    frames[~mask] = 0.0
    expected = encoder(frames, mask)
    frames[~mask] = content
    longer = torch.cat([frames, torch.full((2, extra, 8), content, dtype=torch.float64)], 1).requires_grad_()
    tokens = encoder(longer, torch.cat([mask, torch.zeros(2, extra, dtype=torch.bool)], 1))
    length = expected.values.shape[1]
    assert torch.allclose(tokens.values[:, :length], expected.values, atol=1e-9, rtol=0)
    assert tokens.mask[:, :length].equal(expected.mask)
    assert not tokens.mask[:, length:].any()
    tokens.values.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
    assert longer.grad is not None
    assert (longer.grad[:, 9:] == 0).all()


def test_no_item_influences_another_in_training_mode(encoder):
    frames, mask = batch(9, 6)
    together = encoder(frames, mask).values
    for index in range(2):
        alone = encoder(frames[index : index + 1], mask[index : index + 1]).values[0]
        assert torch.allclose(together[index], alone, atol=1e-9, rtol=0)
    assert not torch.allclose(together[0, 0], together[1, 0], atol=1e-3)


def test_an_item_without_a_real_frame_is_finite_and_empty(encoder):
    frames, mask = batch(9, 6)
    mask[1] = False
    tokens = encoder(frames, mask)
    assert tokens.values.isfinite().all()
    assert not tokens.mask[1].any()


def test_every_parameter_learns(encoder):
    tokens = encoder(*batch(9, 6))
    (tokens.values * torch.randn_like(tokens.values)).sum().backward()
    unread = [name for name, value in encoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert unread == []


def test_tokens_know_their_position(encoder):
    same = torch.ones(1, 12, 8, dtype=torch.float64)
    values = encoder(same, torch.ones(1, 12, dtype=torch.bool)).values[0]
    assert not torch.allclose(values[0], values[1], atol=1e-3)


def test_dropout_is_made_of_modules_that_a_recipe_can_reach():
    encoder = AudioEncoder(8, AudioProcessor(mels=8), width=16)
    frames, mask = batch(9)
    frames = frames.float()
    assert not encoder(frames, mask).values.equal(encoder(frames, mask).values)
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    assert encoder(frames, mask).values.equal(encoder(frames, mask).values)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(RecipeError, match="multiple of 'heads', got width=10, heads=4"):
        AudioEncoder(8, AudioProcessor(), width=10)
