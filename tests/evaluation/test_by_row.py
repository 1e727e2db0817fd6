"""Predictions of many batches, collected by the ids of their samples."""

import pickle

import pytest
import torch

from mmbert.evaluation.evaluate import RowsById

BLOCKS = [
    (torch.tensor([9, 2**62]), torch.tensor([[0.9, 1.0], [0.1, 2.0]])),
    (torch.tensor([4]), torch.tensor([[0.4]])),
]


def test_each_row_is_collected_under_its_id_in_the_order_of_ids():
    rows = RowsById(BLOCKS)
    expected = {4: [0.4], 9: [0.9, 1.0], 2**62: [0.1, 2.0]}
    assert [*rows] == [*expected]
    for copy in (rows, pickle.loads(pickle.dumps(rows))):
        assert {sample: row.tolist() for sample, row in copy.items()} == {
            sample: pytest.approx(row) for sample, row in expected.items()
        }
    assert [row.tolist() for row in rows.rows()] == [row.tolist() for row in rows.values()]


def test_targets_are_rows_of_each_tensor():
    rows = RowsById([(torch.tensor([3, 1]), {"target": torch.tensor([30, 10]), "known": torch.tensor([True, False])})])
    assert {name: tensor.item() for name, tensor in rows[1].items()} == {"target": 10, "known": False}


def test_rows_by_id_detects_missing_and_duplicate_ids():
    assert 5 not in RowsById(BLOCKS)
    assert 2**62 + 1 not in RowsById(BLOCKS)
    assert RowsById(BLOCKS).distinct
    assert not RowsById([*BLOCKS, (torch.tensor([9]), torch.tensor([[0.0, 0.0]]))]).distinct
    assert len(RowsById([])) == 0
