"""TIFF: the first page of any that Pillow reads, scaled by its own statement; the header alone refuses a bomb."""

from __future__ import annotations

import io
import struct

import numpy as np
import PIL
import pytest
import torch
from PIL import Image as Pil
from tiffs import tiff

from align.curation import Recode
from align.media import PICTURE
from align.media.pictures.read import decode
from align.media.pictures.tiff import count_pages
from align.preprocess import Image
from align.values import BadSample

VALUES = np.array([[0, 1, 256, 4095, 32768, 65535]] * 5, np.uint16)
LAYOUTS = [
    {},
    {"deflate": True},
    {"rows": 2},
    {"tile": (16, 16)},
    {"last": True, "pages": 3},
    {"pages": 2, "deflate": True, "tile": (16, 32)},
]
IN_PLANES = {"tags": {284: ("H", [2])}}  # of a single sample, as GDAL writes it


def picture(height: int = 40, width: int = 64) -> Pil.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Pil.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + y) % 97], -1).astype(np.uint8))


def encoded(image: Pil.Image, kind: str = "TIFF", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def first_row(data: bytes, levels: tuple[float, float] | None = None) -> list[int]:
    """The grey values of the first row; the other rows are like it."""
    x = Image(levels=levels).decode(data)
    assert (x == x[:1, :1]).all()
    return x[0, 0].tolist()


def stepped(values: np.ndarray, low: float, high: float) -> list[int]:
    """The rule, one value at a time: 256 equal steps; of integers each value has its own width."""
    width = high - low + (values.dtype.kind in "iu")
    return [int(min(255, max(0, (float(v) - low) * 256 / width))) for v in values]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [*LAYOUTS, IN_PLANES, {**IN_PLANES, "tile": (16, 16)}])
def test_greys_of_any_type_are_scaled_by_its_range(layout, order):
    wide = VALUES.astype(np.int64)
    cases = [
        (VALUES, 0, 65535),
        ((wide - 32768).astype(np.int16), -32768, 32767),
        ((wide * 65537 - 2**31).astype(np.int32), -(2**31), 2**31 - 1),
        ((VALUES / 65535).astype(np.float32), 0, 1),
        ((wide // 257).astype(np.uint8), 0, 255),
        ((wide // 257 - 128).astype(np.int8), -128, 127),
    ]
    if order == "<":  # of the other order Pillow knows none
        cases.append(((wide * 65537).astype(np.uint32), 0, 2**32 - 1))
    for array, low, high in cases:
        found = first_row(tiff(array, order=order, **layout))
        assert found == stepped(array[0], low, high), array.dtype
    assert first_row(tiff(VALUES, big=True, **layout)) == stepped(VALUES[0], 0, 65535)


def test_white_is_zero():
    for array in (VALUES, (VALUES / 65535).astype(np.float32), (VALUES >> 8).astype(np.uint8)):
        upright = first_row(tiff(array))
        assert first_row(tiff(array, tags={262: ("H", [0])})) == [255 - v for v in upright]


@pytest.mark.parametrize(
    ("tags", "most"),
    [
        ({280: ("H", [0]), 281: ("H", [4095])}, 4095),
        ({281: ("H", [1023])}, 1023),
        ({340: ("H", [0]), 341: ("H", [4095])}, 4095),
        ({340: ("f", [0]), 341: ("f", [4095]), 281: ("H", [65535])}, 4095),
        ({270: ("s", b'<OME><Pixels SignificantBits="12" SizeC="1"/></OME>\0')}, 4095),
        ({270: ("s", b'a note: SignificantBits="12"\0')}, 65535),
        ({341: ("H", [0])}, 65535),  # white is not black
        ({341: ("d", [float("nan")])}, 65535),
    ],
)
def test_the_files_own_range(tags, most):
    array = np.linspace(0, min(most, 4095), 64).astype(np.uint16)[None].repeat(3, 0)
    assert first_row(tiff(array, tags=tags)) == stepped(array[0], 0, most)
    colours = array[..., None].repeat(3, -1)
    assert first_row(tiff(colours, tags=tags)) == stepped(array[0], 0, most)


def test_a_range_that_the_values_contradict_is_none():
    assert first_row(tiff(VALUES, tags={281: ("H", [255])})) == stepped(VALUES[0], 0, 65535)


def test_twelve_bits_that_are_packed():
    """Two values in three bytes, as TIFF packs them: BitsPerSample is a statement."""
    values = [0, 1, 2048, 4095]
    packed = bytes.fromhex("".join(f"{v:03x}" for v in values))
    data = tiff(np.frombuffer(packed, np.uint8)[None], tags={256: ("I", [4]), 258: ("H", [12])})
    assert first_row(data) == [0, 0, 128, 255]


def test_floats():
    beyond = np.array([[-2.0, 0.5, 3.0, 6.0]] * 2, np.float32)
    assert first_row(tiff(beyond)) == [0, 80, 160, 255]  # nothing is stated: the picture's own range
    assert first_row(tiff(beyond, tags={340: ("f", [-10]), 341: ("f", [10])})) == stepped(beyond[0], -10, 10)
    assert first_row(tiff(beyond), (0, 4)) == [0, 32, 192, 255]
    assert first_row(tiff(np.full((2, 3), 7.0, np.float32))) == [0, 0, 0]
    for wrong in (np.nan, np.inf, -np.inf):
        beyond[1, 2] = wrong
        with pytest.raises(BadSample, match="image/non-finite: 1 of 8 pixels"):
            Image().decode(tiff(beyond))


def test_levels_say_what_is_white():
    assert first_row(tiff(VALUES), (0, 4095)) == stepped(VALUES[0], 0, 4095)
    colours = VALUES[..., None].repeat(3, -1)
    for order in "<>":
        for layout in LAYOUTS:
            assert first_row(tiff(colours, order=order, **layout), (0, 4095)) == stepped(VALUES[0], 0, 4095)
    assert first_row(tiff((VALUES >> 8).astype(np.uint8)), (0, 100)) == [0, 0, 1, 15, 128, 255]  # 8 bits as they are


def from_lab(lightness: float, a: float, b: float) -> list[float]:
    """CIELAB under D50 to sRGB, by the formulas (ICC.1:2010; IEC 61966-2-1 with Bradford's adaptation)."""
    fy = (lightness + 16) / 116
    xyz = [
        w * (f**3 if f > 6 / 29 else 3 * (6 / 29) ** 2 * (f - 4 / 29))
        for w, f in ((0.9642, fy + a / 500), (1.0, fy), (0.8249, fy - b / 200))
    ]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = [sum(m * v for m, v in zip(row, xyz, strict=True)) for row in matrix]
    return [255 * (1.055 * v ** (1 / 2.4) - 0.055 if v > 0.0031308 else 12.92 * v) for v in linear]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "LA", "LAB"])
@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "tiff_lzw", "packbits"])
def test_modes(mode, compression):
    if mode == "YCbCr" and compression is None and PIL.__version__ < "13":
        pytest.skip("Pillow 12 does not read back the uncompressed YCbCr that it writes")
    red = Pil.new("RGB", (32, 16), (200, 60, 30))
    if mode == "LAB":
        source = Pil.new("LAB", (32, 16), (136, 179, 179))  # a and b are 51, stored with 128 on top
        expected = from_lab(136 / 255 * 100, 51, 51)
    else:
        source = red.convert(mode)
        expected = np.asarray(source.convert("RGB"))[0, 0].tolist()
    x = Image().decode(encoded(source, compression=compression))
    assert x.shape == (3, 16, 32)
    assert (x[:, 0, 0].int() - torch.tensor(expected)).abs().max() <= 3, (x[:, 0, 0], expected)


def test_transparent_shows_white():
    for mode in ("RGBA", "LA"):
        clear = Pil.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
        assert (Image().decode(encoded(clear)) == 255).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_the_first_page_upright(compression):
    upright = picture()
    inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for tag, turn in inverse.items():
        stored = upright if turn is None else upright.transpose(Pil.Transpose(turn))
        for mode in ("RGB", "L", "RGBA", "I;16"):
            if mode == "I;16":
                source, held = Pil.fromarray(np.asarray(upright)[..., 0].astype(np.uint16) * 257), None
                held = source if turn is None else source.transpose(Pil.Transpose(turn))
            else:
                source, held = upright.convert(mode), stored.convert(mode)
            pages = {"save_all": True, "append_images": [Pil.new(held.mode, (9, 9))]}
            data = encoded(held, tiffinfo={274: tag}, compression=compression, **pages)
            x = Image().decode(data)
            assert torch.equal(x, Image().decode(encoded(source, "PNG"))), (tag, mode)
            assert torch.equal(x, Image().decode(Pil.open(io.BytesIO(data))))
            assert count_pages(io.BytesIO(data)) == 2


def test_an_open_pil_image_agrees_with_its_file():
    for array in (VALUES, VALUES.astype(np.int16), (VALUES / 7).astype(np.float32)):
        for order in "<>":
            data = tiff(array, order=order, deflate=True, tags={281: ("I", [65535])})
            assert torch.equal(Image().decode(Pil.open(io.BytesIO(data))), Image().decode(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(VALUES / 65535), "1 x 64-bit float"),
        (tiff((VALUES / 65535).astype(np.float16)), "1 x 16-bit float"),
        (tiff(VALUES.astype(np.uint32), order=">"), "1 x 32-bit unsigned"),
        (tiff(np.zeros((4, 4, 7), np.uint16)), "7 x 16-bit unsigned"),
        (tiff(np.zeros((4, 4, 3), np.uint16), planes=True), "in planes"),
        (tiff(np.zeros((4, 4, 5), np.uint16), planes=True, deflate=True, tags={262: ("H", [1])}), "5 x .*in planes"),
        (tiff(np.zeros((4, 4, 2), np.uint8), planes=True, deflate=True, tags={262: ("H", [1])}), "2 x .*in planes"),
        (tiff(VALUES, tags={259: ("H", [34887])}), "compressed as LERC"),
        (tiff(VALUES, order=">", big=True), "a BigTIFF of big-endian"),
        (tiff(VALUES, tags={254: ("I", [1])}), "a camera's raw picture"),
        (tiff(VALUES, tags={50706: ("I", [1])}), "a camera's raw picture"),
    ],
)
def test_what_is_not_read_says_what_it_is(data, message):
    with pytest.raises(BadSample, match=f"image/format: .*{message}"):
        Image().decode(data)


def test_counts_of_the_header_hold():
    whole = np.arange(60, dtype=np.uint8).reshape(10, 6)
    for layout in ({"rows": 2}, {"tile": (16, 16)}):
        data = tiff(whole, **layout)
        where = 273 if "rows" in layout else 324
        short = tiff(whole, tags={where: ("I", [200]), where + 1: ("I", [12])} if where == 324 else None, **layout)
        assert Image().decode(data).shape == (3, 10, 6)
        del short
    one_strip_of_five = tiff(whole, tags={278: ("I", [2])})
    with pytest.raises(BadSample, match="image/truncated: the TIFF file ends before its picture does"):
        Image().decode(one_strip_of_five)
    sparse = tiff(np.full((40, 40), 7, np.uint8), tile=(16, 16), tags={324: ("I", [500, *[0] * 8])})
    with pytest.raises(BadSample, match="image/corrupt: a sparse TIFF: 8 of its 9 pieces were left out"):
        Image().decode(sparse)
    second_page_gone = tiff(whole, pages=2)[:-20]
    with pytest.raises(BadSample, match="image/truncated"):
        Image().decode(second_page_gone)


def entries(n: int, length: int) -> bytes:
    """A directory of n tags that all say the same bytes of the file."""
    body = b"".join(struct.pack("<HHII", 1000 + i, 7, length, 8) for i in range(n))
    return b"II\x2a\x00\x08\0\0\0" + struct.pack("<H", n) + body + bytes(4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(np.zeros((1, 1), np.uint8), tags={256: ("I", [2**31]), 257: ("I", [2**31])}), "image/too-large"),
        (tiff(np.zeros((1, 1), np.uint8), tags={256: ("I", [6000]), 257: ("I", [6000])}), "image/too-large"),
        (tiff(VALUES, tile=(16, 16), tags={322: ("I", [65520]), 323: ("I", [65520])}), "image/too-large"),
        (tiff(VALUES, tags={256: ("I", [0])}), "image/corrupt"),
        (tiff(VALUES, tile=(16, 16), tags={322: ("I", [0])}), "image/corrupt"),
        (tiff(VALUES, tags={258: ("H", [2000])}), "image/corrupt"),
        (tiff(VALUES, tags={258: ("f", [np.inf])}), "image/corrupt"),
        (tiff(VALUES, tags={284: ("f", [np.inf])}), "image/corrupt"),
        (tiff(VALUES, tags={339: ("f", [np.inf])}), "image/corrupt"),
        (entries(4000, 40_000), "image/corrupt"),
        (entries(60_000, 700_000), "image/corrupt"),
    ],
)
def test_bombs_are_refused_by_the_header(data, reason):
    with pytest.raises(BadSample) as caught:
        Image().decode(data)
    assert caught.value.reason == reason
    stored = PICTURE.recode(data, "tif", "image", Recode())  # asked of every picture of a build
    assert (stored.data, list(stored.notes)) == (data, [])


def test_directories_in_a_ring_end():
    data = bytearray(tiff(VALUES))
    n = struct.unpack_from("<H", data, 8)[0]
    struct.pack_into("<I", data, 10 + 12 * n, 8)
    assert count_pages(io.BytesIO(data)) == 1
    assert Image().decode(bytes(data)).shape == (3, 5, 6)


def test_any_damage_is_a_bad_sample_or_a_picture():
    rng = np.random.default_rng(0)
    sources = [
        tiff(VALUES),
        tiff(VALUES, order=">", big=False, deflate=True, last=True, pages=2),
        tiff(VALUES, big=True),
    ]
    for data in sources:
        for _ in range(150):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 200), 3):
                broken[at] = rng.integers(256)
            try:
                assert decode(bytes(broken), 2**20).pixels.shape[2] == 3
            except BadSample as error:
                assert error.reason.startswith("image/")  # noqa: PT017  both are right
