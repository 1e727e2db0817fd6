"""Bad rows: each once, bounded, listed in the run folder."""

import json
import sys

import pytest

from mmbert.errors import DataError, SampleError
from mmbert.tracking.bad_samples import BadSamples
from mmbert.tracking.run_folder import RunFolder
from mmbert.types import Sample

MODULE = sys.modules[BadSamples.__module__]  # mmbert.train is also a function


def error(row, field="input 'size'", reason="expected a number"):
    return SampleError(reason).at(f"shop (row {row})", field)


def sample(row):
    return Sample(row, "shop", {}, {}, {"where": f"row {row}"})


def listed(folder):
    return [json.loads(line) for line in (folder / "bad_samples.jsonl").read_text().splitlines()]


def test_without_a_fraction_the_first_is_raised_as_it_is():
    bad, first = BadSamples(100, 0), error(3)
    with pytest.raises(SampleError) as messages:
        bad.add(first)
    assert messages.value is first


def test_rows_count_once_and_too_many_are_an_error():
    bad = BadSamples(100, 0.02)
    for _ in range(5):
        bad.add(error(3))
        bad.add(error(3, "task 'price'"))
        bad.add(error(7))
    assert len(bad) == 2
    assert sample(3) in bad
    assert sample(4) not in bad
    with pytest.raises(DataError, match=r"3 of 100 rows are bad, more than train.max_bad_fraction \(0.02\) allows, "
                                        r"the first: shop \(row 3\), input 'size': expected a number"):  # fmt: skip
        bad.add(error(8))


def test_they_are_listed_once_also_by_a_run_that_goes_on(tmp_path):
    bad, folder = BadSamples(100, 0.5), RunFolder(tmp_path, writes=True)
    bad.add(error(3))  # while preparing, before there is a folder
    bad.keep_in(folder)
    bad.add(error(4, reason="é"))
    bad.add(error(4))
    bad.share()
    expected = [{"row": "shop (row 3)", "field": "input 'size'", "reason": "expected a number"},
                {"row": "shop (row 4)", "field": "input 'size'", "reason": "é"}]  # fmt: skip
    assert listed(tmp_path) == expected
    again = BadSamples(100, 0.5)
    again.add(error(3))
    again.add(error(5))
    again.keep_in(folder)
    again.add(error(4))
    assert [one["row"] for one in listed(tmp_path)] == ["shop (row 3)", "shop (row 4)", "shop (row 5)"]
    assert len(again) == 3


def test_other_processes_write_nothing_and_are_gathered(tmp_path, monkeypatch):
    other, main = BadSamples(100, 0.5), BadSamples(100, 0.5)
    other.keep_in(RunFolder(tmp_path, writes=False))
    main.keep_in(RunFolder(tmp_path, writes=True))
    other.add(error(1))
    assert not (tmp_path / "bad_samples.jsonl").exists()
    monkeypatch.setattr(MODULE, "gather_object", lambda found: [*found, error(1)])
    main.share()
    assert [one["row"] for one in listed(tmp_path)] == ["shop (row 1)"]


def test_the_fraction_is_passed_together(monkeypatch):
    bad = BadSamples(10, 0.1)
    bad.add(error(1))
    monkeypatch.setattr(MODULE, "gather_object", lambda found: [*found, error(2)])
    with pytest.raises(DataError, match="2 of 10 rows"):
        bad.share()
