"""Small processors, encoders and items of any registered encoder, for the contract tests."""

import numpy as np
import pytest
import torch

from encoders import ENCODERS
from mmbert.layers.dropout import set_dropout
from mmbert.registry import keyword_only_parameters

DIM = 12
# for speed, if an encoder has an option of that name
SMALL = {"width": 32, "layers": 1, "size": 64, "backbone": "test_efficientnet"}
every_encoder = pytest.mark.parametrize("name", ENCODERS.names())


def make_processor(name, fits=1, **chosen):
    """A processor fitted on examples, and further examples that are not empty."""
    rng = np.random.default_rng(0)
    kind = ENCODERS.get(name).processor
    small = {option: value for option, value in SMALL.items() if option in keyword_only_parameters(kind)}
    processor = kind(**small, **chosen)
    values = [kind.example(rng) for _ in range(40)]
    for _ in range(fits):
        processor.fit(values)
    return processor, [value for value in (kind.example(rng) for _ in range(40)) if processor(value)]


def make_encoder(name, processor, seed=0):
    """An encoder in training mode without dropout; zero-initialised values are replaced by small random ones."""
    torch.manual_seed(seed)
    part = ENCODERS.get(name)
    encoder = part(
        DIM, processor, **{key: value for key, value in SMALL.items() if key in keyword_only_parameters(part)}
    )
    set_dropout(encoder, 0.0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += torch.where(parameter == 0, 0.05 * torch.randn_like(parameter), 0.0)
    return encoder.double().train()


def make_parts(name, count=5):
    """A processor, an encoder, and items from the smallest to the largest."""
    processor, values = make_processor(name)
    items = sorted(map(processor, values), key=lambda item: sum(tensor.numel() for tensor in item.values()))
    chosen = [items[place] for place in np.linspace(0, len(items) - 1, count).round().astype(int)]
    return processor, make_encoder(name, processor), chosen


def joined(processor, items):
    """Collated tensors in float64, the dtype of the encoder."""
    tensors = processor.collate(items)
    return {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def same(first, second):
    return first.keys() == second.keys() and all(tensor.equal(second[key]) for key, tensor in first.items())
