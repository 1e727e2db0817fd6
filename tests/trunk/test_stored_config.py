"""A stranger's model folder: its trunk configuration chooses no code and no memory beyond its weights."""

import math

import pytest
import torch

from mmbert.errors import IntegrityError
from mmbert.trunk.stored_config import check_stored_config
from mmbert.trunk.weights import build_from_stored_config

GOOD = {
    **{"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100},
    **{"intermediate_size": 64, "max_position_embeddings": 32, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
}
HOSTILE = {
    "no object": [1, 2],
    "nothing": None,
    "no architecture": {},
    "unknown architecture": {"model_type": "../../evil"},
    "architecture of another type": {"model_type": ["bert"]},
    "attention kernels": {**GOOD, "attn_implementation": "hub-user/kernels"},
    "hidden attention kernels": {**GOOD, "_attn_implementation": "hub-user/kernels"},
    "internal attention kernels": {**GOOD, "_attn_implementation_internal": "hub-user/kernels"},
    "expert kernels": {**GOOD, "_experts_implementation": "hub-user/kernels"},
    "code": {**GOOD, "auto_map": {"AutoModel": "evil--modeling.Evil"}},
    "trust": {**GOOD, "trust_remote_code": True},
    "quantization": {**GOOD, "quantization_config": {"quant_method": "awq"}},
    "pipelines": {**GOOD, "custom_pipelines": {"x": {"impl": "evil.py"}}},
    "kernels": {**GOOD, "kernel_config": {"x": "hub"}},
    "width": {**GOOD, "hidden_size": 10**9},
    "wide and allowed": {**GOOD, "hidden_size": 10**6, "num_attention_heads": 1},
    "layers": {**GOOD, "num_hidden_layers": 10**9},
    "more layers than weights": {**GOOD, "num_hidden_layers": 150, "hidden_size": 512},
    "vocabulary": {**GOOD, "vocab_size": 10**12},
    "positions": {**GOOD, "max_position_embeddings": 10**10},
    "negative": {**GOOD, "intermediate_size": -(10**8)},
    "text for a number": {**GOOD, "hidden_size": "16"},
    "no number": {**GOOD, "layer_norm_eps": math.nan},
    "infinite": {**GOOD, "hidden_dropout_prob": math.inf},
    "activation": {**GOOD, "hidden_act": "os.system"},
    "heads that do not divide": {**GOOD, "num_attention_heads": 7},
    "long text": {**GOOD, "hidden_act": "x" * 10_000},
    "deep": {**GOOD, "id2label": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
}


@pytest.fixture
def weights(tmp_path):
    """A file as large as the weights of the good configuration."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(100_000))
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_is_refused(weights, name):
    with pytest.raises(IntegrityError):
        build_from_stored_config(HOSTILE[name], weights)


def test_a_good_configuration_gives_the_same_trunk_without_unknown_keys(weights):
    torch.manual_seed(0)
    model = build_from_stored_config({**GOOD, "of_an_older_version": True, "_name_or_path": "/somewhere"}, weights)
    assert model.config.hidden_size == 16
    assert not hasattr(model.config, "of_an_older_version")
    assert check_stored_config(model.config.to_dict(), "x")["hidden_size"] == 16
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
