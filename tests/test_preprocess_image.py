"""Image: every odd picture becomes RGB rows or a named reason; training draws from its generator only."""

from __future__ import annotations

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from align.preprocess import Image
from align.values import BadSample


def picture(height: int = 60, width: int = 80) -> Pil.Image:
    """Smooth, in colour, and different in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    return Pil.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + y) % 97], -1).astype(np.uint8))


def encoded(image: Pil.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """A PNG whose header says width x height and whose data is zeros, compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6)))


KINDS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]


@pytest.mark.parametrize("kind", KINDS)
def test_formats(kind):
    x = Image().decode(encoded(picture(), kind))
    assert x.shape == (3, 60, 80)
    assert x.dtype == torch.uint8
    if kind in ("PNG", "BMP", "TIFF"):
        assert torch.equal(x, torch.from_numpy(np.array(picture())).permute(2, 0, 1))


@pytest.mark.parametrize("length", [1, 5, 12, 20, 31, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_any_start_of_a_file_is_a_bad_sample(kind, length):
    with pytest.raises(BadSample, match=r"image/(truncated|not-an-image|corrupt)"):
        Image().decode(encoded(picture(200, 200), kind)[:length])


def test_damage_inside_is_a_bad_sample_or_a_picture():
    rng = np.random.default_rng(0)
    for kind in KINDS:
        data = encoded(picture(), kind)
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), 5):
                broken[at] = rng.integers(256)
            try:
                assert Image().decode(bytes(broken)).shape[0] == 3
            except BadSample as error:
                assert error.reason.startswith("image/")  # noqa: PT017  both are right


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image/empty"),
        (b"<html><body>404</body></html>", "image/not-an-image"),
        (encoded(picture(), "PPM"), "image/format"),  # readable, but not a format that is let in
        (png(30_000, 30_000), "image/too-large"),
        (png(8_000, 8_000), "image/too-large"),
        (encoded(Pil.new("RGB", (16383, 16383)), "WEBP", lossless=True, method=0), "image/too-large"),
        (np.full((4, 4), 7, np.float32), "image/range"),
        (np.full((4, 4), np.nan, np.float32), "image/range"),
        (np.zeros((4, 4), np.int64), "image/dtype"),
        (np.zeros((4, 4, 2), np.uint8), "image/shape"),
        (np.zeros((0, 4, 3), np.uint8), "image/empty"),
        (torch.zeros(5, 4, 4, dtype=torch.uint8), "image/shape"),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(BadSample) as caught:
        Image().decode(data)
    assert caught.value.reason == reason


def test_max_pixels_is_read_from_the_header():
    assert Image(max_pixels=60 * 80).decode(encoded(picture())).shape == (3, 60, 80)
    with pytest.raises(BadSample, match="80 x 60 pixels, at most 4799"):
        Image(max_pixels=60 * 80 - 1).decode(encoded(picture()))
    for options in ({"lossless": True}, {"lossless": False}, {"lossless": True, "exif": Pil.Exif()}):
        with pytest.raises(BadSample, match="80 x 60 pixels"):
            Image(max_pixels=100).decode(encoded(picture(), "WEBP", **options))


def test_paths(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    (tmp_path / "b.png").write_bytes(b"nothing")
    assert torch.equal(Image().decode(str(tmp_path / "a.png")), Image().decode(picture()))
    with pytest.raises(BadSample, match=r"image/not-an-image: .*b\.png"):
        Image().decode(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*c\.png"):
        Image().decode(tmp_path / "c.png")
    with pytest.raises(IsADirectoryError, match="a folder"):
        Image().decode(tmp_path)
    with pytest.raises(TypeError, match="not list"):
        Image().decode([1, 2])


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGBa", "CMYK", "YCbCr", "I", "F", "HSV", "RGBX"])
def test_modes_of_pil(mode):
    source = picture().convert("RGBA").convert(mode) if mode == "RGBa" else picture().convert(mode)
    x = Image().decode(source)
    assert x.shape == (3, 60, 80)
    assert x.dtype == torch.uint8


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBA", "P"])
def test_colour_survives_the_mode(mode):
    red = Pil.new("RGB", (8, 8), (255, 0, 0)).convert(mode)
    assert (Image().decode(red)[:, 0, 0].int() - torch.tensor([255, 0, 0])).abs().max() <= 2


def test_sixteen_bits_keep_their_upper_eight():
    deep = np.array([[0, 256, 65535]], np.uint16)
    assert Image().decode(encoded(Pil.fromarray(deep)))[0].tolist() == [[0, 1, 255]]
    assert Image().decode(deep)[0].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_shows_white(mode):
    if mode == "P":
        image = Pil.new("P", (4, 4), 0)
        image.putpalette([0, 0, 0, 255, 0, 0])
        data = encoded(image, transparency=0)
    else:
        data = encoded(Pil.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode))
    assert (Image().decode(data) == 255).all()
    assert (Image().decode(np.zeros((4, 4, 4), np.uint8)) == 255).all()


def test_the_photographer_held_the_camera_upright():
    upright = picture()
    inverse = {
        1: None,
        2: Pil.Transpose.FLIP_LEFT_RIGHT,
        3: Pil.Transpose.ROTATE_180,
        4: Pil.Transpose.FLIP_TOP_BOTTOM,
        5: Pil.Transpose.TRANSPOSE,
        6: Pil.Transpose.ROTATE_90,
        7: Pil.Transpose.TRANSVERSE,
        8: Pil.Transpose.ROTATE_270,
    }
    for tag, turned in inverse.items():
        exif = Pil.Exif()
        exif[0x0112] = tag
        stored = upright if turned is None else upright.transpose(turned)
        assert torch.equal(Image().decode(encoded(stored, exif=exif)), Image().decode(upright)), tag
    damaged = encoded(upright, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with pytest.warns(UserWarning, match="EXIF"):  # PIL's
        assert Image().decode(damaged).shape == (3, 60, 80)


def test_arrays_tensors_and_files_agree():
    array = np.array(picture())
    expected = Image().decode(encoded(picture()))
    assert torch.equal(Image().decode(array), expected)
    assert torch.equal(Image().decode(torch.from_numpy(array).permute(2, 0, 1)), expected)
    assert Image().decode(array[..., 0]).shape == (3, 60, 80)
    assert Image().decode(array[..., :1] > 9).unique().tolist() == [0, 255]


def test_decode_copies():
    array = np.zeros((4, 4, 3), np.uint8)
    Image().decode(array).fill_(7)
    assert array.sum() == 0


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (24, 24), (7, 300), (3, 5)])
def test_eval_is_resize_and_centre_crop_as_pil_has_them(shape):
    source, size = picture(*shape), 24
    scale = size / min(shape)
    H, W = (max(size, int(side * scale)) for side in shape)
    if max(shape) > 8 * min(shape):
        return  # a strip is cut before it is scaled: only its shape is promised
    left, top = round((W - size) / 2), round((H - size) / 2)
    expected = source.resize((W, H), Pil.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    out = Image(size).eval(Image(size).decode(source)).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(out - np.asarray(expected).astype(int)).max() <= 2  # both round in 8 bits


def test_squash_sees_all_of_the_picture():
    wide = Pil.new("RGB", (90, 30))
    wide.paste((255, 255, 255), (60, 0, 90, 30))  # the last third
    x = Image().decode(wide)
    assert Image(30, resize="squash").eval(x)[0, 15].float().mean() == pytest.approx(255 / 3, abs=6)
    assert Image(30).eval(x)[0, 15].float().mean() == pytest.approx(0, abs=6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300_000), (300_000, 1), (2, 3)])
def test_extreme_shapes(shape):
    image = Image(16)
    x = image.decode(np.full((*shape, 3), 200, np.uint8))
    for row in (image.eval(x), image.train(x, torch.Generator().manual_seed(0))):
        assert row.shape == (3, 16, 16)
        assert (row == 200).all()


def test_eval_is_deterministic_and_train_follows_its_generator():
    image = Image(24, crop_scale=(0.2, 0.9), flip=True)
    x = image.decode(picture())
    assert torch.equal(image.eval(x), image.eval(x))
    torch.manual_seed(1)
    first = [image.train(x, torch.Generator().manual_seed(seed)) for seed in range(8)]
    before = torch.get_rng_state()
    torch.manual_seed(2)
    again = [image.train(x, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({row.numpy().tobytes() for row in first}) == 8
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_mirror_by_default():
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 255
    image, mirror = Image(32, crop_scale=(1, 1)), Image(32, crop_scale=(1, 1), flip=True)
    x = image.decode(half)
    seen = [bool(mirror.train(x, torch.Generator().manual_seed(s))[0, 0, 0] > 0) for s in range(40)]
    assert 8 < sum(seen) < 32
    assert all(torch.equal(image.train(x, torch.Generator().manual_seed(s)), image.eval(x)) for s in range(4))


def test_crops_keep_the_stated_share_and_stay_inside():
    from align.preprocess.image_resize import random_box

    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        top, left, height, width = random_box(50, 70, (0.3, 0.6), (3 / 4, 4 / 3), generator)
        assert top >= 0
        assert left >= 0
        assert top + height <= 50
        assert left + width <= 70
        assert 0.27 < height * width / 3500 < 0.63
        assert 0.7 < width / height < 1.42


def test_collate_and_device():
    image = Image(20, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    rows = [image.eval(image.decode(picture(30 + i, 40))) for i in range(3)]
    values = image.collate(rows)
    assert values.shape == (3, 3, 20, 20)
    assert values.dtype == torch.uint8
    out = image.device(values)
    assert out.dtype == torch.float32
    expected = (values[1, 2, 5, 7].item() / 255 - 0.3) / 2.0
    assert out[1, 2, 5, 7].item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(image.device(values[1:2])[0], out[1])  # alone as in company
    with pytest.raises(ValueError, match="row 0 has shape"):
        image.collate([torch.zeros(3, 4, 4, dtype=torch.uint8)])


def test_nothing_is_a_batch_too():
    values = Image(20).collate([])
    assert values.shape == (0, 3, 20, 20)
    assert values.dtype == torch.uint8
    assert Image(20).device(values).shape == (0, 3, 20, 20)


@pytest.mark.parametrize(
    ("preset", "white"),
    [
        ("clip", (1.93033624, 2.07488384, 2.14589704)),  # (1 - 0.48145466) / 0.26862954, ...
        ("imagenet", (2.2489083, 2.4285714, 2.64)),  # (1 - 0.485) / 0.229, ...
        ("half", (1.0, 1.0, 1.0)),
    ],
)
def test_presets(preset, white):
    out = Image(2, mean=preset).device(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert torch.allclose(out[0, :, 0, 0], torch.tensor(white), atol=1e-5)


def test_a_pickle_leaves_the_constants_behind():
    image = Image(20, flip=True)
    image.device(image.collate([]))
    copy = pickle.loads(pickle.dumps(image))
    assert "_constants" not in vars(copy)
    assert repr(copy) == repr(image)
    assert torch.equal(copy.device(copy.collate([])), image.device(image.collate([])))


def test_constants_made_in_inference_serve_training():
    image = Image(4)
    with torch.inference_mode():
        image.device(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    weight = torch.ones(1, requires_grad=True)
    (image.device(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0 is too small"),
        ({"mean": "CLIP"}, "mean='CLIP' is not known; it may be 'clip'"),
        ({"mean": (0.5, 0.5), "std": "half"}, "must be three numbers"),
        ({"mean": (0.5, 0.5, 0.5)}, "give std"),
        ({"std": (1, 0, 1)}, "three positive numbers"),
        ({"crop_scale": (0.5, 1.5)}, "at most 1"),
        ({"crop_scale": (0.5, 0.4)}, "low <= high"),
        ({"resize": "fit"}, "'crop', 'squash'"),
    ],
)
def test_arguments_are_refused_at_the_door(arguments, message):
    with pytest.raises(ValueError, match=message):
        Image(**arguments)
