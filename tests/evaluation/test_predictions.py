"""Saved predictions: predictions and targets are restored bit for bit."""

import pickle

import pytest
import torch

from mmbert.errors import IntegrityError
from mmbert.evaluation.evaluate import Evaluation, RowsById
from mmbert.evaluation.predictions import PREDICTIONS_FILE, dump_predictions, load_groups, load_predictions

IDS = torch.tensor([2**62, 9]), torch.tensor([4]), torch.tensor([7])


def ragged():
    """Predictions of several types: tags of 3, 1 and 0 units, booleans, integers, and floats of two precisions."""
    widths = 3, 1, 0
    predictions = [
        torch.arange(len(ids) * width).reshape(len(ids), width) for ids, width in zip(IDS, widths, strict=True)
    ]
    targets = [
        {"target": torch.full((len(ids), width + 1), -100), "known": torch.ones(len(ids), dtype=torch.bool)}
        for ids, width in zip(IDS, widths, strict=True)
    ]
    return predictions, targets


def evaluation():
    predictions, targets = ragged()
    shared = torch.tensor([0.1, float("nan")], dtype=torch.float64)
    return Evaluation(
        {},
        {},
        {},
        {"words": RowsById([*zip(IDS, predictions, strict=True)]), "size": RowsById([(IDS[0], shared)])},
        {"words": RowsById([*zip(IDS, targets, strict=True)]), "size": RowsById([(IDS[0], {"target": shared})])},
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / PREDICTIONS_FILE
    path.write_bytes(dump_predictions(evaluation(), {9: "a", 4: 1, 7: "1"}))
    return path


def test_saved_predictions_are_restored_exactly(path):
    loaded, before = load_predictions(path), evaluation()
    assert [*loaded] == ["size", "words"]
    for task, (predictions, targets) in loaded.items():
        for now, then in ((predictions, before.predictions[task]), (targets, before.targets[task])):
            assert [*now] == [*then] == sorted(then)
            for sample, row in then.items():  # with equal types and widths
                torch.testing.assert_close(now[sample], row, rtol=0, atol=0, equal_nan=True)
            assert len(now.blocks) == len(then.blocks)
    assert loaded["words"].predictions[9].tolist() == [3, 4, 5]
    assert loaded["words"].predictions[7].tolist() == []
    assert loaded["words"].targets[4]["target"].tolist() == [-100, -100]


def test_blocks_of_ten_and_more_keep_their_order(tmp_path):
    blocks = [(torch.tensor([row]), torch.tensor([float(row)])) for row in range(12)]
    true = [(ids, {"target": values}) for ids, values in blocks]
    (tmp_path / "file").write_bytes(
        dump_predictions(Evaluation({}, {}, {}, {"y": RowsById(blocks)}, {"y": RowsById(true)}))
    )
    assert [int(ids) for ids, _ in load_predictions(tmp_path / "file")["y"].predictions.blocks] == [*range(12)]


def test_groups_are_restored_as_distinct_numbers(path):
    groups = load_groups(path)
    assert groups.keys() == {4, 7, 9}  # the sample 2**62 has none
    assert groups[4] == groups[7] != groups[9]  # like splits, which treat 1 and "1" as equal


def test_predictions_without_groups_or_tasks_are_restored(tmp_path):
    (tmp_path / "file").write_bytes(dump_predictions(Evaluation({}, {}, {}, {}, {})))
    assert load_predictions(tmp_path / "file") == load_groups(tmp_path / "file") == {}


def test_the_same_evaluation_gives_the_same_bytes_without_pickle(path):
    content = path.read_bytes()
    assert content == dump_predictions(evaluation(), {7: "1", 4: 1, 9: "a"})
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(content)


def test_a_foreign_or_missing_file_is_refused(tmp_path, path):
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_predictions(tmp_path / "none")
    path.write_bytes(b"\x80\x04K*.")
    for read in (load_predictions, load_groups):
        with pytest.raises(IntegrityError, match=r"test\.safetensors' cannot be read"):
            read(path)
