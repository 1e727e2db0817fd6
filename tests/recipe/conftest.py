"""Small fake parts, so that these tests need neither torch nor real parts."""

from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Lt

from encoders import ENCODERS
from mmbert.data import SOURCES
from mmbert.datasets import DATASETS
from mmbert.fusion import FUSIONS
from mmbert.recipe.schema import TEXT
from tasks import TASKS


class FakeProcessor:
    def __init__(self, *, side: Annotated[int, Ge(8)] = 64, crop: bool = False): ...


class FakeEncoder:
    """A fake image encoder.

    It has a second paragraph.
    """

    processor = FakeProcessor

    def __init__(
        self,
        dim: int,
        processor: Any,
        *,
        layers: Annotated[int, Ge(1)] = 2,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        bands: tuple[int, ...] = (1, 2),
        norm: Literal["layer", "group"] | None = None,
        path: str | list[str] = "x",
    ): ...


class FakeText:
    def __init__(self, vocabulary: Any, *, max_length: Annotated[int, Ge(1)] = 128): ...


class FakeFusion:
    def __init__(self, dim: int, streams: Any, *, hidden: Annotated[int, Ge(0)] = 0): ...


class FakeBottleneck:
    def __init__(self, dim: int, streams: Any, *, tokens: Annotated[int, Ge(1)] = 4): ...


class FakeTask:
    metrics = ("rmse", "accuracy")
    processor = type("FakeLabel", (), {"__init__": lambda self, *, transform="none": None})

    def __init__(self, dim: int, processor: Any, *, weight: Annotated[float, Gt(0)] = 1.0): ...


class FakeSource:
    def __init__(self, name: str, inputs: Any, targets: Any, *, columns: dict[str, str] | None = None): ...


class FakeBuilder:
    def __init__(self, *, rows: Annotated[int, Ge(1)] | None = None):
        self.rows = rows


@pytest.fixture(autouse=True)
def _fake_parts(monkeypatch):
    """Put the fake parts into the registries during a test."""
    tables = (
        (ENCODERS, {"vit": FakeEncoder, "graph": FakeText}),
        (TEXT, {"text": FakeText}),
        (FUSIONS, {"concat": FakeFusion, "bottleneck": FakeBottleneck}),
        (TASKS, {"regression": FakeTask, "classification": FakeTask}),
        (SOURCES, {"files": FakeSource, "dataset": FakeSource}),
        (DATASETS, {"molecules": FakeBuilder, "stamps": FakeBuilder}),
    )
    for table, fakes in tables:
        monkeypatch.setattr(table, "_table", {})
        monkeypatch.setattr(table, "group", None)
        for name, fake in fakes.items():
            table.register(name, fake)


RECIPE = """\
name: example
data:
  rows: {type: files}
inputs:
  photo: {type: vit, side: 32}
  title: {type: text}
tasks:
  price: {type: regression}
train: {epochs: 2}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes recipe files into the current folder, which has a valid ``recipe.yaml``."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, file: str = "recipe.yaml") -> str:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
        return file

    write(RECIPE)
    return write
