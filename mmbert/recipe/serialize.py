"""A recipe as plain values, as YAML that loads back to an equal recipe, and as a hash."""

import hashlib
import io
import json
import sys
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_jsonable_python
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from mmbert.recipe.options import part_classes, recipe_parts
from mmbert.recipe.schema import CONFIG_KEYS, Recipe
from mmbert.registry import recipe_options

# keys that change neither the weights nor the scores of a run
OPERATIONAL = (
    ("name",),
    ("train", "workers"),
    ("train", "trackers"),
    ("train", "save_every"),
    ("train", "max_bad_steps"),
    *(("evaluate", key) for key in ("batch_size", "baselines", "on_leak")),
)


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values with all defaults, without keys that do not apply."""
    content = recipe.model_dump(mode="json")
    if recipe.trunk.checkpoint is not None:
        for key in CONFIG_KEYS:
            del content["trunk"][key]
    if recipe.fusion.type == "logit_sum":  # the type does what the key of that name adds
        del content["fusion"]["logit_sum"]
    for source in content["data"].values():
        if source["name"] is None:
            del source["name"]
    return content


def dump(recipe: Recipe) -> str:
    """A recipe as YAML with all defaults, which loads back to an equal recipe."""
    return to_yaml(to_plain(recipe))


class _Representer(RoundTripRepresenter):
    """Writes ``null``, for which ruamel writes nothing."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def to_yaml(content: Any) -> str:
    """YAML 1.2 with one line for each key; a list is on the line of its key."""
    yaml = YAML(pure=True)
    yaml.Representer = _Representer
    yaml.width = sys.maxsize
    stream = io.StringIO()
    yaml.dump(_styled(content), stream)
    return stream.getvalue()


def _styled(value: Any) -> Any:
    if isinstance(value, dict):
        return {_styled(key): _styled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        listed = CommentedSeq([_styled(inner) for inner in value])
        listed.fa.set_flow_style()
        return listed
    return DoubleQuotedScalarString(value) if isinstance(value, str) and not value.isprintable() else value


def recipe_hash(recipe: Recipe) -> str:
    """A hash of the values that differ from their defaults, without operational keys: 32 hexadecimal digits.

    The order of keys does not matter. A new option in the code does not change the hash of any recipe. Nor does a
    changed default, which must therefore raise ``CODE_EPOCH``.
    """
    content = recipe.model_dump(mode="json", exclude_defaults=True)
    for path, part in recipe_parts(recipe).items():
        entry = _at(content, path)
        for cls in part_classes(path[0], part):
            for name, parameter in recipe_options(cls).items():
                if name in entry and entry[name] == to_jsonable_python(parameter.default, fallback=str):
                    del entry[name]
    for *sections, key in OPERATIONAL:
        _at(content, sections).pop(key, None)
    content = {section: values for section, values in content.items() if values}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _at(content: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The mapping at a path; an empty one where there is none."""
    for key in path:
        content = content.get(key, {})
    return content
