"""Images of one to n channels: depth, thermal and multispectral pictures keep every bit they have."""

import io

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from tiffs import tiff

from align.preprocess import Image
from align.values import BadSample


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


deep = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56) * 29  # 2,240 different values


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "npy", "array", "tensor"])
def test_sixteen_bits_stay_sixteen_bits(kind):
    source = {
        "PNG": lambda: encoded(Pil.fromarray(deep)),
        "TIFF": lambda: encoded(Pil.fromarray(deep), "TIFF"),
        "npy": lambda: npy(deep[..., None]),
        "array": lambda: deep,
        "tensor": lambda: torch.from_numpy(deep)[None],
    }[kind]()
    image = Image(40, channels=1)
    x = image.decode(source)
    assert x.dtype == torch.uint16
    assert np.array_equal(x.numpy()[0], deep)
    row = image.eval(x)
    assert np.array_equal(row.numpy()[0], deep[:, 8:48])  # scaled by nothing, cut in the middle
    out = image.device(image.collate([row]))
    assert out.dtype == torch.float32
    expected = (deep[3, 20] / 65535 - 0.5) / 0.5
    assert out[0, 0, 3, 12].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("backend", ["torch", "pil"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_any_number_of_channels(bits, backend):
    bands = np.random.default_rng(0).integers(0, 65536, (30, 44, 7)).astype(np.uint16)
    image = Image((20, 24), channels=7, bits=bits, backend=backend, mean=(0.2,) * 7, std=(0.3,) * 7)
    a, b, c = (image.row(source) for source in (npy(bands), npy(bands.transpose(2, 0, 1)), bands))
    assert a.shape == (7, 20, 24)
    assert torch.equal(a, b)
    assert torch.equal(a, c)
    out = image.device(image.collate([a]))
    alone = Image((20, 24), channels=1, bits=bits, backend=backend, mean=(0.2,), std=(0.3,))
    for band in range(7):  # a channel knows nothing of the others
        one = alone.device(alone.collate([alone.row(bands[..., band])]))
        assert torch.equal(out[0, band], one[0, 0])
    train = image.train(image.decode(bands), torch.Generator().manual_seed(0))
    assert (train.shape, train.dtype) == (a.shape, a.dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_no_rows_have_the_shape_and_the_type(channels, bits):
    image = Image((6, 4), channels=channels, bits=bits, mean=(0.5,) * channels, std=(0.5,) * channels)
    values = image.collate([])
    assert values.shape == (0, channels, 6, 4)
    assert values.dtype == {8: torch.uint8, 16: torch.uint16, 32: torch.float32}[bits]
    assert image.device(values).shape == (0, channels, 6, 4)


def test_levels_are_black_and_white():
    source = np.array([[100, 1100, 2100, 3000]], np.uint16)
    for kind in (source, npy(source), encoded(Pil.fromarray(source))):
        assert Image(1, channels=1, levels=(100, 2100)).decode(kind)[0, 0].tolist() == [0, 32768, 65535, 65535]
        assert Image(1, channels=1, levels=(100, 2100), bits=32).decode(kind)[0, 0].tolist() == [0, 0.5, 1, 1]
    metres = np.array([[0, 2.5, 10]], np.float32)
    assert Image(1, channels=1, levels=(0, 10), bits=32).decode(metres)[0, 0].tolist() == [0, 0.25, 1]
    signed = np.array([[-32768, 0, 32767]], np.int16)
    assert Image(1, channels=1).decode(npy(signed))[0, 0].tolist() == [0, 32768, 65535]


def test_sixteen_bits_of_colour(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    path = tmp_path / "deep.tif"
    path.write_bytes(tiff(values))
    assert np.array_equal(Image(5, bits=16).decode(path).permute(1, 2, 0).numpy(), values)


def test_colours_become_grey_and_grey_becomes_colour():
    colour = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    grey = np.array(Pil.fromarray(colour).convert("L"))
    assert np.array_equal(Image(7, channels=1, bits=8).decode(encoded(Pil.fromarray(colour)))[0].numpy(), grey)
    assert (Image(7, channels=1, bits=8).decode(colour)[0].int() - torch.from_numpy(grey).int()).abs().max() <= 1
    four = Image(7, channels=4, bits=8, mean=(0.5,) * 4, std=(0.5,) * 4)
    assert np.array_equal(four.decode(encoded(Pil.fromarray(colour)))[:3].permute(1, 2, 0).numpy(), colour)
    assert (four.decode(encoded(Pil.fromarray(colour)))[3] == 255).all()
    assert Image(7, bits=16).decode(encoded(Pil.fromarray(grey))).shape == (3, 9, 7)


def test_upright_in_any_number_of_bits():
    for tag in range(1, 9):
        exif = Pil.Exif()
        exif[0x0112] = tag
        data = encoded(Pil.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)), exif=exif)
        assert torch.equal(Image(4, channels=3, bits=16).decode(data), Image(4).decode(data).to(torch.uint16) * 257)


@pytest.mark.parametrize("backend", ["torch", "pil"])
def test_pad_fills_with_a_colour(backend):
    white = Pil.new("RGB", (40, 20), "white")
    row = Image(20, resize="pad", fill=(10.0, 20.0, 30.0), backend=backend).row(encoded(white))
    assert row[:, 0, 0].tolist() == [10, 20, 30]
    assert row[:, -1, -1].tolist() == [10, 20, 30]
    assert (row[:, 5:15] == 255).all()
    deep = Image(20, resize="pad", fill=255, channels=1, backend=backend).row(np.zeros((10, 20), np.uint16))
    assert deep[0, 0, 0] == 65535
    assert deep[0, 10, 0] == 0


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 6), np.uint8), r"image/shape: an array of shape \(4, 4, 6\); expected \(H, W, 5\)"),
        (np.full((4, 4, 5), 2.0), "image/range"),
        (np.full((4, 4, 5), np.nan), "image/range"),
        (np.zeros((4, 4, 5), np.int64), "image/dtype: values of int64 have no black and white: give levels"),
        (np.zeros((0, 4, 5), np.uint8), "image/empty"),
    ],
)
def test_arrays_that_are_no_picture(array, reason):
    image = Image(4, channels=5)
    for source in (array, npy(array)):
        with pytest.raises(BadSample, match=reason):
            image.decode(source)


def test_a_file_has_no_five_channels():
    with pytest.raises(BadSample, match=r"image/shape: a picture of mode RGB; 5 channels come from a \.npy"):
        Image(4, channels=5).decode(encoded(Pil.new("RGB", (4, 4))))
    with pytest.raises(BadSample, match="image/truncated"):
        Image(4, channels=5).decode(npy(np.zeros((9, 9, 5)))[:-7])


def test_members_in_npy_are_of_pictures_that_no_file_has():
    assert "npy" not in Image().suffixes
    assert "npy" in Image(channels=5).suffixes
    assert "npy" in Image(bits=16).suffixes


def test_hidden_colours_of_arrays():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4)).astype(np.uint8)
    image = Image(7, alpha="drop")
    for source in (pixels, torch.from_numpy(pixels).permute(2, 0, 1), encoded(Pil.fromarray(pixels))):
        assert np.array_equal(image.decode(source).permute(1, 2, 0).numpy(), pixels[..., :3])
    with pytest.raises(BadSample, match="image/not-an-image"):
        image.decode(npy(pixels))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_in_memory_has_the_limit_of_a_file(channels):
    with pytest.raises(BadSample, match="image/too-large: 30 x 20 pixels, at most 599"):
        Image(8, channels=channels, max_pixels=599).decode(Pil.new("RGB", (30, 20)))
    assert Image(8, channels=channels, max_pixels=600).decode(Pil.new("RGB", (30, 20))).shape == (channels, 20, 30)
