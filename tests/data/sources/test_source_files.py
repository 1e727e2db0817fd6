"""The source of files: formats, splits, columns and media."""

import json
import math
import os
import pickle
from collections import Counter

import pandas as pd
import pyarrow as pa
import pytest
from data_parts import Anything, Letters, Number, Photo, all_samples, fields

from mmbert.contracts import Field
from mmbert.data.sources.files import FilesSource
from mmbert.data.splits import FRACTIONS, rows_of_split, split_by_hash
from mmbert.errors import DataError, SampleError
from mmbert.types import sample_id

FRAME = pd.DataFrame(
    {
        "id": [f"m{row}" for row in range(40)],
        "words": ['x, "y"\n水' if row % 3 else None for row in range(40)],
        "number": [row / 7 if row % 4 else math.nan for row in range(40)],
        "label": [row % 2 == 0 for row in range(40)],
    }
)
INPUTS = {**fields(Letters, "words"), **fields(Number, "number")}


def saved(path, frame=FRAME):
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True, force_ascii=False, double_precision=15)
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".feather":
            frame.to_feather(path)
    return str(path)


def source(path, inputs=INPUTS, targets=None, **options):
    return FilesSource("molecules", inputs, targets or {}, path=path, **options)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".feather"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_formats_agree(tmp_path, suffix, split):
    """Equal rows give equal samples in every format; a missing value is an absent key."""
    data = source(saved(tmp_path / f"a{suffix}"), targets=fields(Anything, "label"), split_seed=1).split(split)
    parts = split_by_hash(list(FRAME["id"]), FRACTIONS, 1)
    assert [sample.attributes["row"] - 1 for sample in data] == rows_of_split(split, parts).tolist()
    for sample in data:
        row = sample.attributes["row"] - 1
        assert sample.id == sample_id("molecules", f"m{row}")
        assert sample.inputs.get("words") == FRAME["words"][row] if row % 3 else "words" not in sample.inputs
        assert sample.inputs.get("number") == pytest.approx(row / 7) if row % 4 else "number" not in sample.inputs
        assert sample.targets == {"label": row % 2 == 0}
        assert sample.attributes["where"] == f"{tmp_path / f'a{suffix}'} row {row + 1}"
        assert sample.attributes["key"] == sample.attributes["group"] == f"m{row}"


def test_splits_are_disjoint_and_cover(tmp_path):
    data = source(saved(tmp_path / "a.csv"))
    ids = [sample.id for name in ("train", "validation", "test") for sample in data.split(name)]
    assert sorted(ids) == sorted(sample.id for sample in all_samples(data))
    assert len({*ids}) == 40


def test_splits_do_not_depend_on_the_order_of_rows(tmp_path):
    first, second = source(saved(tmp_path / "a.csv")), source(saved(tmp_path / "b.csv", FRAME[::-1]))
    for name in ("train", "validation", "test"):
        assert {sample.id for sample in first.split(name)} == {sample.id for sample in second.split(name)}


def test_a_group_stays_together(tmp_path):
    frame = FRAME.assign(author=[None if row == 5 else row % 9 for row in range(40)])
    data = source(saved(tmp_path / "a.parquet", frame), group="author")
    places = {}
    for name in ("train", "validation", "test"):
        for sample in data.split(name):
            places.setdefault(sample.attributes.get("group", "none"), set()).add(name)
    assert len(places) == 10
    assert all(len(names) == 1 for names in places.values())
    assert len({name for names in places.values() for name in names}) > 1


def test_a_published_split_is_used(tmp_path):
    frame = FRAME.assign(split=["train"] * 20 + ["dev"] * 12 + ["test"] * 8, fold=["test"] * 10 + ["training"] * 30)
    path = saved(tmp_path / "a.csv", frame)
    assert [len(source(path).split(name)) for name in ("train", "validation", "test")] == [20, 12, 8]
    folds = source(path, split="fold")
    assert [sample.attributes["row"] for sample in folds.split("test")] == [*range(1, 11)]
    assert 0 < len(folds.split("validation")) < 10
    fractions = source(path, split={"train": 0.5, "validation": 0.25, "test": 0.25})
    assert len(fractions.split("train")) < 28


def test_several_files_and_row_numbers(tmp_path):
    paths = [saved(tmp_path / "a.csv", FRAME[:15]), saved(tmp_path / "b.csv", FRAME[15:])]
    samples = all_samples(source(paths))
    assert samples[14].attributes["where"] == f"{paths[0]} row 15"
    assert samples[15].attributes["where"] == f"{paths[1]} row 1"
    assert samples[15].inputs["number"] == pytest.approx(15 / 7)
    without = source([saved(tmp_path / f"{name}.csv", FRAME[["words"]]) for name in "cd"], fields(Letters, "words"))
    assert [sample.attributes["key"] for sample in all_samples(without)[39:42]] == ["40", "41", "42"]


def test_columns_are_renamed(tmp_path):
    path = saved(tmp_path / "a.csv")
    data = source(path, fields(Letters, "text"), fields(Number, "size"), columns={"words": "text", "number": "size"})
    assert data.fields == {"text", "size"}
    assert all_samples(data)[1].inputs == {"text": FRAME["words"][1]}
    swapped = source(
        path, fields(Anything, "words"), fields(Anything, "number"), columns={"words": "number", "number": "words"}
    )
    assert all_samples(swapped)[1].targets == {"number": FRAME["words"][1]}


def test_several_columns_are_a_dict(tmp_path):
    inputs = {"table": Field(("number", "size"), Anything)}
    data = source(saved(tmp_path / "a.csv", FRAME.assign(size=[1, None] * 20)), inputs)
    assert all_samples(data)[1].inputs == {"table": {"number": pytest.approx(1 / 7)}}
    assert all_samples(data)[0].inputs == {"table": {"size": 1}}
    nothing = source(saved(tmp_path / "b.csv", FRAME.assign(size=[1, *[None] * 39])), inputs)
    assert all_samples(nothing)[4].inputs == {}


def test_nested_values(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"tree": {"nodes": [1, 2], "edges": [[0, 1]]}, "other": {"a": None}},
        {"tree": {"name": "x"}, "other": None},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    samples = all_samples(source(str(path), fields(Anything, "tree", "other")))
    assert [sample.inputs for sample in samples] == [{"tree": rows[0]["tree"]}, {"tree": rows[1]["tree"]}]


def test_an_empty_text_in_json_lines_is_present(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"words": ""}\n{"words": null}\n{}\n')
    samples = all_samples(source(str(tmp_path / "a.jsonl")))
    assert [dict(sample.inputs) for sample in samples] == [{"words": ""}, {}, {}]


def test_fields_are_those_with_a_column(tmp_path):
    data = source(saved(tmp_path / "a.csv"), {**INPUTS, **fields(Photo, "photo")}, fields(Number, "price"))
    assert data.fields == {"words", "number"}


def test_a_single_row_is_in_one_split(tmp_path):
    data = source(saved(tmp_path / "a.csv", FRAME[1:2]))
    assert sum(len(data.split(name)) for name in ("train", "validation", "test")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "ide"}, "molecules: there is no column 'ide', as 'key' says. Did you mean 'id'"),
        ({"group": "lable"}, "no column 'lable', as 'group' says. Did you mean 'label'"),
        ({"split": "fold"}, "no column 'fold', as 'split' says. .*Valid: id, label, number, words"),
        ({"columns": {"wrods": "words"}}, "no column 'wrods', as 'columns' says. Did you mean 'words'"),
        ({"columns": {"label": "numbers"}}, "no input or task reads 'numbers', .* Did you mean 'number'"),
        ({"columns": {"label": "words", "id": "words"}}, "gives 'label' and 'id' the same name, 'words'"),
        ({"inputs": fields(Letters, "caption")}, "no column fills any of the inputs 'caption'. Columns: id, words"),
        ({"inputs": {"table": Field(("number", "lable"), Anything)}}, "there is no 'lable'. Did you mean 'label'"),
        ({"key": "label"}, r"the key 'label' must .* 'True' is in .*a.csv row 1 and in .*a.csv row 3"),
        ({"key": "words"}, r"a.csv row 1\): the key 'words' is missing"),
        ({"split": "words"}, r"a.csv row 1\): no split is called None"),
        ({"split": "label", "key": "id"}, r"a.csv row 1\): no split is called True"),
    ],
)
def test_wrong_columns_are_reported(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        source(saved(tmp_path / "a.csv"), **options).split("train")


def test_missing_and_empty_files_are_reported(tmp_path):
    saved(tmp_path / "train.csv")
    with pytest.raises(DataError, match=r"molecules: there is no file '.*trian.csv' in '.*'. Did you mean 'train.csv'"):
        source(str(tmp_path / "trian.csv")).split("train")
    with pytest.raises(DataError, match="'path' must name a file"):
        source("").split("train")
    with pytest.raises(DataError, match="molecules: there are no rows"):
        source(saved(tmp_path / "b.csv", FRAME[:0])).split("train")


def test_an_id_in_two_files_is_refused(tmp_path):
    paths = [saved(tmp_path / "train.csv", FRAME[:20]), saved(tmp_path / "test.csv", FRAME[19:])]
    with pytest.raises(DataError, match=r"'m19' is in .*train.csv row 20 and in .*test.csv row 1"):
        source(paths).split("train")


def test_a_group_in_two_published_splits_is_refused(tmp_path):
    frame = FRAME.assign(split=["train", "test"] * 20, author=[row // 2 for row in range(40)])
    with pytest.raises(DataError, match=r"'0' is in train \(molecules \(.*row 1\)\) and in test \(molecules \(.*row 2"):
        source(saved(tmp_path / "a.csv", frame), group="author").split("train")


def test_media_paths(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    frame = pd.DataFrame({"photo": ["photos/a.png", None, "../../etc/passwd", "photos/b.png"]})
    samples = all_samples(source(saved(tmp_path / "a.csv", frame), fields(Photo, "photo")))
    assert samples[0].inputs == {"photo": str(tmp_path / "photos" / "a.png")}
    assert samples[1].inputs == {}
    for row, reason in ((3, "'../../etc/passwd' is not the path"), (4, "there is no file 'photos/b.png'")):
        with pytest.raises(SampleError, match=rf"^molecules \(.*a.csv row {row}\), input 'photo': {reason}"):
            samples[row - 1]
    inside = source(
        saved(tmp_path / "b.csv", pd.DataFrame({"photo": ["a.png"]})),
        fields(Photo, "photo"),
        media=str(tmp_path / "photos"),
    )
    assert all_samples(inside)[0].inputs == samples[0].inputs
    # columns whose processor reads no files are unchanged
    assert all_samples(source(saved(tmp_path / "c.csv", frame), fields(Letters, "photo")))[2].inputs == {
        "photo": "../../etc/passwd"
    }


def test_rows_are_mapped_and_not_copied(tmp_path):
    path = saved(tmp_path / "a.parquet", pd.DataFrame({"words": ["x" * 10_000] * 2_000}))
    all_samples(source(path, fields(Letters, "words")))
    before = pa.total_allocated_bytes()
    split = all_samples(source(path, fields(Letters, "words")))
    assert sum(len(sample.inputs["words"]) for sample in split) == 20_000_000
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_the_source_pickles_as_its_path(tmp_path):
    split = all_samples(
        source(saved(tmp_path / "a.parquet", pd.DataFrame({"words": ["x" * 1_000] * 2_000})), fields(Letters, "words"))
    )
    assert split[7].inputs
    pickled = pickle.dumps(split)
    assert len(pickled) < 100_000
    assert pickle.loads(pickled)[7] == split[7]


def test_a_file_is_read_once_until_it_changes(tmp_path, cache, monkeypatch):
    calls = Counter()
    read = FilesSource._read.__globals__["read_tables"]
    monkeypatch.setattr("mmbert.data.sources.files.read_tables", lambda *args: (calls.update([1]), read(*args))[1])
    path = saved(tmp_path / "a.csv")
    assert len(all_samples(source(path))) == len(all_samples(source(path))) == 40
    assert calls[1] == 1
    saved(tmp_path / "a.csv", FRAME[:30])
    assert len(all_samples(source(path))) == 30
    assert calls[1] == 2
    assert not [*cache.rglob("*.partial")]


@pytest.mark.parametrize(("old", "new"), [("aaaa", "bbbb"), ("a,b!", "b,a!"), ("1234", "4321")])
def test_a_file_of_the_same_size_and_time_is_read_anew(tmp_path, old, new):
    path = tmp_path / "a.csv"
    for cell in (old, new):
        path.write_text(f'words,number\n"{cell}",1\n')
        os.utime(path, ns=(10**18, 10**18))
        assert str(all_samples(source(str(path), fields(Anything, "words")))[0].inputs["words"]) == cell


def test_a_column_whose_name_repeats_matters_where_it_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("words,note,note,note\nx,1,2,3\n")
    assert all_samples(source(str(tmp_path / "a.csv")))[0].inputs == {"words": "x"}
    for options in ({"inputs": fields(Anything, "note")}, {"key": "note"}, {"group": "note"}):
        with pytest.raises(DataError, match=r"molecules: there are two columns 'note', which .* reads: rename one"):
            source(str(tmp_path / "a.csv"), **options).split("train")


def test_the_key_may_be_the_number_of_the_row(tmp_path):
    path = saved(tmp_path / "a.csv", FRAME.assign(id=[row // 2 for row in range(40)]))
    with pytest.raises(DataError, match=r"'0' is in .* row 2. .*'key: row' numbers the rows; 'group: id' then keeps"):
        source(path).split("train")
    samples = all_samples(source(path, key="row", group="id"))
    assert [sample.attributes["key"] for sample in samples] == [str(row + 1) for row in range(40)]
    named = saved(tmp_path / "b.csv", FRAME.assign(row=[f"r{row}" for row in range(40)]))
    assert all_samples(source(named, key="row"))[0].attributes["key"] == "r0"


def test_paths_in_objects_are_relative_to_the_media_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    rows = [
        {"photo": {"path": "a.png"}},
        {"photo": {"bytes": None, "path": "a.png"}},
        {"photo": {"path": "/etc/passwd"}},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        samples = all_samples(source(str(tmp_path / name), fields(Photo, "photo")))
        assert [samples[row].inputs["photo"]["path"] for row in (0, 1)] == [str(tmp_path / "a.png")] * 2
        with pytest.raises(SampleError, match=r"row 3\), input 'photo': '/etc/passwd' leads out of"):
            samples[2]
