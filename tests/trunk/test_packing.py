"""Tests of packing: tokens move, values do not change."""

import torch

from mmbert.trunk import packing as module
from mmbert.trunk.packing import plan_packing


def random_mask(generator, rows=13, length=40):
    mask = torch.rand(rows, length, generator=generator) < torch.rand(rows, 1, generator=generator)
    mask[:, 0] = True
    mask[rows // 2] = False  # a row of nothing
    return mask


def groups_of(lengths):
    return plan_packing(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).groups


def test_unpack_undoes_pack():
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        mask = random_mask(generator)
        values = torch.randn(*mask.shape, 3, generator=generator)
        packing = plan_packing(mask)
        packed = packing.pack(values)
        assert packed.shape == (int(mask.sum()), 3)
        assert torch.equal(packing.unpack(packed, values.shape), torch.where(mask[..., None], values, 0))


def test_unpad_undoes_pad_and_the_mask_says_which_places_are_real():
    for group in groups_of([12, 10, 9, 5, 5, 2]):
        values = torch.randn(group.tokens, 2, 3)
        padded = group.pad(values)
        assert padded.shape == (*group.shape, 2, 3)
        assert torch.equal(group.unpad(padded), values)
        if group.mask is None:
            assert padded.numel() == values.numel()
        else:
            assert group.mask.sum() == group.tokens
            assert not padded[~group.mask].any()


def test_sequences_are_whole_in_reading_order_and_the_longest_first():
    mask = random_mask(torch.Generator().manual_seed(1))
    packing = plan_packing(mask)
    rows, places = packing.source // mask.shape[1], packing.source % mask.shape[1]
    lengths = packing.ends.diff().tolist()
    assert lengths == sorted(mask.sum(1)[mask.any(1)].tolist(), reverse=True)
    assert packing.longest == lengths[0]
    for row, place, position in zip(*(part.split(lengths) for part in (rows, places, packing.position)), strict=True):
        assert len(set(row.tolist())) == 1
        assert place.tolist() == mask[row[0]].nonzero().squeeze(1).tolist()
        assert position.tolist() == list(range(len(position)))


def test_a_group_holds_sequences_that_are_about_as_long(monkeypatch):
    monkeypatch.setattr(module, "ALIKE", 0.5)
    assert [group.shape for group in groups_of([100, 3, 51, 49, 30, 6, 100, 2])] == [(3, 100), (2, 49), (2, 6), (1, 2)]
    monkeypatch.setattr(module, "ALIKE", 0.0)
    assert [group.shape for group in groups_of([100, 3, 51])] == [(3, 100)]


def test_nothing_to_pack():
    packing = plan_packing(torch.zeros(2, 3, dtype=torch.bool))
    assert packing.unpack(packing.pack(torch.ones(2, 3, 4)), torch.Size([2, 3, 4])).abs().sum() == 0
