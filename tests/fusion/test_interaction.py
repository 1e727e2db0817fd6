"""Tests that inputs interact in every fusion except the additive ones."""

import pytest
import torch

from mmbert.fusion import FUSIONS
from tests.fusion.test_fusion_contract import DIM, inputs, make_fusion, make_trunk

ADDITIVE = ("logit_sum", "mean")  # by definition
ROW = 0  # has text and all streams


def second_difference(name, first, second):
    """f(a, b) - f(a', b) - f(a, b') + f(a', b') of two inputs: zero for a sum over inputs."""
    trunk, fusion = make_trunk(), make_fusion(name)
    text, streams = inputs(trunk)
    given = {"text": text, **streams}
    shift = torch.linspace(-2, 2, DIM).double().cos()

    def summary(*changed):
        now = {
            key: tokens._replace(values=tokens.values + 3 * shift * (key in changed)) for key, tokens in given.items()
        }
        return fusion(trunk, now.pop("text"), now).summary[ROW]

    return (summary() - summary(first) - summary(second) + summary(first, second)).abs().max()


@pytest.mark.parametrize("pair", [("text", "long"), ("long", "short")], ids="-".join)
@pytest.mark.parametrize("name", FUSIONS.names())
def test_inputs_interact_under_all_but_the_mean(name, pair):
    interaction = second_difference(name, *pair)
    assert interaction < 1e-12 if name in ADDITIVE else interaction > 1e-4
