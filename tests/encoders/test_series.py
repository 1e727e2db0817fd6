"""Tests of series: gaps, lengths and channels, closed forms of the statistics, tokens that follow the steps."""

import datetime
import math
import re

import numpy as np
import pytest
import torch

from encoders.series import SeriesEncoder, SeriesProcessor, halve
from mmbert.errors import DataError, RecipeError, SampleError


def fitted(*values, **options):
    processor = SeriesProcessor(**options)
    processor.fit(values)
    return processor


def make_encoder(processor, **options):
    """An encoder in float64, in training mode without dropout."""
    torch.manual_seed(0)
    small = {"width": 32, "blocks": 2, "kernel": 5, "dropout": 0.0}
    return SeriesEncoder(6, processor, **{**small, **options}).double()


def joined(processor, *values):
    batch = processor.collate([processor(value) for value in values])
    return {**batch, "values": batch["values"].double()}


def encode(processor, *values, **options):
    return make_encoder(processor, **options)(**joined(processor, *values))


def wave(length, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(length, channels)).cumsum(0)


def test_each_channel_has_mean_0_and_deviation_1_over_what_is_observed():
    series = [wave(length, 3, seed=length) * [1, 1e-20, 1e9] + [5, 0, -1e10] for length in (9, 4, 30)]
    series[1][2] = np.nan
    processor = fitted(*series)
    steps = np.concatenate(series)
    mean, deviation = np.nanmean(steps, 0), np.nanstd(steps, 0)
    for values in series:
        item = processor(values)
        np.testing.assert_allclose(item["values"], np.nan_to_num((values - mean) / deviation), atol=1e-5)
        assert np.array_equal(item["observed"], ~np.isnan(values))
        assert item["values"].dtype == torch.float32


def test_every_kind_of_raw_value_is_the_same_series():
    expected = [[1.0, 4.0], [2.0, math.nan], [3.0, 6.0]]
    nested = np.empty(3, dtype=object)
    nested[:] = [np.array([1.0, 4.0]), np.array([2.0, None], dtype=object), np.array([3, 6])]
    processor = fitted(expected)
    for value in (
        np.array(expected, dtype=np.float32),
        [[1, 4], [2, None], [3, 6]],
        ((1, 4), (2, math.nan), (3, 6)),
        np.array([[1, 4], [2, None], [3, 6]], dtype=object),
        nested,
    ):
        item = processor(value)
        assert torch.allclose(item["values"][:, 0], torch.tensor([-(1.5**0.5), 0, 1.5**0.5]))
        assert item["values"][:, 1].tolist() == [-1, 0, 1]
        assert item["observed"].tolist() == [[True, True], [True, False], [True, True]]
    one_channel = fitted([1, 2, 3])([3, None])
    assert one_channel["values"].shape == (2, 1)
    assert fitted([True, False])([True, False])["values"].tolist() == [[1], [-1]]
    assert fitted([1, 2, 3])(np.array([3, None], dtype=object))["values"].equal(one_channel["values"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([[1.0, 2.0], [3.0, math.inf]], r"up to 1e\+30 or missing ones.* found inf at step 1"),
        ([[1.0, 2.0], [3.0, 4.0], [-math.inf, 0.0]], "found -inf at step 2"),
        ([[1.0, 1e300]], r"found 1e\+300 at step 0"),
        ([[1.0], [2.0]], "2 channels, as in training, found 1"),
        ([1.0, 2.0], "2 channels, as in training, found 1"),
        ([[1.0, 2.0, 3.0]], "2 channels, as in training, found 3"),
        ([[1.0, 2.0], [3.0]], r"as numbers \[time, channels\] or \[time\], found \[\[1.0, 2.0\], \[3.0\]\]"),
        ([["1.0", "2.0"]], "as numbers"),
        ([["1.0", None]], "as numbers"),
        ([[10**400, 1.0]], "as numbers"),
        ([[1j, 2.0]], "as numbers"),
        ([[datetime.datetime(2000, 1, 1), 1.0]], "as numbers"),
        (np.array(["2000-01-01"], dtype="M8[D]"), "as numbers"),
        (np.zeros((1, 2, 3)), "as numbers"),
        (3.0, "as numbers.*found 3.0"),
        (None, "as numbers.*found None"),
        ({"a": 1.0}, "as numbers"),
        ("1, 2", "as numbers.*found 1, 2"),
    ],
)
def test_fault_11_other_values_are_refused_with_what_was_found(value, expected):
    with pytest.raises(SampleError, match=expected):
        fitted([[1.0, 2.0], [3.0, 4.0]])(value)


def test_a_training_split_has_one_number_of_channels():
    for values in ([], [[]], [[1.0], [[1.0, 2.0]]]):
        with pytest.raises(DataError, match="the same number of channels"):
            fitted(*values)
    assert fitted([], [1.0, 2.0]).channels == 1


def test_fault_11_only_the_first_steps_of_a_long_series_are_kept():
    values = wave(50)
    processor = fitted(values, max_length=20)
    assert processor(values)["values"].equal(processor(values[:20])["values"])
    assert len(processor(values[:20])["values"]) == 20


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("patch", [1, 4])
@pytest.mark.parametrize("length", [1, 2, 3, 17])
def test_fault_11_degenerate_series_give_finite_tokens_and_gradients(length, patch, layers):
    nothing, constant = np.full((length, 2), np.nan), np.tile([0.1, 7.0], (length, 1))
    half, far = constant * [1, np.nan], np.tile([1e30, -1e30], (length, 1))
    for training in (wave(9), constant, nothing):  # channels that are constant or never observed
        processor = fitted(training)
        encoder = make_encoder(processor, patch=patch, layers=layers)
        tokens = encoder(**joined(processor, nothing, constant, half, far, wave(length)))
        assert tokens.values.isfinite().all()
        assert tokens.mask.all()
        tokens.values.square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
    constant_item = fitted(constant)(constant)
    assert constant_item["values"].abs().max() < 1e-6  # not divided by rounding errors
    assert constant_item["observed"].all()
    assert np.isfinite([processor.features(processor(value)) for value in (nothing, constant, far)]).all()


def test_jitter_adds_noise_and_scales_channels_in_training_only():
    curve = np.random.default_rng(0).normal(0, 1, (20_000, 2))
    curve[5, 1] = np.nan
    processor = SeriesProcessor(max_length=20_000, jitter=0.1)
    processor.fit([curve])
    plain, again = processor(curve), processor(curve, np.random.default_rng(1))
    assert torch.equal(plain["observed"], again["observed"])
    assert again["values"][5, 1] == 0
    factors = (again["values"] * plain["values"]).sum(0) / plain["values"].square().sum(0)
    assert (factors != 1).all()
    assert (factors - 1).abs().max() < 0.5
    noise = again["values"] - factors * plain["values"]
    assert noise.std() == pytest.approx(0.1, rel=0.02)


def test_a_series_without_a_step_is_absent():
    assert fitted([1.0, 2.0])([]) == fitted([1.0, 2.0])(np.zeros((0, 1))) == {}


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("layers", [0, 1])
def test_what_missing_and_masked_steps_hold_reaches_neither_output_nor_gradient(patch, layers):
    processor = fitted(wave(9))
    gap = wave(11)
    gap[3:6, 0] = gap[7] = np.nan
    batch = joined(processor, gap, wave(5))
    encoder = make_encoder(processor, patch=patch, layers=layers)
    expected = encoder(**batch)
    hidden = ~(batch["observed"] & batch["mask"][..., None])
    batch["values"] = batch["values"].masked_fill(hidden, torch.nan).requires_grad_()
    batch["observed"] = batch["observed"] | ~batch["mask"][..., None]  # in padding, neither is whether it is observed
    tokens = encoder(**batch)
    assert tokens.values.equal(expected.values)
    (tokens.values * torch.linspace(0.5, 1, 6)).sum().backward()
    assert (batch["values"].grad[hidden] == 0).all()
    assert (batch["values"].grad[~hidden] != 0).any(0).all()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_an_observed_zero_and_a_gap_are_different():
    processor = fitted([0.0, 1.0, -1.0])
    zero, gap = encode(processor, [1.0, 0.0, 1.0, -1.0], [1.0, None, 1.0, -1.0]).values
    assert (zero - gap).abs().max() > 1e-3


@pytest.mark.parametrize(("patch", "expected"), [(1, [9, 4]), (2, [5, 2]), (4, [3, 1])])
def test_a_token_is_a_patch_of_steps(patch, expected):
    tokens = encode(fitted(wave(9)), wave(9), wave(4), patch=patch)
    assert tokens.values.shape == (2, expected[0], 6)
    assert tokens.mask.sum(1).tolist() == expected
    assert tokens.unit.tolist() == [[*range(real), *[-1] * (expected[0] - real)] for real in expected]
    assert (tokens.values[~tokens.mask] == 0).all()


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_each_token_reads_the_mean_of_its_patch(patch):
    values = wave(11)
    values[2:9, 1] = np.nan
    processor = fitted(wave(9), values)
    encoder = make_encoder(processor, patch=patch)
    seen = []
    encoder.level.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(**joined(processor, values, wave(3)))
    standard = (values - processor.mean) / processor.deviation
    for place, start in enumerate(range(0, 11, patch)):
        part = standard[start : start + patch]
        means = [channel[~np.isnan(channel)].mean() if (~np.isnan(channel)).any() else 0.0 for channel in part.T]
        shares = (~np.isnan(part)).sum(0) / patch
        np.testing.assert_allclose(seen[0][0, place], [*means, *shares], atol=1e-6)


def test_halving_takes_the_maximum_of_two_steps():
    values = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [5.0, 6.0]], [[7.0, 8.0], [0.0, 0.0], [0.0, 0.0]]])
    halved, mask = halve(values, torch.tensor([[True, True, True], [True, False, False]]))
    assert halved.tolist() == [[[3, 4], [5, 6]], [[7, 8], [0, 0]]]
    assert mask.tolist() == [[True, True], [True, False]]


def test_the_size_of_the_values_is_seen_though_each_item_is_normalised():
    processor = fitted(wave(200, 1))
    small, large = encode(processor, wave(40, 1, seed=1), 3 * wave(40, 1, seed=1)).values
    assert (small - large).abs().max() > 0.1


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_shifting_a_bump_by_a_patch_shifts_the_tokens_unless_layers_add_positions(patch):
    steps = np.zeros((2, 160, 1))
    for row, start in enumerate((76, 76 + patch)):
        steps[row, start : start + 6, 0] = [1, -2, 3, -1, 2, 1]
    processor = fitted(steps[0])
    inner, shifted = (
        slice(24 // patch, 136 // patch),
        slice(24 // patch + 1, 136 // patch + 1),
    )  # far from both ends
    first, second = encode(processor, *steps, patch=patch).values
    assert torch.allclose(first[inner], second[shifted], atol=1e-9)
    assert not torch.allclose(first[inner], second[inner], atol=1e-3)
    first, second = encode(processor, *steps, patch=patch, layers=1).values
    assert (first[inner] - second[shifted]).abs().amax(1).min() > 1e-3


def test_order_within_a_patch_is_seen():
    processor = fitted(wave(50, 1))
    values = wave(16, 1)
    swapped = values.copy()
    swapped[[5, 6]] = swapped[[6, 5]]
    first, second = encode(processor, values, swapped, patch=4).values
    assert (first[1] - second[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"patch": 3}, "'patch' must be one of 1, 2, 4 with 2 blocks, got patch=3"),
        ({"patch": 8}, "'patch' must be one of 1, 2, 4 with 2 blocks, got patch=8"),
        ({"patch": 2, "blocks": 1, "kernel": 6}, "'kernel' must be odd, got kernel=6"),
    ],
)
def test_wrong_options_are_refused_with_the_legal_ones(options, expected):
    with pytest.raises(RecipeError, match=expected):
        make_encoder(fitted(wave(9)), **options)


def test_features_are_the_curve_of_each_channel_and_the_length():
    processor = fitted([[-1.0, 0.0], [1.0, 0.0]])
    features = processor.features(processor([[0.0, None], [None, None], [2.0, None], [4.0, None]]))
    assert features[0] == np.log(4)
    curve = np.interp(np.linspace(0, 3, 32), [0, 2, 3], [0, 2, 4])
    np.testing.assert_allclose(features[1:33], curve, atol=1e-6)
    np.testing.assert_allclose(features[33:37], [2, (8 / 3) ** 0.5, 0, 4], rtol=1e-6)
    assert (features[37:] == 0).all()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[0.5, 2, null]", [0.5, 2.0, None]),
        (" [[1, 2], [3, NaN]] ", [[1.0, 2.0], [3.0, None]]),
        ("0.5 2 -1e3", [0.5, 2.0, -1000.0]),
        ("7", [7.0]),
    ],
)
def test_text_of_a_csv_file_is_read_as_the_list(text, values):
    processor = SeriesProcessor()
    processor.fit([values])
    from_text, from_list = processor(text), processor(values)
    assert all(from_text[name].equal(from_list[name]) for name in from_list)


@pytest.mark.parametrize("text", ["[0.5, 2", "red", "[1, 'x']", "1;2"])
def test_text_that_is_no_series_is_refused_as_it_is_written(text):
    with pytest.raises(SampleError, match=re.escape(f"found {text}")):
        SeriesProcessor().fit([text])
