"""Bad rows: counted once, limited to a fraction, and listed in the run folder."""

import json

import pytest

from mmbert.errors import DataError, SampleError
from mmbert.tracking import bad_samples as module
from mmbert.tracking.bad_samples import BadSamples
from mmbert.tracking.run_folder import RunFolder
from mmbert.types import Sample


def error(row, field="input 'size'", reason="expected a number"):
    return SampleError(reason).at(f"shop (row {row})", field)


def sample(row):
    return Sample(row, "shop", {}, {}, {"where": f"row {row}"})


def listed(folder):
    return [json.loads(line) for line in (folder / "bad_samples.jsonl").read_text().splitlines()]


def test_without_an_allowed_fraction_the_first_error_is_raised_unchanged():
    bad, first = BadSamples(100, 0), error(3)
    with pytest.raises(SampleError) as caught:
        bad.add(first)
    assert caught.value is first


def test_rows_count_once_and_too_many_are_an_error():
    bad = BadSamples(100, 0.02)
    for _ in range(5):
        bad.add(error(3))
        bad.add(error(3, "task 'price'"))
        bad.add(error(7))
    assert len(bad) == 2
    assert sample(3) in bad
    assert sample(4) not in bad
    with pytest.raises(
        DataError,
        match=r"3 of 100 rows are bad, more than train.max_bad_fraction \(0.02\) allows, "
        r"the first: shop \(row 3\), input 'size': expected a number",
    ):
        bad.add(error(8))


def test_bad_rows_are_listed_once_also_by_a_resumed_run(tmp_path):
    bad, folder = BadSamples(100, 0.5), RunFolder(tmp_path, writes=True)
    bad.add(error(3))  # before the run folder exists
    bad.keep_in(folder)
    bad.add(error(4, reason="é"))
    bad.add(error(4))
    bad.share()
    expected = [
        {"row": "shop (row 3)", "field": "input 'size'", "reason": "expected a number"},
        {"row": "shop (row 4)", "field": "input 'size'", "reason": "é"},
    ]
    assert listed(tmp_path) == expected
    resumed = BadSamples(100, 0.5)
    resumed.add(error(3))
    resumed.add(error(5))
    resumed.keep_in(folder)
    resumed.add(error(4))
    assert [line["row"] for line in listed(tmp_path)] == ["shop (row 3)", "shop (row 4)", "shop (row 5)"]
    assert len(resumed) == 3


def test_errors_of_other_processes_are_gathered_and_written_by_the_main_one(tmp_path, monkeypatch):
    second, main = BadSamples(100, 0.5), BadSamples(100, 0.5)
    second.keep_in(RunFolder(tmp_path, writes=False))
    main.keep_in(RunFolder(tmp_path, writes=True))
    second.add(error(1))
    assert not (tmp_path / "bad_samples.jsonl").exists()
    monkeypatch.setattr(module, "gather_object", lambda gathered: [*gathered, error(1)])
    main.share()
    assert [line["row"] for line in listed(tmp_path)] == ["shop (row 1)"]


def test_the_fraction_counts_rows_of_all_processes(monkeypatch):
    bad = BadSamples(10, 0.1)
    bad.add(error(1))
    monkeypatch.setattr(module, "gather_object", lambda gathered: [*gathered, error(2)])
    with pytest.raises(DataError, match="2 of 10 rows"):
        bad.share()
