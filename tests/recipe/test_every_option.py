"""Every option of a recipe has an effect: another value changes the weights, the data, a loss or a file."""

import shutil
import sys
from typing import get_args

import numpy as np
import option_parts as seen
import pytest
from pydantic import BaseModel
from tiny_archives import archive

import encoders.image
import mmbert.data.loader
import mmbert.trunk.huggingface
from encoders import ENCODERS
from mmbert.data import SOURCES
from mmbert.datasets import DATASETS
from mmbert.fusion import FUSIONS
from mmbert.model import MMBert
from mmbert.recipe.schema import TEXT, Recipe
from mmbert.registry import recipe_options
from mmbert.tracking import trackers
from mmbert.trunk.store import TokenStore
from tasks import TASKS

# observation -> option -> two of its values; options of parts are written after the part's name
CHANGES = {
    seen.shapes: {
        "trunk.checkpoint": ("null", "checkpoint"),
        "trunk.family": ("bert", "modernbert"),
        "trunk.layers": (1, 2),
        "trunk.hidden_size": (16, 32),
        "trunk.vocabulary": (100, 120),
        "trunk.max_positions": (32, 64),
        "inputs.type": ("table", "series"),
        "inputs.audio.patch": (8, 4),
        "inputs.audio.layers": (1, 2),
        "inputs.audio.width": (16, 32),
        "inputs.graph.layers": (1, 2),
        "inputs.graph.width": (16, 32),
        "inputs.graph.virtual_node": ("false", "true"),
        "inputs.series.width": (32, 64),
        "inputs.series.blocks": (2, 3),
        "inputs.series.kernel": (5, 7),
        "inputs.series.layers": (0, 1),
        "inputs.table.categorical": ("[]", "[count]"),
        "inputs.table.minimum_count": (1, 99),
        "inputs.table.width": (8, 16),
        "inputs.table.layers": (1, 2),
        "inputs.table.embedding": ("linear", "piecewise"),
        "inputs.timm.backbone": ("resnet10t", "resnet14t"),
        "inputs.vit.patch": (8, 4),
        "inputs.vit.layers": (1, 2),
        "inputs.vit.width": (16, 32),
        "inputs.missing": ("masked", "learned"),
        "fusion.type": ("concat", "joint"),
        "fusion.bottleneck.tokens": (1, 2),
        "fusion.bottleneck.layers": (1, 2),
        "fusion.bottleneck.pooling": ("mean", "attention"),
        "fusion.logit_sum": ("false", "true"),
        "fusion.concat.hidden": (0, 8),
        "fusion.concat.pooling": ("mean", "attention"),
        "fusion.cross_attention.layers": (1, 2),
        "fusion.cross_attention.pooling": ("cls", "attention"),
        "fusion.film.pooling": ("mean", "attention"),
        "fusion.gated.pooling": ("mean", "attention"),
        "fusion.joint.tokens": (1, 2),
        "fusion.joint.pooling": ("mean", "attention"),
        "fusion.lmf.rank": (1, 2),
        "fusion.lmf.pooling": ("mean", "attention"),
        "fusion.mean.pooling": ("mean", "attention"),
        "fusion.mag.pooling": ("mean", "attention"),
        "fusion.perceiver.latents": (1, 2),
        "fusion.perceiver.layers": (1, 2),
        "fusion.perceiver.pooling": ("mean", "attention"),
        "fusion.logit_sum.pooling": ("mean", "attention"),
        "tasks.type": ("classification", "regression"),
        "tasks.classification.hidden": (0, 8),
        "tasks.multilabel.hidden": (0, 8),
        "tasks.regression.hidden": (0, 8),
        "tasks.tagging.hidden": (0, 8),
    },
    seen.outputs: {
        "trunk.initializer_range": (0.02, 0.1),
        "trunk.heads": (1, 2),
        "inputs.audio.heads": (1, 2),
        "inputs.series.patch": (2, 4),
        "inputs.timm.pretrained": ("false", "true"),
        "inputs.vit.heads": (1, 2),
        "fusion.bottleneck.heads": (1, 2),
        "fusion.cross_attention.gate": (0, 0.5),
        "fusion.cross_attention.heads": (1, 2),
        "fusion.joint.heads": (1, 2),
        "fusion.mag.after": (1, 2),
        "fusion.mag.beta": (0, 1),
        "fusion.perceiver.heads": (1, 2),
        "tasks.tagging.of": ("text", "x"),
    },
    seen.loss: {
        "inputs.audio.dropout": (0, 0.5),
        "inputs.graph.dropout": (0, 0.5),
        "inputs.series.dropout": (0, 0.5),
        "inputs.table.dropout": (0, 0.5),
        "inputs.vit.dropout": (0, 0.5),
        "fusion.bottleneck.dropout": (0, 0.5),
        "fusion.concat.dropout": (0, 0.5),
        "fusion.cross_attention.dropout": (0, 0.5),
        "fusion.mag.dropout": (0, 0.5),
        "fusion.perceiver.dropout": (0, 0.5),
        "tasks.classification.dropout": (0, 0.5),
        "tasks.classification.label_smoothing": (0, 0.5),
        "tasks.multilabel.dropout": (0, 0.5),
        "tasks.multilabel.positive_weight": ("0", "0.5"),
        "tasks.regression.dropout": (0, 0.5),
        "tasks.regression.objective": ("mse", "huber"),
        "tasks.tagging.dropout": (0, 0.5),
        "train.dropout": ("null", 0.5),
    },
    seen.tensors: {
        "inputs.column": ("text", "title"),
        "inputs.text.max_length": (2, 3),
        "inputs.text.truncation": ("head", "tail"),
        "inputs.audio.rate": (8000, 16000),
        "inputs.audio.mels": (8, 9),
        "inputs.audio.max_seconds": (0.05, 0.1),
        "inputs.audio.normalise": ("training", "item"),
        "inputs.audio.augment": ("false", "true"),
        "inputs.graph.walk": (0, 2),
        "inputs.series.max_length": (2, 3),
        "inputs.series.jitter": (0, 0.1),
        "inputs.table.numeric": ("standard", "quantile"),
        "inputs.timm.size": (32, 48),
        "inputs.timm.augment": ("false", "true"),
        "inputs.vit.size": (16, 32),
        "inputs.vit.augment": ("false", "true"),
        "tasks.column": ("price", "cost"),
        "tasks.multilabel.delimiter": ("ü", "x"),
        "tasks.regression.transform": ("none", "log"),
        "train.input_dropout": (0, 0.5),
    },
    seen.learning: {"trunk.tune": ("full", "top1"), "inputs.tune": ("full", "frozen")},
    seen.groups: {
        "optim.lr.trunk": (1e-5, 1e-4),
        "optim.lr.pretrained": (1e-5, 1e-4),
        "optim.lr.new": (1e-5, 1e-4),
        "optim.weight_decay": (0, 0.5),
        "optim.betas": ("[0.9, 0.999]", "[0.5, 0.5]"),
    },
    seen.steps: {
        "balance.unimodal_aux": (0.1, 1),
        "balance.ogm_ge.alpha": (0.1, 1),
        "balance.ogm_ge.mode": ("gradient", "learning_rate"),
        "optim.warmup": (0, 0.9),
        "optim.schedule": ("linear", "constant"),
        "optim.clip": ("null", 1e-9),
        "tasks.classification.weight": (0, 1),
        "tasks.multilabel.weight": (0, 1),
        "tasks.regression.weight": (0, 1),
        "tasks.tagging.weight": (0, 1),
        "train.seed": (0, 1),
        "train.epochs": (0.25, 0.5),
        "train.steps": (2, 3),
        "train.batch_size": (8, 4),
        "train.patience": ("null", 1),
        "train.mixing.by": ("source", "group"),
        "train.mixing.weights": ("{made: 1, more: 1}", "{made: 9, more: 1}"),
        "train.mixing.alpha": (0, "[0.2, 1]"),
    },
    seen.best_weights: {"train.ema": (0, 0.5)},
    seen.saved: {"train.save_every": ("null", 2)},
    seen.survived: {"train.max_bad_steps": (0, 3)},
    seen.precision: {"train.precision": ("fp32", "fp64")},
    seen.evaluations: {"evaluate.every": (0.25, 0.5)},
    seen.baselines: {"evaluate.baselines": ("false", "true")},
    seen.folders: {"name": ("one", "other")},
    seen.outcome: {
        "inputs.optional": ("false", "true"),
        "inputs.graph.max_nodes": (1, 1000),
        "inputs.timm.max_pixels": (100, 1_000_000),
        "inputs.vit.max_pixels": (100, 1_000_000),
        "train.max_bad_fraction": (0, 0.1),
        "evaluate.on_leak": ("warn", "fail"),
    },
    seen.chosen_by: {"train.select": ("skill", "price/r2")},
    seen.samples: {
        "data.type": ("generated", "{type: files, path: rows.csv}"),
        "data.name": ("one", "other"),
        "data.generated.rows": (20, 30),
        "data.generated.seed": (0, 1),
        "data.generated.absent": (0, 0.5),
        "data.oracle.rows": (20, 30),
        "data.oracle.seed": (0, 1),
        "data.oracle.carries": ("{text: a}", "{text: a, x: b}"),
        "data.oracle.flip": (0, 0.5),
        **{
            f"data.{source}.{option}": values
            for source in ("files", "dataset")
            for option, values in {
                "columns": ("{}", "{title: text}"),
                "split": ("null", "fold"),
                "split_seed": (0, 1),
                "group": ("null", "author"),
                "attributes": ("[]", "[author]"),
            }.items()
        },
        "data.files.path": ("rows.csv", "other.csv"),
        "data.files.key": ("null", "code"),
        "data.files.media": ("null", "photos"),
        "data.files.na_values": ("[]", '["2,234"]'),
        "data.files.decimal": (".", "','"),
        "data.files.thousands": ("''", "','"),
        "data.files.encoding": ("utf-8", "latin-1"),
        "data.files.separator": ("','", "';'"),
    },
    seen.frame: {
        "datasets.addresses.minimum_count": (1, 2),
        "datasets.hanzi.side": (16, 32),
        "datasets.molecules.rows": (2, 3),
        "datasets.molecules.labelled": ("any", "logp"),
        "datasets.molecules.group_by": ("skeleton", "scaffold"),
        "datasets.programs.release": ("bookworm", "trixie"),
        "datasets.programs.sha256": ("null", "0123456789abcdef"),
        "datasets.stamps.speech": ("fr", "en"),
        "datasets.stamps.side": (16, 32),
        "datasets.stamps.vectors": ("false", "true"),
        "datasets.ucr.problem": ("Steps", "Waves"),
    },
}
# Performance options: option -> two of its values -> what is counted for each; results must be equal.
CHANGES_NOTHING = {
    "trunk.packing": {"true": ("packed", {True}), "false": ("packed", {False})},
    "trunk.cache": {"true": ("texts of the cache", {True}), "false": ("texts of the cache", {False})},
    "train.accumulate": {1: ("rows of a micro-batch", {8}), 4: ("rows of a micro-batch", {2})},
    "train.workers": {0: ("workers", {0}), 2: ("workers", {2})},
    "train.trackers": {"[]": ("trackers", {False}), "[wandb, mlflow]": ("trackers", {"wandb", "mlflow"})},
    "evaluate.batch_size": {64: ("rows of an evaluation batch", {4, 3}), 2: ("rows of an evaluation batch", {2, 1})},
}
CASES = {option: (observe, values) for observe, options in CHANGES.items() for option, values in options.items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    seen.write_checkpoint(folder)
    return folder


@pytest.fixture(autouse=True)
def _fake_parts(tmp_path, monkeypatch, checkpoint):
    """Replaces the fake parts of conftest.py by the real ones, in a folder with small files, without downloads."""
    seen.write_files(tmp_path)
    (tmp_path / "checkpoint").symlink_to(checkpoint)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        DATASETS, "_table", {**DATASETS._table, "one": seen.RowsBuilder, "other": seen.ReversedRowsBuilder}
    )
    for name in ("addresses", "hanzi", "molecules", "programs", "stamps", "ucr"):
        DATASETS.get(name)
        monkeypatch.setattr(sys.modules[f"mmbert.datasets.{name}"], "fetch", archive)
    monkeypatch.setattr(encoders.image, "fetch", lambda package: package)
    monkeypatch.setattr(
        encoders.image, "_packaged", lambda package, weights: {k: v.clone() + 0.5 for k, v in weights.items()}
    )


def fields_of(model: type[BaseModel], path: str = "") -> set[str]:
    """The dotted names of all keys of a section; entries of a map share theirs."""
    names = set()
    for name, field in model.model_fields.items():
        kinds = [kind for kind in get_args(field.annotation) or [field.annotation] if kind is not type(None)]
        kind = kinds[-1]  # of a map, the type of its values
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        names |= fields_of(kind, f"{path}{name}.") if nested else {f"{path}{name}"}
    return names


def options_of_parts() -> set[str]:
    tables = [("data", SOURCES), ("inputs", ENCODERS), ("inputs", TEXT), ("fusion", FUSIONS), ("tasks", TASKS)]
    return {
        f"{section}.{name}.{option}"
        for section, table in [*tables, ("datasets", DATASETS)]
        for name in table.names()
        for option in recipe_options(table.get(name))
    }


def test_every_option_is_tested(monkeypatch):
    monkeypatch.delitem(DATASETS._table, "one")
    monkeypatch.delitem(DATASETS._table, "other")
    assert {*CASES, *CHANGES_NOTHING} == fields_of(Recipe) | options_of_parts()
    assert len(CASES) == sum(map(len, CHANGES.values()))


@pytest.mark.parametrize("option", CASES)
def test_another_value_has_an_effect(option):
    observe, (value, other_value) = CASES[option]
    first = observe(seen.settings_of(option, value))
    assert first != observe(seen.settings_of(option, other_value))


@pytest.mark.parametrize("observe", CHANGES, ids=lambda observe: observe.__name__)
def test_the_same_value_has_the_same_effect(observe):
    """Otherwise the test above could pass by chance."""
    option, (value, _) = next(iter(CHANGES[observe].items()))
    first = observe(seen.settings_of(option, value))
    shutil.rmtree("built", ignore_errors=True)
    shutil.rmtree("runs", ignore_errors=True)
    assert first == observe(seen.settings_of(option, value))


@pytest.mark.parametrize("option", CHANGES_NOTHING)
def test_a_performance_option_is_used_and_changes_no_result(option, monkeypatch):
    counted = {}

    def spy(place, name, what, read):
        real = getattr(place, name)

        def call(*positional, **named):
            if (value := read(*positional, **named)) is not None:
                counted.setdefault(what, set()).add(value)
            return real(*positional, **named)

        monkeypatch.setattr(place, name, call)

    spy(MMBert, "forward", "rows of a micro-batch", lambda model, batch: len(batch))
    spy(MMBert, "fuse", "rows of an evaluation batch", lambda model, batch: None if model.training else len(batch))
    spy(mmbert.data.loader, "DataLoader", "workers", lambda *_, num_workers, **__: num_workers)
    spy(mmbert.trunk.huggingface, "plan_packing", "packed", lambda mask: True)
    spy(trackers, "Mirror", "trackers", lambda name, *_: name)
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(trackers.LOGGER_TYPE_TO_CLASS, name, None)  # sends nothing over the network
    spy(TokenStore, "read", "texts of the cache", lambda store, ids, mask: True)
    exact = ["train.precision=fp64", "train.dropout=0", "train.steps=2", "evaluate.every=1", seen.WITH_TABLE]
    exact += seen.NEEDS.get(option, ())
    written = []
    for value, (what, expected) in CHANGES_NOTHING[option].items():
        counted.clear()
        written.append(seen.trained([*exact, f"{option}={value}"]))
        assert counted.get(what, {False}) == expected
    assert numbers(written[0]) == pytest.approx(numbers(written[1]), rel=1e-9, abs=1e-9)


def numbers(written):
    """All numbers that a run wrote: the log, the scores and the weights."""
    log = [line["value"] for line in written["log"]]
    scores = [written["result"]["test"], *written["result"]["hidden"].values()]
    weights = [np.frombuffer(content, kind) for kind, _, content in written["weights"].values()]
    return np.concatenate([log, *([*task.values()] for arm in scores for task in arm.values()), *weights])
