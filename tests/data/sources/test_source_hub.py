"""The source of Hugging Face data sets, read from a local folder without network."""

import datasets
import pytest
from data_parts import Anything, Photo, all_samples, fields

from mmbert.data.sources.files import FilesSource
from mmbert.errors import DataError


@pytest.fixture
def hub(monkeypatch):
    """Lets ``load_dataset`` return the given data."""

    def install(splits):
        dataset = datasets.DatasetDict(splits)
        monkeypatch.setattr(datasets, "load_dataset", lambda name, configuration, cache_dir: dataset)

    return install


def rows(texts, labels):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "photo": datasets.Image(decode=False),
        }
    )
    photos = [{"bytes": text.encode(), "path": None} for text in texts]
    return datasets.Dataset.from_dict({"text": texts, "label": labels, "photo": photos}, features=features)


def test_splits_labels_and_pictures(hub):
    hub(
        {
            "train": rows([f"t{row}" for row in range(50)], [0, 1] * 25),
            "test": rows(["x"], [-1]),
            "extra": rows(["y"], [0]),
        }
    )
    source = FilesSource(
        "s", {**fields(Anything, "text"), **fields(Photo, "photo")}, fields(Anything, "label"), path="hub:o/n"
    )
    assert len(source.split("train")) + len(source.split("validation")) == 50
    assert len(source.split("validation")) > 0
    first, last = all_samples(source)[1], source.split("test")[0]
    assert (first.inputs, first.targets) == ({"text": "t1", "photo": b"t1"}, {"label": "yes"})
    assert (last.inputs, last.targets) == ({"text": "x", "photo": b"x"}, {})
    assert first.attributes["where"] == "hub:o/n train row 2"
    assert last.attributes["where"] == "hub:o/n test row 1"


def test_a_set_without_a_training_split_is_refused(hub):
    hub({"extra": rows(["y"], [0])})
    with pytest.raises(DataError, match=r"'hub:o/n' has no split for training.*Valid: extra"):
        FilesSource("s", fields(Anything, "text"), {}, path="hub:o/n").split("train")


def test_a_missing_set_is_reported(monkeypatch):
    def missing(name, configuration, cache_dir):
        raise FileNotFoundError(f"{name} {configuration}")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(DataError, match="'hub:o/n:c' cannot be downloaded from the hub: o/n c"):
        FilesSource("s", fields(Anything, "text"), {}, path="hub:o/n:c").split("train")
