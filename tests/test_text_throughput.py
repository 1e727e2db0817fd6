"""The sums of the text benchmark, without its timing."""

import pytest
from transformers import AutoConfig

from benchmarks.text_arms import MeanRegressor, TrainerArm, _is_matrix, _is_of_head, _is_vector
from benchmarks.text_throughput import Counts, flops, json_entry, summarise
from mmbert.trunk.weights import build_from_config


def counts(seconds, lengths, computed):
    counts = Counts()
    counts.seconds, counts.lengths, counts.computed, counts.losses = seconds, lengths, computed, [1.0, 3.0]
    return counts


def small():
    config = AutoConfig.for_model(
        "bert",
        num_hidden_layers=2,
        hidden_size=8,
        num_attention_heads=2,
        vocab_size=9,
        intermediate_size=24,
        max_position_embeddings=16,
    )
    return MeanRegressor(build_from_config(config.to_dict()))


def test_six_operations_for_each_weight_and_token_and_those_of_attention():
    layers = small().encoder.encoder.layer
    weights = sum(each.numel() for name, each in layers.named_parameters() if each.ndim == 2)
    assert flops([7, 3], layers=2, width=8, inner=24) == 6 * weights * 10 + 3 * 2 * 4 * 8 * (7**2 + 3**2)


def test_ratios_are_of_real_tokens_a_second_within_a_repeat():
    runs = {
        "mmbert": [counts(1.0, [10, 20], 30), counts(4.0, [10, 20], 30), counts(2.0, [10, 20], 30)],
        "padded": [counts(4.0, [10, 20], 60), counts(16.0, [10, 20], 60), counts(2.0, [10, 20], 60)],
    }
    figures = summarise(runs, peak=flops([10, 20]) / 0.5)
    assert figures["mmbert"]["vs_padded"] == 4
    assert figures["mmbert"]["gemm_share"] == pytest.approx(0.25)
    assert figures["mmbert"]["examples_per_second"] == 1
    assert figures["padded"]["efficiency"] == 0.5
    assert figures["padded"]["loss"] == 2
    assert json_entry(figures) == {
        "vs_padded": 4,
        "gemm_share": pytest.approx(0.25),
        "efficiency_padded": 0.5,
        "target_vs_padded": 1.74,
    }


def test_every_parameter_is_in_one_group():
    for name, parameter in small().named_parameters():
        assert sum(selects(name, parameter) for selects in (_is_matrix, _is_vector, _is_of_head)) == 1


@pytest.mark.parametrize(("padding", "steps"), [("dynamic", 3), ("grouped", 3)])
def test_each_repeat_reads_batches_of_its_own_rows(padding, steps):
    arm = TrainerArm.__new__(TrainerArm)
    arm.padding, arm.rows = padding, [{"ids": [0] * (1 + row % 50)} for row in range(3200)]
    first, second = (list(arm.order(repeat, steps)) for repeat in (0, 1))
    assert [len(batch) for batch in first] == [32] * steps
    assert first != second
    spread = [max(lengths) - min(lengths) for lengths in ([row % 50 for row in batch] for batch in first)]
    assert (max(spread) <= 2) == (padding == "grouped")
