"""Image beside the libraries' own processors: equal to the bit, pixel for pixel and number for number."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from align.checkpoint.describe import build, describe
from align.preprocess import Image
from align.preprocess.image_presets import PRESETS

shapes = {"portrait": (97, 53), "landscape": (134, 211), "square": (64, 64), "row": (1, 37), "strip": (2, 300)}


def draw(height, width, channels=3, seed=0):
    """A picture with edges, slopes and noise."""
    rng = np.random.default_rng(seed + height * width)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (5 + 3 * c) + c) * np.cos(y / (4 + c)) for c in range(channels)]
    pixels = np.stack(waves, axis=-1) + rng.normal(0, 20, (height, width, channels))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = 250
    return pixels.clip(0, 255).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def pictures():
    """Name -> bytes of a file."""
    found = {name: encoded(Pil.fromarray(draw(*shape))) for name, shape in shapes.items()}
    found["grey"] = encoded(Pil.fromarray(draw(75, 90)[..., 0]))
    found["alpha"] = encoded(Pil.fromarray(draw(80, 61, 4)))
    found["grey and alpha"] = encoded(grey_and_alpha(draw(61, 80)))
    found["jpeg"] = encoded(Pil.fromarray(draw(333, 250)), "JPEG", quality=85)
    photographs = Path(os.environ.get("ALIGN_DATA", "data")) / "cifar10" / "test"
    for path in sorted(photographs.glob("*/*"))[:600:200]:
        found[path.name] = path.read_bytes()
    return found


def grey_and_alpha(pixels):
    image = Pil.fromarray(pixels[..., 0]).convert("LA")
    image.putalpha(Pil.fromarray(pixels[..., 1]))
    return image


def ours(preprocess, data):
    return preprocess.device(preprocess.collate([preprocess.row(data)]))[0]


def check(preprocess, theirs, pictures, tolerance=0.0):
    """Each picture's row is the library's. A saved and loaded preprocess gives the same."""
    again = build(json.loads(json.dumps(describe(preprocess))))
    for name, data in pictures.items():
        image = Pil.open(io.BytesIO(data))
        expected, row = theirs(image), ours(preprocess, data)
        assert row.shape == expected.shape, name
        assert (row - expected).abs().max() <= tolerance, name
        assert torch.equal(ours(again, data), row)


@pytest.mark.parametrize("size", [32, 71])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_openai_clip_is_open_clips(pictures, size, mode, interpolation):
    from open_clip import image_transform

    theirs = image_transform(size, False, resize_mode=mode, interpolation=interpolation)
    resize = {"shortest": "crop", "squash": "squash", "longest": "pad"}[mode]
    if mode == "longest":  # open_clip cannot scale a strip: its short side would have no pixel
        pictures = {name: data for name, data in pictures.items() if name not in ("row", "strip")}
    check(Image(size, preset="openai-clip", resize=resize, interpolation=interpolation), theirs, pictures)


def test_a_border_has_open_clips_colour(pictures):
    from open_clip import image_transform

    pictures = {name: pictures[name] for name in ("portrait", "landscape", "grey", "jpeg")}
    theirs = image_transform(48, False, resize_mode="longest", fill_color=114)
    check(Image(48, preset="openai-clip", resize="pad", fill=114), theirs, pictures)


def test_openai_clip_that_is_not_square(pictures):
    from open_clip import image_transform

    check(Image((48, 30), preset="openai-clip"), image_transform((48, 30), False), pictures)


def test_pe_core_is_open_clips(pictures):
    from open_clip import get_pretrained_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    config = merge_preprocess_dict(PreprocessCfg(size=56), get_pretrained_cfg("PE-Core-B-16", "meta"))
    assert (config["resize_mode"], config["interpolation"]) == ("squash", "bilinear")
    check(Image(56, preset="pe-core"), image_transform_v2(PreprocessCfg(**config), False), pictures)


def huggingface(processor):
    def run(image):
        return processor(images=image, return_tensors="pt")["pixel_values"][0]

    return run


@pytest.mark.parametrize("size", [32, 71])
def test_clip_hf_is_transformers(pictures, size):
    transformers = pytest.importorskip("transformers")
    sides = {"height": size, "width": size}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=sides)
    check(Image(size, preset="clip-hf"), huggingface(processor), pictures)


@pytest.mark.parametrize("size", [32, 71])
def test_siglip_is_transformers(pictures, size):
    transformers = pytest.importorskip("transformers")
    processor = transformers.SiglipImageProcessor(size={"height": size, "width": size})
    check(Image(size, preset="siglip"), huggingface(processor), pictures)
    bilinear = transformers.SiglipImageProcessor(size={"height": size, "width": size}, resample=2)
    check(Image(size, preset="siglip", interpolation="bilinear"), huggingface(bilinear), pictures)


def test_openai_clip_and_clip_hf_are_not_the_same(pictures):
    a, b = (ours(Image(32, preset=name), pictures["jpeg"]) for name in ("openai-clip", "clip-hf"))
    assert (a - b).abs().max() > 0.005


def test_imagenet_is_timms_default(pictures):
    from timm.data import create_transform

    check(Image(32, preset="imagenet"), lambda image: create_transform(32)(image.convert("RGB")), pictures)


def test_imagenet_is_torchvisions(pictures):
    from torchvision.transforms._presets import ImageClassification

    theirs = ImageClassification(crop_size=224)  # resize_size=256, bilinear
    check(Image(224, preset="imagenet"), lambda image: theirs(image.convert("RGB")), pictures)


timm_models = {
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": (0.9, "center", "bicubic"),
    "convnext_atto.d2_in1k": (0.875, "center", "bicubic"),
    "efficientnet_lite0.ra_in1k": (0.875, "center", "bicubic"),
    "vit_small_patch16_dinov3.lvd1689m": (1.0, "center", "bicubic"),
    "cspresnet50.ra_in1k": (0.887, "center", "bilinear"),
    "convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384": (1.0, "squash", "bicubic"),
    "deepseek_vit_412m.deepseek_v4_1_flash": (1.0, "border", "bicubic"),
    "vit_base_patch16_sapiens2.fb": (1.0, "squash", "bilinear"),
}


@pytest.mark.parametrize("name", timm_models)
@pytest.mark.parametrize("size", [None, 60, (44, 70)])
def test_what_a_timm_model_wants_is_timms(pictures, name, size):
    import timm
    from timm.data import create_transform, resolve_data_config

    from align.encoders.timm.pictures import describe_images, read_settings

    if not timm.is_model(name.partition(".")[0]):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    assert (config["crop_pct"], config["crop_mode"], config["interpolation"]) == timm_models[name]
    if size is not None:
        config["input_size"] = (3, size, size) if isinstance(size, int) else (3, *size)
    else:
        pictures = {key: pictures[key] for key in ("portrait", "alpha")}  # large ones cost time
    if config["crop_mode"] == "border":  # timm cannot scale a strip: its short side would have no pixel
        pictures = {key: data for key, data in pictures.items() if key not in ("row", "strip")}
    theirs = create_transform(**config)
    preprocess = build(describe_images(read_settings(name, {}), size, 3))
    check(preprocess, lambda image: theirs(image.convert("RGB")), pictures)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_fills_what_is_left_out(preset):
    mean = "imagenet" if PRESETS[preset].channels == 3 else "half"
    made = Image(32, preset=preset, interpolation="nearest", mean=mean)
    processor = PRESETS[preset]
    assert (made.interpolation, made.mean, made.std, made.channels) == ("nearest", mean, None, processor.channels)
    assert (made.backend, made.resize, made.crop) == (processor.backend, processor.resize, processor.crop)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "openai"}, "preset='openai' is not known; it may be 'openai-clip'"),
        ({"interpolation": "lanczos"}, "PIL's alone"),
        ({"alpha": "keep"}, "backend='pil'"),
        ({"crop": 1.2}, "at most 1"),
        ({"size": (0, 3)}, "size=0 is too small"),
        ({"fill": (1.0, 2.0)}, "one number or 3"),
        ({"channels": 5, "preset": "openai-clip"}, "mean='clip' is of three channels, and channels=5; give 5 numbers"),
        ({"bits": 12}, "8, 16 or 32"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Image(**arguments)
