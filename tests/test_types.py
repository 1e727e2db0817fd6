"""Batch, Tokens, Fused, Sample: selecting rows, moving to a device, immutability, and stable ids."""

import dataclasses

import pytest
import torch
from torch.utils import _pytree as pytree

from mmbert.types import Batch, Fused, Present, Sample, Tokens, sample_id


def tokens(rows=3, length=4, dim=2):
    values = torch.arange(rows * length * dim, dtype=torch.float32).reshape(rows, length, dim)
    mask = torch.arange(length) < torch.tensor([[4], [1], [0]])
    return Tokens(values, mask, torch.where(mask, torch.arange(length), -1))


def batch():
    photo = Present(torch.tensor([0, 2, 2]), {"pixels": torch.zeros(3, 5, dtype=torch.uint8)})
    sound = Present(torch.tensor([1]), {"frames": torch.ones(1, 7), "mask": torch.ones(1, 7, dtype=torch.bool)})
    price = Present(torch.tensor([0, 1]), {"target": torch.tensor([0.5, 1.5])})
    return Batch(torch.tensor([9, 8, 7]), {"photo": photo, "sound": sound}, {"price": price}, {"year": torch.ones(3)})


def same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_tokens_can_be_selected_by_rows_in_any_order_and_number():
    whole, rows = tokens(), torch.tensor([2, 0, 0])
    for part, full in zip(whole.at(rows), whole, strict=True):
        same(part, torch.stack([full[2], full[0], full[0]]))
    assert [len(part) for part in whole.at(torch.tensor([], dtype=torch.int64))] == [0, 0, 0]


def test_fused_can_be_selected_by_rows_in_every_stream():
    streams = {"text": tokens(), "photo": tokens(length=4)}
    fused = Fused(torch.arange(6.0).reshape(3, 2), streams)
    rows = torch.tensor([1, 1])
    part = fused.at(rows)
    same(part.summary, torch.tensor([[2.0, 3.0]] * 2))
    assert list(part.streams) == list(streams)
    assert len(part.streams) == 2
    assert "sound" not in part.streams
    for name, stream in part.streams.items():
        same(stream, streams[name].at(rows))
    same(part.at(torch.tensor([0])).streams["text"], streams["text"].at(rows[:1]))


def test_a_stream_is_copied_only_when_it_is_asked_for():
    class Counted(dict):
        asked = 0

        def __getitem__(self, name):
            self.asked += 1
            return super().__getitem__(name)

    streams = Counted(text=tokens())
    part = Fused(torch.zeros(3, 2), streams).at(torch.tensor([0]))
    assert streams.asked == 0
    assert len(part.streams["text"].values) == 1
    assert streams.asked == 1


def test_moving_changes_the_type_of_floats_only():
    moved = batch().to("cpu", torch.float64)
    assert moved.inputs["sound"].tensors["frames"].dtype == torch.float64
    assert moved.targets["price"].tensors["target"].dtype == torch.float64
    assert moved.inputs["sound"].tensors["mask"].dtype == torch.bool
    assert moved.inputs["photo"].tensors["pixels"].dtype == torch.uint8
    assert moved.ids.dtype == moved.inputs["photo"].rows.dtype == torch.int64
    same(moved.to("cpu", torch.float32), batch())
    same(batch().to("cpu"), batch())


def test_every_tensor_moves():
    leaves = pytree.tree_leaves(batch().to("meta"))
    assert len(leaves) == 9
    assert {leaf.device.type for leaf in leaves} == {"meta"}


def test_a_batch_is_a_tree_of_tensors():
    doubled = pytree.tree_map(lambda tensor: tensor * 2, batch())
    assert isinstance(doubled, Batch)
    assert doubled.ids.tolist() == [18, 16, 14]
    assert doubled.inputs["photo"].rows.tolist() == [0, 4, 4]
    assert len(doubled) == 3


def test_batches_and_samples_are_immutable():
    for value in (batch(), Present(torch.zeros(1), {}), Sample(1, "shop", {}, {})):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)
        with pytest.raises((AttributeError, TypeError)):
            value.unknown = 1
    assert Sample(1, "shop", {}, {}).attributes == {}


def test_ids_never_change():
    """These numbers are stored in ledgers, predictions and caches; another hash would break them all."""
    assert sample_id("molecules", "64-17-5") == 3554155761919361917
    assert sample_id("", "") == 5367003119948742948


def test_ids_are_63_bits_and_differ():
    ids = {sample_id(source, str(key)) for source in ("a", "b", "ab") for key in range(2000)}
    assert len(ids) == 6000
    assert 0 <= min(ids) < 2**60
    assert 2**62 < max(ids) < 2**63
    assert sample_id("a", "bc") != sample_id("ab", "c")
    assert sample_id("a", "\ud800") != sample_id("a", "\ud801")  # halves of surrogate pairs occur in the wild
