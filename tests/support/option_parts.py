"""A tiny recipe with its files, and functions that observe its effect: weights, tensors, losses, files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mmbert import api
from mmbert.checkpoint import checkpoint
from mmbert.contracts import Builder
from mmbert.errors import MMBertError
from mmbert.experiment.build import build
from mmbert.experiment.splits import open_splits
from mmbert.fusion import FUSIONS
from mmbert.recipe.load import load_builder, load_recipe
from mmbert.training import trainer
from mmbert.training.launch import make_accelerator
from mmbert.training.optimizer import make_optimizer
from mmbert.trunk.vocabulary import train_vocabulary
from tasks import TASKS

RECIPE = """\
name: tiny
data: {made: {type: generated, rows: 48}}
trunk: {checkpoint: null, layers: 2, hidden_size: 32, heads: 2, vocabulary: 100, max_positions: 64}
inputs: {text: {type: text, max_length: 16}}
tasks: {price: {type: regression}}
train: {steps: 3, batch_size: 8}
evaluate: {baselines: false, every: 0.25}
"""
ROWS = 40


def write_files(folder: Path) -> None:
    """``tiny.yaml``, ``rows.csv`` and ``other.csv``, and photos of one name in two folders."""
    (folder / "tiny.yaml").write_text(RECIPE)
    rng = np.random.default_rng(0)
    words = rng.choice(["".join(rng.choice([*"abcdefgh"], 5)) for _ in range(60)], (2, ROWS, 4))
    frame = pd.DataFrame(
        {
            "code": [f"c{row}" for row in range(ROWS)],
            "text": map(" ".join, words[0]),
            "title": map(" ".join, words[1]),
            "price": [row % 7 + 0.5 for row in range(ROWS)],
            "cost": [row % 5 + 0.5 for row in range(ROWS)],
            "fold": ["train", "test", "validation", "train"] * (ROWS // 4),
            "author": [row % 12 for row in range(ROWS)],
            "amount": [f"{row},5" for row in range(ROWS)],
            "many": [f"{row + 1},234" for row in range(ROWS)],
            "place": "Zürich",
            "photo": "photo.png",
            "rare": ["gone.png" if row == 9 else "photo.png" for row in range(ROWS)],
        }
    )
    frame.to_csv(folder / "rows.csv", index=False)
    frame[::-1].to_csv(folder / "other.csv", index=False)
    lines = [f"{text},{row}.5,x;{text} too;{row}.5" for row, text in enumerate(frame["text"])]
    (folder / "both.csv").write_text("\n".join(["text,price,x;text;price", *lines]))  # columns of one name either way
    for place, colour in ((folder, "red"), (folder / "photos", "blue")):
        place.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), colour).save(place / "photo.png")


def write_checkpoint(folder: Path) -> None:
    """A tiny BERT with its vocabulary."""
    vocabulary = train_vocabulary(["one shared trunk"], 100)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=vocabulary.size, **sizes)).save_pretrained(folder)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(vocabulary.tokenizer), **names).save_pretrained(folder)


class RowsBuilder(Builder):
    """A data set of the columns of ``rows.csv``."""

    version, key, columns = "1", "code", {"text": "words", "price": "a number"}

    def build(self, folder, progress):
        return pd.read_csv("rows.csv")


class ReversedRowsBuilder(RowsBuilder):
    def build(self, folder, progress):
        return pd.read_csv("other.csv")[:30]


# --- settings that give an option of the recipe a value ---

FILES = "data.made={type: files, path: rows.csv}"
WITH_TABLE = "inputs.x={type: table, width: 8, layers: 1}"
MORE = "data.more={type: generated, rows: 12}"
PARTS = {  # a small part of each type, under the name x, y or made
    "inputs.text": "inputs.x={type: text}",
    "inputs.audio": "inputs.x={type: audio, layers: 1, width: 16, heads: 2, mels: 8}",
    "inputs.graph": "inputs.x={type: graph, layers: 1, width: 16}",
    "inputs.series": "inputs.x={type: series, blocks: 2, width: 32}",
    "inputs.table": WITH_TABLE,
    "inputs.timm": "inputs.x={type: timm, size: 32, backbone: resnet10t, pretrained: false}",
    "inputs.vit": "inputs.x={type: vit, size: 16, patch: 8, layers: 1, width: 16, heads: 2}",
    "data.generated": "data.made={type: generated, rows: 48}",
    "data.oracle": "data.made={type: oracle, rows: 48}",
    "data.files": FILES,
    "data.dataset": "data.made={type: dataset, name: one}",
    **{f"fusion.{name}": f"fusion={{type: {name}}}" for name in FUSIONS.names()},
    **{f"tasks.{name}": f"tasks.y={{type: {name}}}" for name in TASKS.names()},
}
NAMES = {"inputs": "x", "tasks": "y", "data": "made"}
PRETRAINED = ("inputs.x.backbone=tf_efficientnet_lite0", "inputs.x.pretrained=true")
NEEDS = {  # settings without which an option has no effect
    "inputs.column": (FILES, "inputs.x={type: text, max_length: 16}"),
    "inputs.text.truncation": ("inputs.x.max_length=2",),
    "inputs.optional": (FILES, WITH_TABLE),
    "inputs.missing": (WITH_TABLE,),
    "balance.unimodal_aux": (WITH_TABLE,),
    "balance.ogm_ge.alpha": (WITH_TABLE, PARTS["tasks.classification"]),
    "balance.ogm_ge.mode": (WITH_TABLE, PARTS["tasks.classification"]),
    "inputs.tune": (PARTS["inputs.timm"], *PRETRAINED),
    "inputs.timm.pretrained": PRETRAINED[:1],
    "optim.lr.pretrained": (PARTS["inputs.timm"], *PRETRAINED),
    "tasks.column": (FILES, "tasks.y={type: regression}"),
    "tasks.multilabel.delimiter": (FILES, "tasks.y.column=place"),
    "tasks.tagging.of": (PARTS["inputs.series"],),
    "fusion.joint.heads": ("fusion.tokens=1",),
    "fusion.mag.after": ("trunk.layers=3",),
    "data.files.na_values": ("inputs.x={type: table, column: [many]}",),
    "data.files.decimal": ("inputs.x={type: table, column: [amount]}",),
    "data.files.thousands": ("inputs.x={type: table, column: [many]}",),
    "data.files.encoding": ("inputs.x={type: text, column: place}",),
    "data.files.separator": ("data.made.path=both.csv",),
    "data.files.media": ("inputs.x={type: vit, column: photo}",),
    "optim.schedule": ("train.steps=4",),
    "evaluate.on_leak": (FILES, "inputs.text=null", "inputs.x={type: table, column: [photo], width: 8, layers: 1}"),
    "train.max_bad_fraction": (FILES, PARTS["inputs.vit"], "inputs.x.column=rare"),
    "train.mixing.by": (MORE, "train.mixing.alpha=0.5"),
    "train.mixing.weights": (MORE,),
    "train.mixing.alpha": (MORE,),
    "train.epochs": ("train.steps=null",),
    "train.input_dropout": (WITH_TABLE,),
    "train.save_every": ("evaluate.every=100",),
    "train.patience": ("train.steps=12", "evaluate.every=0.1"),
    "trunk.cache": ("trunk.tune=top1",),
    "trunk.vocabulary": (FILES,),
}


def settings_of(option, value):
    """The settings that give an option of the recipe this value."""
    section, *inner = option.split(".")
    part = PARTS.get(f"{section}.{inner[0]}") if len(inner) > 1 else None
    if section == "datasets":
        return [inner[0], f"{inner[1]}={value}"]
    if part:
        inner = inner[1:]
    start = [WITH_TABLE] if section == "fusion" else []
    start += [part] if part else []
    start += NEEDS.get(option, ())
    if inner == ["type"] or option == "data.name":
        kind = f"dataset, name: {value}" if option == "data.name" else value
        entry = kind if kind.startswith("{") else f"{{type: {kind}}}"
        return [*start, ".".join(filter(None, [section, NAMES.get(section)])) + f"={entry}"]
    return [*start, ".".join(filter(None, [section, NAMES.get(section), *inner])) + f"={value}"]


# --- observations; each takes the settings of a recipe ---


def recipe_of(settings):
    return load_recipe("tiny.yaml", settings).recipe


def built_of(settings):
    """Build an experiment and move all weights away from zero, so that no closed gate hides a difference."""
    experiment = build(recipe_of(settings))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return experiment


def plain(value):
    """A value with its tensors and arrays replaced by bytes, which can be compared."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
        return str(array.dtype), array.shape, array.tobytes()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def shapes(settings):
    """Names and shapes of the weights."""
    return {name: weight.shape for name, weight in built_of(settings).model.state_dict().items()}


def learning(settings):
    """Names of the weights that are trained."""
    return [name for name, weight in built_of(settings).model.named_parameters() if weight.requires_grad]


def tensors(settings):
    """Training samples as tensors, with augmentation and input dropout."""
    items = built_of(settings).dataset("train")
    item = [items[position, 1] for position in range(len(items))]
    return plain([[encoded.inputs, encoded.targets] for encoded in item])


def outputs(settings):
    """Predictions for the validation split."""
    experiment = built_of(settings)
    items = experiment.dataset("validation")
    with torch.no_grad():
        return plain(experiment.model.eval().predict(items.batch([(position, None) for position in range(len(items))])))


def loss(settings):
    """The losses of a batch in training mode, dropout included."""
    experiment = built_of(settings)
    torch.manual_seed(1)
    return plain(experiment.model(experiment.dataset("train").batch([(position, 0) for position in range(8)])))


def groups(settings):
    """The parameter groups of the optimizer, with the number of parameters in place of these."""
    experiment = built_of(settings)
    return [
        {**group, "params": sum(parameter.numel() for parameter in group["params"])}
        for group in make_optimizer(experiment.model, experiment.recipe.optim).param_groups
    ]


def samples(settings):
    """Every sample of every split."""
    return {
        split: [list(samples) for samples in sources] for split, sources in open_splits(recipe_of(settings)).items()
    }


def outcome(settings):
    """The error message when the recipe is trained; empty if there is none."""
    try:
        trained(settings)
    except MMBertError as error:
        return str(error)
    return ""


def trained(settings, out="run"):
    """What a run writes: ``metrics.jsonl`` without times, ``result.json`` and the best weights."""
    api.train("tiny.yaml", overrides=settings, out=out, resume="never")
    lines = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    result = json.loads(Path(out, "result.json").read_text())
    weights = load_file(Path(out, "checkpoints", f"step-{result['best_step']}", "model.safetensors"))
    return {"log": [{**line, "time": 0} for line in lines], "result": result, "weights": plain(weights)}


def steps(settings):
    """The training losses of each step."""
    return [(line["step"], line["value"]) for line in trained(settings)["log"] if line["split"] == "train"]


def evaluations(settings):
    """The steps after which the validation split was evaluated."""
    return sorted({line["step"] for line in trained(settings)["log"] if line["split"] == "validation"})


def saved(settings):
    """The steps of the checkpoints that a run saves."""
    steps, real = [], checkpoint.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            trainer, "save", lambda folder, step, *rest, **more: (steps.append(step), real(folder, step, *rest, **more))
        )
        trained(settings)
    return steps


def chosen_by(settings):
    """The scores by which the best checkpoint of a run is chosen."""
    scores, real = [], trainer.selection_score
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "selection_score", lambda *arguments: scores.append(real(*arguments)) or scores[-1])
        trained(settings)
    return scores


def survived(settings):
    """The error message of a run whose losses are not finite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "not_finite", lambda outcome, norm: "the loss is nan")
        return outcome(settings)


def best_weights(settings):
    """The weights of the best checkpoint."""
    return trained(settings)["weights"]


def baselines(settings):
    return sorted(trained(settings)["result"]["baselines"])


def folders(settings):
    """The run folders created when no folder is named."""
    before = set(Path("runs").glob("*"))
    api.train("tiny.yaml", overrides=settings)
    return sorted(path.name for path in set(Path("runs").glob("*")) - before)


def precision(settings):
    """The mixed precision of the accelerator and the type of the weights."""
    recipe = recipe_of(settings)
    return make_accelerator(recipe.train).mixed_precision, next(build(recipe).model.parameters()).dtype


def frame(settings):
    """The rows and files of a data set; settings are those of its builder, after its name."""
    name, *options = settings
    folder = Path("built", *options)
    folder.mkdir(parents=True)
    rows = load_builder(name, options).build(folder, lambda done: None)
    return rows.to_json(), {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*")}
