"""Tests of LateFusion around a dummy mixing module: rows that pass the trunk, absent streams, rows without streams."""

import pytest
import torch
from torch import nn

from mmbert.fusion.late import LateFusion, encode_text
from mmbert.types import Tokens

DIM = 4


def tokens(mask, unit=None, seed=0):
    mask = torch.tensor(mask, dtype=torch.bool)
    values = torch.randn(*mask.shape, DIM, generator=torch.Generator().manual_seed(seed))
    return Tokens(values, mask, torch.zeros(mask.shape, dtype=torch.int64) if unit is None else torch.tensor(unit))


class Doubling(nn.Module):
    """A trunk that doubles its input and records the number of rows."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, given):
        self.rows.append(len(given.mask))
        return given._replace(values=torch.where(given.mask[..., None], self.factor * given.values, 0.0))


class Recorder(nn.Module):
    """A mixing module that records its input and returns sevens."""

    def __init__(self, dim, names):
        super().__init__()
        self.names = names

    def forward(self, vectors, present):
        self.vectors, self.present = vectors, present
        return torch.full_like(vectors[:, 0], 7.0)


TEXT = tokens([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 1]], [[-1, 0, -1], [-1, -1, -1], [-1, -1, -1], [-1, 0, -1]])
SOUND = tokens([[1, 1], [1, 0], [0, 0], [0, 0]], seed=1)  # row 1 has sound alone, row 2 nothing, row 3 text alone


def test_rows_without_text_but_with_a_stream_skip_the_trunk():
    trunk = Doubling()
    read = encode_text(trunk, TEXT, SOUND.mask.any(1))
    assert trunk.rows == [3]
    assert read.mask.tolist() == [[True] * 3, [False] * 3, [True, True, False], [True] * 3]
    torch.testing.assert_close(read.values[[0, 3]], 2 * TEXT.values[[0, 3]])
    assert torch.equal(read.unit[[0, 2, 3]], TEXT.unit[[0, 2, 3]])


def test_the_trunk_takes_part_where_no_row_needs_it():
    trunk, only = Doubling(), torch.tensor([1, 1])
    read = encode_text(trunk, TEXT.at(only), torch.tensor([True, True]))
    assert trunk.rows == [1]
    assert not read.mask.any()
    torch.where(read.mask[..., None], read.values, 0.0).sum().backward()
    assert trunk.factor.grad == 0


@pytest.mark.parametrize("given", [("sound", "graph"), ("graph", "sound"), ("sound",)])
def test_the_mix_sees_normed_vectors_zeros_for_the_absent_and_who_is_there(given):
    late = LateFusion(DIM, ("sound", "graph"), Recorder, pooling="mean")
    with torch.no_grad():
        for norm in late.vectors.norms.values():
            norm.bias += 5.0  # must not appear in absent vectors
    nothing = tokens([[0], [0], [0], [0]], seed=2)
    fused = late(Doubling(), TEXT, {name: {"sound": SOUND, "graph": nothing}[name] for name in given})
    assert late.mix.names == ("text", "graph", "sound")
    present = [[1, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert torch.equal(late.mix.present, torch.tensor(present, dtype=torch.bool))
    assert not late.mix.vectors[~late.mix.present].any()
    normed = late.mix.vectors[late.mix.present] - 5
    torch.testing.assert_close(normed.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(5), atol=1e-3, rtol=0)
    assert (fused.summary[:2] == 7).all()
    torch.testing.assert_close(fused.summary[2], 2 * TEXT.values[2, :2].mean(0))
    torch.testing.assert_close(fused.summary[3], 2 * TEXT.values[3].mean(0))
    assert fused.streams["sound"] is SOUND


def test_without_streams_there_is_nothing_to_mix():
    late = LateFusion(DIM, (), Recorder, pooling="mean")
    fused = late(Doubling(), TEXT, {})
    assert late.mix is None
    assert [*late.parameters()] == []
    assert [*fused.streams] == ["text"]
    torch.testing.assert_close(fused.summary[0], 2 * TEXT.values[0].mean(0))
