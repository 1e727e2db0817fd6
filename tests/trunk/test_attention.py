"""Tests of packed attention: equality with attention per sequence, dropout, the variable-length kernel."""

from itertools import pairwise

import pytest
import torch
import torch.nn.attention.varlen
from torch.nn.functional import scaled_dot_product_attention

from mmbert.trunk import attention
from mmbert.trunk.attention import attend
from mmbert.trunk.packing import plan_packing

HEADS, SIZE = 2, 4
LENGTHS = (9, 2, 8, 1, 5, 9)


def packed(lengths=LENGTHS):
    """Query, key and value [1, heads, tokens, size], and the packing of sequences of these lengths."""
    packing = plan_packing(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, 1, HEADS, sum(lengths), SIZE, generator=generator, dtype=torch.float64)
    return parts.requires_grad_().unbind(), packing


def alone(parts, packing, reach=None):
    """Attention of each sequence separately: [tokens, heads, size]."""
    read = []
    for query, key, value in zip(*(part[0].split(packing.ends.diff().tolist(), 1) for part in parts), strict=True):
        place = torch.arange(query.shape[1])
        near = None if reach is None else (place[:, None] - place).abs() <= reach
        read.append(scaled_dot_product_attention(query, key, value, attn_mask=near))
    return torch.cat(read, 1).transpose(0, 1)


@pytest.mark.parametrize("reach", [None, 0, 1, 3, 100])
def test_packed_tokens_read_their_own_sequence_within_reach(reach):
    parts, packing = packed()
    read, _ = attend(None, *parts, None, scaling=SIZE**-0.5, packing=packing, reach=reach)
    expected = alone(parts, packing, reach)
    assert (read[0] - expected).abs().max() < 1e-12
    for part in parts:
        gradient, expected_gradient = (
            torch.autograd.grad(result.sin().sum(), part, retain_graph=True)[0] for result in (read, expected)
        )
        assert (gradient - expected_gradient).abs().max() < 1e-12


def test_each_weight_is_dropped_or_scaled():
    length = 60
    query, key = torch.randn(2, 3, HEADS, length, SIZE, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(length) < torch.tensor([60, 50, 40])[:, None])[:, None, None]
    value = torch.eye(length).expand(3, HEADS, -1, -1)  # the result is the attention weights
    torch.manual_seed(0)
    clean, dropped = (attend(None, query, key, value, mask, dropout=rate)[0] for rate in (0.0, 0.25))
    readable = clean != 0
    ratio = dropped[readable] / clean[readable]
    remaining = ratio > 0
    assert ratio[remaining] == pytest.approx(1 / 0.75, abs=1e-4)
    assert remaining.double().mean() == pytest.approx(0.75, abs=0.02)
    assert not dropped[~readable].any()


def test_the_kernel_for_any_lengths_is_given_the_packed_tokens(monkeypatch):
    def kernel(query, key, value, ends, ends_of_keys, longest, longest_key):  # as torch documents it
        assert ends is ends_of_keys
        assert ends.dtype == torch.int32
        assert longest == longest_key == max(LENGTHS)
        rows = [
            scaled_dot_product_attention(*(part[first:last].transpose(0, 1) for part in (query, key, value)))
            for first, last in pairwise(ends)
        ]
        return torch.cat(rows, 1).transpose(0, 1)

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", kernel)
    monkeypatch.setattr(attention, "_has_variable_length", lambda query: True)
    monkeypatch.setattr(attention, "_read", None)
    parts, packing = packed()
    read, _ = attend(None, *parts, None, scaling=SIZE**-0.5, packing=packing)
    assert (read[0] - alone(parts, packing)).abs().max() < 1e-12
