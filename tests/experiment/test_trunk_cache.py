"""The cache of frozen trunk layers: equal to computing them, and computed once for equal texts and weights."""

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

import mmbert
from mmbert.contracts import Processors
from mmbert.data.collate import Item, collate
from mmbert.data.sampler import StepPlan
from mmbert.errors import IntegrityError, RecipeError
from mmbert.experiment.build import build
from mmbert.experiment.trunk_cache import cache_features
from mmbert.recipe.load import load_recipe
from mmbert.training.optimizer import make_optimizer
from mmbert.training.step import accumulate_gradients, count_units
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.store import TokenStore

ROOT = Path(__file__).resolve().parents[2]
DEBUG = ROOT / "recipes" / "debug.yaml"
SMALL = (
    "inputs.image=null",
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "trunk.layers=3",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "trunk.tune=top1",
    "trunk.cache=true",
    "fusion=null",
    "fusion.type=concat",
    "data.generated.absent=0.3",
    "data.generated.rows=48",
    "train.precision=fp64",
    "train.dropout=0",
    "train.batch_size=8",
    "train.input_dropout=0.4",
)
EXACT = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(autouse=True)
def _cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def computed(monkeypatch):
    """A list that gets the number of sequences of each call of the frozen layers."""
    calls, below = [], HuggingFaceTrunk.run_frozen_layers

    def counted(trunk, ids, mask):
        calls.append(len(ids))
        return below(trunk, ids, mask)

    monkeypatch.setattr(HuggingFaceTrunk, "run_frozen_layers", counted)
    return calls


def built_of(*settings):
    """Build an experiment and move all weights away from zero, so that no closed gate hides a difference."""
    experiment = build(load_recipe(DEBUG, [*SMALL, *settings]).recipe)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return experiment


def cached(*settings):
    experiment = built_of(*settings)
    cache_features(experiment)
    return experiment


def step(experiment, number=0):
    """Losses and gradients of a training step, dropout of inputs included."""
    items = experiment.dataset("train")
    batch = items.batch(StepPlan(0, len(items), 24).batch(number))
    present = batch.inputs["text"].rows.tolist() if "text" in batch.inputs else []
    assert 0 < len(present) < len(batch), "the batch must have rows without text, or this file proves nothing"
    weights = {name: task.weight for name, task in experiment.model.tasks.items()}
    experiment.model.zero_grad()
    units = count_units(experiment.model, [batch], torch.device("cpu"))
    outcome = accumulate_gradients(experiment.model, [batch], units, weights, Accelerator(cpu=True), seed=(0, number))
    return outcome.losses, {
        name: parameter.grad for name, parameter in experiment.model.named_parameters() if parameter.grad is not None
    }


def predictions(experiment, split="validation"):
    items = experiment.dataset(split)
    with torch.no_grad():
        experiment.model.eval()
        predicted = experiment.model.predict(items.batch([(position, None) for position in range(len(items))]))
        experiment.model.train()
    return predicted


@pytest.mark.parametrize(
    ("fusion", "tune"),
    [("concat", tune) for tune in ("top1", "top2", "top3", "frozen")]
    + [("cross_attention", "top2"), ("perceiver", "top1")],
)
def test_a_training_step_equals_the_uncached_one(fusion, tune, computed):
    settings = (f"fusion.type={fusion}", f"trunk.tune={tune}")
    plain, fast = built_of(*settings), cached(*settings)
    computed.clear()
    for number in range(2):
        (losses, gradients), (expected, wanted) = step(fast, number), step(plain, number)
        assert losses == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert gradients.keys() == wanted.keys()
        torch.testing.assert_close(gradients, wanted, **EXACT)
        assert any(name.startswith("trunk.") for name in gradients) == (tune != "frozen")
    torch.testing.assert_close(predictions(fast), predictions(plain), **EXACT)
    assert not computed, "every sequence of the data is in the cache"


def test_a_row_whose_text_is_hidden_in_training_is_in_the_cache_too(computed):
    experiment = cached("data.generated.absent=0")
    computed.clear()
    step(experiment)
    assert not computed


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_dropout_above_the_cut_draws_the_same(family):
    settings = ("train.dropout=0.3", f"trunk.family={family}", "trunk.tune=top2")
    (losses, gradients), (expected, wanted) = step(cached(*settings)), step(built_of(*settings))
    assert losses == pytest.approx(expected, rel=1e-9, abs=1e-9)
    torch.testing.assert_close(gradients, wanted, **EXACT)


def test_layers_below_the_cut_are_never_called(monkeypatch):
    experiment = cached("trunk.tune=top1")
    stack, called = experiment.model.trunk.model.encoder.layer, []
    for number, layer in enumerate(stack):
        layer.register_forward_pre_hook(lambda *_, number=number: called.append(number))
    experiment.model.trunk.model.embeddings.register_forward_pre_hook(lambda *_: called.append("embeddings"))
    step(experiment)
    predictions(experiment)
    assert {*called} == {2}


def test_layers_above_the_cut_learn_and_those_below_do_not():
    experiment = cached("trunk.tune=top2", "optim.lr.trunk=1e-2", "optim.warmup=0")
    before = {name: tensor.clone() for name, tensor in experiment.model.state_dict().items()}
    optimizer = make_optimizer(experiment.model, experiment.recipe.optim)
    for number in range(3):
        step(experiment, number)
        optimizer.step()
    moved = {name for name, tensor in experiment.model.state_dict().items() if not torch.equal(tensor, before[name])}
    layers = {name.split(".")[4] for name in before if ".layer." in name}
    assert {name.split(".")[4] for name in moved if name.startswith("trunk.")} == layers - {"0"}
    plain = built_of("trunk.tune=top2")
    plain.model.load_state_dict(experiment.model.state_dict())
    torch.testing.assert_close(predictions(experiment), predictions(plain), **EXACT)


@pytest.mark.parametrize("tune", ["top1", "frozen"])
def test_a_whole_run_equals_the_uncached_one_and_its_model_needs_no_cache(tune, tmp_path):
    def run(cache):
        settings = [*SMALL, f"trunk.tune={tune}", f"trunk.cache={cache}", "train.dropout=null", "train.ema=0.9"]
        out = tmp_path / cache
        best = mmbert.train(DEBUG, overrides=settings, out=out)["best_step"]
        lines = [json.loads(line)["value"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        return out, lines, load_file(out / "checkpoints" / f"step-{best}" / "model.safetensors")

    (fast, values, weights), (plain, expected, wanted) = run("true"), run("false")
    assert values == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert weights.keys() == wanted.keys()
    torch.testing.assert_close(weights, wanted, **EXACT)
    shutil.rmtree(tmp_path / "cache" / "mmbert" / "features")
    rows = [{"text": "a text of no split"}, {"text": ""}]
    cached_model, plain_model = mmbert.load(fast), mmbert.load(plain)
    assert cached_model.model.trunk.store is None
    for first, second in zip(cached_model.predict(rows), plain_model.predict(rows), strict=True):
        assert first["amount"] == pytest.approx(second["amount"], rel=1e-9)


def test_a_text_that_is_not_cached_is_computed(computed):
    experiment, plain = cached(), built_of()
    computed.clear()
    items = experiment.dataset("train")
    known = [items[position, None] for position in range(4)]
    new = [
        {"text": experiment.processors.inputs["text"](text)}
        for text in ("never seen before", "nor this one", "never seen")
    ]
    batch = collate(
        [*known, *(Item(id, inputs, {}) for id, inputs in enumerate(new))], Processors(experiment.processors.inputs, {})
    )
    with torch.no_grad():
        actual, expected = experiment.model.predict(batch), plain.model.predict(batch)
    torch.testing.assert_close(actual, expected, **EXACT)
    assert computed == [3]


def test_equal_inputs_are_cached_once_and_any_change_is_computed_anew(computed):
    first = cache_features(built_of())
    assert computed
    computed.clear()
    assert cache_features(built_of("train.seed=0", "optim.lr.trunk=1e-3", "trunk.packing=true")) == first
    assert not computed
    changed = {
        "weights": cache_features(built_of("train.seed=1")),
        "texts": cache_features(built_of("data.generated.rows=47")),
        "shorter texts": cache_features(built_of("inputs.text.max_length=3")),
        "cut": cache_features(built_of("trunk.tune=top2")),
        "precision": cache_features(built_of("train.precision=fp32")),
    }
    assert len({first, *changed.values()}) == 6
    assert len(computed) >= 5


def test_weights_above_the_cut_do_not_change_the_store():
    first, second = built_of(), built_of()
    with torch.no_grad():
        second.model.trunk.model.encoder.layer[2].output.dense.weight += 1
    assert cache_features(first) == cache_features(second)
    with torch.no_grad():
        second.model.trunk.model.encoder.layer[1].output.dense.weight[0, 0] += 1
    assert cache_features(first) != cache_features(second)


@pytest.mark.parametrize("fusion", ["bottleneck", "joint", "mag"])
def test_a_fusion_that_writes_into_the_trunk_is_refused(fusion):
    recipe = load_recipe(DEBUG, [*SMALL, f"fusion.type={fusion}"]).recipe
    with pytest.raises(RecipeError, match=rf"trunk\.cache: under the fusion '{fusion}' .* concat or cross_attention"):
        build(recipe)


def test_a_trunk_without_accessible_layers_is_cached_only_when_frozen(tmp_path):
    experiment = built_of()
    vocabulary = experiment.model.trunk.vocabulary
    (tmp_path / "tokenizer.json").write_text(vocabulary.tokenizer)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    folder = tmp_path / "distilbert"
    PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **names).save_pretrained(folder)
    sizes = {"vocab_size": vocabulary.size, "dim": 16, "n_heads": 2, "hidden_dim": 16, "n_layers": 2}
    DistilBertModel(DistilBertConfig(**sizes)).save_pretrained(folder)
    settings = [setting for setting in SMALL if not setting.startswith("trunk.")]

    def recipe(tune, cache):
        trunk = f"{{checkpoint: {folder}, tune: {tune}, cache: {cache}}}"
        return load_recipe(DEBUG, ["trunk=null", *settings, f"trunk={trunk}"]).recipe

    with pytest.raises(RecipeError, match="'top1' needs 1 layers to tune; this trunk shows 0"):
        build(recipe("top1", "true"))
    fast, plain = build(recipe("frozen", "true")), build(recipe("frozen", "false"))
    cache_features(fast)
    torch.testing.assert_close(step(fast), step(plain), **EXACT)


def test_a_damaged_store_is_refused(tmp_path):
    folder = cache_features(built_of())
    shutil.copytree(folder, tmp_path / "whole")
    for damage in ("truncated", "lost", "without index"):
        if damage == "truncated":
            with open(folder / "values", "r+b") as file:
                file.truncate((folder / "values").stat().st_size - 8)
        else:
            (folder / ("values" if damage == "lost" else "index.npy")).unlink()
        with pytest.raises(IntegrityError, match=rf"'{folder}' are damaged: .*Remove that folder"):
            cache_features(built_of())
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "whole", folder)
    shutil.rmtree(folder)
    torch.testing.assert_close(step(cached()), step(built_of()), **EXACT)


def test_a_disk_without_space_is_reported_before_anything_is_written(tmp_path, monkeypatch, computed):
    experiment = built_of()
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 5))
    with pytest.raises(RecipeError, match=r"the tokens of \d+ texts take 0\.00 GB, but '.*features' has 0\.00 GB free"):
        cache_features(experiment)
    assert not computed
    assert experiment.model.trunk.store is None
    assert not [path for path in (tmp_path / "cache" / "mmbert" / "features").iterdir() if path.suffix != ".lock"]


def test_of_two_processes_one_computes_while_the_other_waits(tmp_path, monkeypatch):
    experiment, write = built_of(), TokenStore.write
    fork = multiprocessing.get_context("fork")
    together, computing, done = fork.Barrier(2), fork.Value("i", 0), fork.Queue()

    def slowly(*arguments):
        with computing.get_lock():
            computing.value += 1
        time.sleep(0.3)
        write(*arguments)

    def run():
        torch.set_num_threads(1)  # threads of the parent do not live on in a fork
        together.wait(timeout=1200)
        done.put(cache_features(experiment))

    monkeypatch.setattr(TokenStore, "write", slowly)
    processes = [fork.Process(target=run) for _ in range(2)]
    for process in processes:
        process.start()
    folders = [done.get(timeout=1200) for _ in processes]
    for process in processes:
        process.join(timeout=1200)
        assert process.exitcode == 0
    assert folders == [cache_features(experiment)] * 2
    assert computing.value == 1
