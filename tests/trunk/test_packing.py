"""Packing moves tokens and nothing else."""

import torch

from mmbert.trunk.packing import plan_packing


def random_mask(generator, rows=13, length=40):
    mask = torch.rand(rows, length, generator=generator) < torch.rand(rows, 1, generator=generator)
    mask[:, 0] = True
    return mask


def test_unpack_undoes_pack():
    generator = torch.Generator().manual_seed(0)
    for width in (1, 16, 64):
        mask = random_mask(generator)
        values = torch.randn(*mask.shape, 3, generator=generator)
        packing = plan_packing(mask, width)
        assert torch.equal(packing.unpack(packing.pack(values), values.shape), torch.where(mask[..., None], values, 0))


def test_sequences_are_whole_contiguous_and_apart():
    mask = random_mask(torch.Generator().manual_seed(1))
    packing = plan_packing(mask, 48)
    for sequence, length in enumerate(mask.sum(1).tolist()):
        rows, places = (packing.block == sequence).nonzero(as_tuple=True)
        assert len(set(rows.tolist())) == 1
        assert places.tolist() == list(range(int(places[0]), int(places[0]) + length))
    reads = packing.mask
    assert torch.equal(reads, reads.transpose(1, 2))
    assert reads.any(2).all()


def test_first_fit_decreasing_fills_rows():
    lengths = torch.tensor([64, 56, 16, 56, 64])
    packing = plan_packing(torch.arange(64) < lengths[:, None], 128)
    assert packing.block.shape == (2, 128)
    assert (packing.block >= 0).all()


def test_few_tokens_take_one_row_of_their_own_width():
    assert plan_packing(torch.arange(9) < torch.tensor([[9], [2]]), 128).block.shape == (1, 11)
