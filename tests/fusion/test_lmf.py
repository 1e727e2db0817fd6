"""Tests of low-rank fusion against the contraction with the full tensor."""

from string import ascii_lowercase

import pytest
import torch
from einops import rearrange

from mmbert.fusion.lmf import LowRank
from tests.fusion.test_fusion_contract import DIM, inputs, make_fusion, make_trunk

SMALL, ROWS = 3, 4


def build(count, rank, dim=SMALL):
    """A module over ``count`` inputs with random weights, and vectors [rows, count, dim]."""
    generator = torch.Generator().manual_seed(count + 10 * rank)
    module = LowRank(dim, [f"m{at}" for at in range(count)], rank=rank).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module, torch.randn(ROWS, count, dim, generator=generator, dtype=torch.float64)


def factors_of(module, dim=SMALL):
    """F_m^(r) of each input, [rank, dim, 1 + dim], to be applied to [1; z]."""
    rank = len(module.weights)
    stacked = [torch.cat([factor.bias[:, None], factor.weight], 1) for factor in module.factors.values()]
    return [factor.unflatten(0, (rank, dim)) for factor in stacked]


def outer(parts, first):
    """The outer product of tensors that share their ``first`` axes: [first, a], [first, b] -> [first, a, b]."""
    letters = ascii_lowercase[: len(parts)]
    return torch.einsum(",".join(f"{first}{letter}" for letter in letters) + f"->{first}{letters}", *parts)


def tensor(vectors, weights):
    """Tensor fusion (Zadeh et al. 2017): the outer product of all [1; z] [rows, 1 + dim, ...] against a full tensor.

    ``weights`` [outputs, 1 + dim, ..., 1 + dim] has an axis for each input.
    """
    ones = torch.ones_like(vectors[..., :1])
    product = outer(torch.cat([ones, vectors], -1).unbind(1), "Z")
    return product.flatten(1) @ weights.flatten(1).T


@pytest.mark.parametrize("rank", [1, 2, 4, 16])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_it_equals_the_full_tensor_contraction(count, rank):
    module, vectors = build(count, rank)
    full = torch.einsum("r,r...->...", module.weights, outer(factors_of(module), "RO"))
    torch.testing.assert_close(module.contract(vectors), tensor(vectors, full))


def test_it_equals_the_contraction_where_an_input_is_absent():
    """The products with it are left out and no other product changes."""
    module, vectors = build(3, 4)
    full = torch.einsum("r,r...->...", module.weights, outer(factors_of(module), "RO"))
    absent = vectors.clone()
    absent[:, 1] = 0.0
    torch.testing.assert_close(module.contract(absent), tensor(vectors[:, [0, 2]], full[:, :, 0]))


@pytest.mark.parametrize("bound", [0, 1], ids=["reached", "one short"])
def test_rank_of_the_smaller_size_reaches_any_bilinear_map(bound):
    generator = torch.Generator().manual_seed(5)
    size = 1 + SMALL
    bilinear = torch.randn(SMALL, size, size, generator=generator, dtype=torch.float64)
    rank = size - bound
    left, strength, right = torch.linalg.svd(bilinear)  # of each output
    module, vectors = build(2, rank)
    columns = [
        rearrange(side[..., :rank], "output size rank -> (rank output) size")
        for side in (left * strength[:, None], right.mT)
    ]
    with torch.no_grad():
        module.weights.fill_(1.0)
        for factor, column in zip(module.factors.values(), columns, strict=True):
            factor.bias.copy_(column[:, 0])
            factor.weight.copy_(column[:, 1:])
    wrong = (module.contract(vectors) - tensor(vectors, bilinear)).abs().max()
    assert wrong > 1e-2 if bound else wrong < 1e-12


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_products_of_many_inputs_start_in_scale(count):
    """Neither the sum of products nor the gradient of a factor vanishes or explodes with the number of inputs."""
    torch.manual_seed(count)
    module = LowRank(64, [f"m{at}" for at in range(count)], rank=4)
    products = module.contract(torch.randn(256, count, 64))
    moment = products.detach().square().mean()
    assert 1 < moment < 3
    (products.square().mean() / moment).backward()
    gradients = [factor.weight.grad.norm() for factor in module.factors.values()]
    assert max(gradients) < 2 * min(gradients)
    assert min(gradients) > 0.02


def test_the_summary_is_the_normed_sum_of_products():
    trunk, fusion = make_trunk(), make_fusion("lmf")
    text, streams = inputs(trunk)
    read = trunk(text)
    read = read._replace(mask=read.mask & (text.unit >= 0).any(1)[:, None])
    vectors, _ = fusion.late.vectors({"text": read, **streams}, text.values[:, 0])
    mix = fusion.late.mix
    each = []  # [batch, rank, dim]
    for factor, vector in zip(factors_of(mix, DIM), vectors.unbind(1), strict=True):
        each.append(torch.einsum("rod,bd->bro", factor, torch.cat([torch.ones_like(vector[:, :1]), vector], 1)))
    expected = mix.norm(torch.einsum("r,bro->bo", mix.weights, torch.stack(each).prod(0)))
    rows = [0, 1, 2, 4]  # row 3 has no stream
    torch.testing.assert_close(fusion(trunk, text, streams).summary[rows], expected[rows])


def test_every_factor_is_a_parameter():
    """Factors in a plain list would never reach the optimiser."""
    names = [name for name, _ in make_fusion("lmf").named_parameters()]
    for stream in ("text", "long", "short"):
        assert {f"late.mix.factors.{stream}.weight", f"late.mix.factors.{stream}.bias"} <= {*names}
