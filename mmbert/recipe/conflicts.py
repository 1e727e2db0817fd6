"""What no single key of a recipe shows: keys that exclude each other, names that must exist elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmbert.datasets import DATASETS
from mmbert.errors import nearest
from tasks import TASKS

Path = tuple[str | int, ...]

# of a trunk without a checkpoint
CONFIG_KEYS = ("family", "layers", "hidden_size", "heads", "vocabulary", "max_positions", "initializer_range")


def conflicts(given: Mapping[str, Any]) -> dict[Path, str]:
    """Messages by path. ``given`` holds the keys that were given, and may be wrong in any other way."""
    found: dict[Path, str] = {}
    for check in (_data, _trunk, _cache, _inputs, _fusion, _train, _mixing, _input_dropout, _select):
        found.update(check(given))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _data(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for source, entry in _mapping(given.get("data")).items():
        entry = _mapping(entry)
        kind, name = entry.get("type"), entry.get("name")
        if kind == "dataset" and name is None:
            yield ("data", source, "name"), f"missing: the data set. {nearest('', DATASETS.names())}"
        elif kind == "dataset" and isinstance(name, str) and name not in DATASETS:
            message = f"no data set is called '{name}'. {nearest(name, DATASETS.names())}"
            yield ("data", source, "name"), message
        elif isinstance(kind, str) and kind != "dataset" and name is not None:
            yield ("data", source, "name"), f"belongs to the type dataset: remove it, or the type {kind}"


def _trunk(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    trunk = _mapping(given.get("trunk"))
    checkpoint = trunk.get("checkpoint", "minilm")
    width, heads = trunk.get("hidden_size", 256), trunk.get("heads", 4)
    if checkpoint is not None:
        for key in CONFIG_KEYS:
            if key in trunk:
                yield (
                    ("trunk", key),
                    f"belongs to a trunk from a config, but the checkpoint is {checkpoint}: remove this",
                )
    elif isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads:
        yield ("trunk", "hidden_size"), f"expected a multiple of heads ({heads}), found {width}"


def _cache(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    trunk, inputs = _mapping(given.get("trunk")), _mapping(given.get("inputs"))
    if trunk.get("cache") is not True:
        return
    texts = sorted(name for name, entry in inputs.items() if _mapping(entry).get("type") == "text")
    if trunk.get("tune", "full") == "full":
        message = "only what is frozen can be computed once, but trunk.tune is full: set it to frozen or top<k>"
    elif len(texts) > 1:
        message = f"the texts {', '.join(texts)} are told apart by a facet, which learns below all layers: keep one"
    else:
        return
    yield ("trunk", "cache"), f"{message}, or remove this"


def _inputs(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    tasks = _mapping(given.get("tasks"))
    for name, entry in _mapping(given.get("inputs")).items():
        kind = _mapping(entry).get("type")
        if name == "text" and isinstance(kind, str) and kind != "text":
            yield ("inputs", name), f"only an input of the type text may be called text: rename this {kind}"
        if kind == "text" and entry.get("tune", "full") != "full":
            yield ("inputs", name, "tune"), "a text is encoded by the trunk: set trunk.tune"
        if kind == "text" and entry.get("missing", "masked") != "masked":
            yield ("inputs", name, "missing"), "a row without text is read as [CLS] [SEP], which learns: remove this"
        if name in tasks:
            yield ("tasks", name), "an input has this name too: rename the task, and give it column: " + name


def _fusion(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    fusion = _mapping(given.get("fusion"))
    if fusion.get("type") != "logit_sum":
        return
    if fusion.get("logit_sum") is True:
        yield ("fusion", "logit_sum"), "the type logit_sum adds them already: remove this, or name another type"
    for name, entry in _mapping(given.get("inputs")).items():
        if _mapping(entry).get("missing") == "learned":
            message = "a learned token enters the fusion, and the type logit_sum joins nothing: remove this"
            yield ("inputs", name, "missing"), message


def _train(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    if not isinstance(train := given.get("train"), Mapping):
        return
    if train.get("epochs") is None and train.get("steps") is None:
        yield ("train", "epochs"), "missing: give train.epochs or train.steps"
    elif train.get("epochs") is not None and train.get("steps") is not None:
        yield ("train", "steps"), "train.epochs is given too: remove one"
    rows, parts = train.get("batch_size", 32), train.get("accumulate", 1)
    if isinstance(rows, int) and isinstance(parts, int) and parts > 0 and rows % parts:
        yield ("train", "accumulate"), f"expected a divisor of train.batch_size ({rows}), found {parts}"


def _mixing(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    if not isinstance(mixing := _mapping(given.get("train")).get("mixing"), Mapping):
        return
    if mixing.get("weights") is None and mixing.get("alpha") is None:
        yield ("train", "mixing", "weights"), "missing: give train.mixing.weights or train.mixing.alpha"
    elif mixing.get("weights") is not None and mixing.get("alpha") is not None:
        yield ("train", "mixing", "alpha"), "train.mixing.weights is given too: remove one"


def _input_dropout(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    inputs = _mapping(given.get("inputs"))
    for name in _mapping(_mapping(given.get("train")).get("input_dropout")):
        if name not in inputs:
            yield ("train", "input_dropout", name), f"no input is called '{name}'. {nearest(name, inputs)}"


def _select(given: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    select = _mapping(given.get("train")).get("select", "skill")
    if not isinstance(select, str) or select == "skill":
        return
    task, _, metric = select.partition("/")
    if not metric:
        yield ("train", "select"), f"expected skill or task/metric, found '{select}'"
    elif task not in (tasks := _mapping(given.get("tasks"))):
        yield ("train", "select"), f"no task is called '{task}'. {nearest(task, tasks)}"
    elif (kind := _mapping(tasks[task]).get("type")) in TASKS.names() and metric not in TASKS.get(kind).metrics:
        valid = nearest(metric, TASKS.get(kind).metrics)
        yield ("train", "select"), f"the task '{task}' has no metric '{metric}'. {valid}"
