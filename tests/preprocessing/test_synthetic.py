"""Tests of the synthetic values: one-line rules recover the bit, and nothing else depends on it."""

import pickle

import numpy as np
import pytest

from mmbert.preprocessing.synthetic import WORDS, bar, record, sentence, slope, tone, tree

VALUES = 300


def pitch(value):
    """The loudest frequency of a sound in hertz."""
    samples, rate = value
    return np.fft.rfftfreq(len(samples), 1 / rate)[np.abs(np.fft.rfft(samples)).argmax()]


def degrees(value):
    return np.bincount(np.array(value["edges"]).flatten(), minlength=len(value["nodes"]))


READ = {
    sentence: lambda value: any(word in WORDS[1] for word in value.split()),
    bar: lambda value: value[..., 0].max() > value[..., 2].max(),
    tone: lambda value: pitch(value) > 600,
    slope: lambda value: value[-1] > value[0],
    tree: lambda value: degrees(value).max() == len(value["nodes"]) - 1,
    record: lambda value: value["balance"] > 0,
}
every_way = pytest.mark.parametrize("show", READ)


@every_way
def test_the_bit_can_be_read_off_every_value(show):
    for seed in range(VALUES):
        for bit in (0, 1):
            assert READ[show](show(bit, np.random.default_rng(seed))) == bit


@every_way
def test_all_else_is_drawn_alike_for_both_bits(show):
    for seed in range(20):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        assert pickle.dumps(show(0, first)) != pickle.dumps(show(1, second))
        assert first.random() == second.random()


@every_way
def test_a_bit_has_many_values(show):
    rng = np.random.default_rng(0)
    assert len({pickle.dumps(show(1, rng)) for _ in range(VALUES)}) > VALUES / 2


def test_sounds_and_images_are_of_the_range_that_processors_read():
    for seed in range(VALUES):
        for bit in (0, 1):
            samples, rate = tone(bit, np.random.default_rng(seed))
            assert samples.dtype == np.float32
            assert np.abs(samples).max() < 0.6
            assert 0.2 <= len(samples) / rate <= 0.4
            image = bar(bit, np.random.default_rng(seed))
            assert image.shape == (32, 32, 3)
            assert image.dtype == np.uint8


def test_a_tree_is_connected_and_of_every_order():
    graphs = [tree(bit, np.random.default_rng(seed)) for seed in range(VALUES) for bit in (0, 1)]
    for graph in graphs:
        size, links = len(graph["nodes"]), np.eye(len(graph["nodes"]))
        assert len(graph["edges"]) == size - 1
        for first, second in graph["edges"]:
            links[first, second] = links[second, first] = 1
        assert (np.linalg.matrix_power(links, size) > 0).all()
    assert {len(graph["nodes"]) for graph in graphs} == {4, 5, 6, 7, 8}
    assert len({degrees(graph).argmax() for graph in graphs}) > 4  # the centre is anywhere
