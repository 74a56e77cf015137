"""More than 8 bits: who says what is black and white, and pictures that use the lowest part of their range alone."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from tiffs import tiff

from align.media import PICTURE
from align.media.pictures.levels import finding, to_bytes
from align.media.pictures.read import decode, is_deep
from align.preprocess import Image
from align.values import BadSample

TWELVE = Path(os.environ.get("ALIGN_DATA", "data")) / "odd" / "twelve_in_16.png"


def png(values: np.ndarray, sbit: bytes = b"") -> bytes:
    """A PNG of 16 bits: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    colour = {1: 0, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"sBIT", sbit) if sbit else b"", chunk(b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def ramp(most: int, side: int = 64) -> np.ndarray:
    """(side, side) uint16 from 0 to ``most``, all kinds of low bits."""
    return np.linspace(0, most, side * side).astype(np.uint16).reshape(side, side)


def reasons(data: bytes, suffix: str = "png") -> list[str]:
    return [reason for reason, _ in PICTURE.examine(data, suffix, "image").faults]


def test_significant_bits_of_a_png_that_was_not_scaled_up():
    values = ramp(4095)
    expected = torch.from_numpy((values >> 4).astype(np.uint8))
    assert torch.equal(Image().decode(png(values, b"\x0c"))[0], expected)
    colours = np.stack([values, values // 2, values // 3], -1)
    found = Image().decode(png(colours, b"\x0c\x0c\x0c"))
    assert torch.equal(found, torch.from_numpy((colours >> 4).astype(np.uint8)).permute(2, 0, 1))
    assert reasons(png(values, b"\x0c")) == []
    clear = np.dstack([colours, np.full_like(values, 65535)])
    assert torch.equal(Image().decode(png(clear, b"\x0c\x0c\x0c\x0c")), found)


def test_significant_bits_of_a_png_as_the_standard_wants_it():
    """12 bits scaled up to 16 by repeating them: the upper eight bits say everything, also of a dark picture."""
    for most in (4095, 255):
        twelve = ramp(most).astype(np.uint32)
        scaled = (twelve << 4 | twelve >> 8).astype(np.uint16)
        found = Image().decode(png(scaled, b"\x0c"))[0]
        assert torch.equal(found, torch.from_numpy((scaled >> 8).astype(np.uint8)))


@pytest.mark.skipif(not TWELVE.exists(), reason="$ALIGN_DATA has no odd/twelve_in_16.png")
def test_the_picture_of_the_report():
    data = TWELVE.read_bytes()
    assert Image().decode(data).max() == 15
    found, _, _, pixels = PICTURE.examine(data, "png", "image")
    assert [reason for reason, _ in found] == ["image/low-range"]
    assert found[0][1] == ("values 0 to 4095 of 0 to 65535; Image(levels=(0, 4095)) says their range")
    assert pixels is None or pixels.max() == 15
    x = Image(levels=(0, 4095)).decode(data)
    assert x.max() == 255
    assert np.array_equal(x[0].numpy(), np.asarray(Pil.open(TWELVE)) >> 4)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (ramp(1023), "image/low-range"),
        (ramp(4095), "image/low-range"),
        (ramp(16383), "image/low-range"),
        (ramp(255), "image/low-range"),
        (ramp(30_000), None),
        (ramp(65535), None),
        (ramp(3), None),  # of nearly one colour: another finding
        (1000 + ramp(9), None),
        (ramp(65535).astype(np.uint32), "image/low-range"),
        (ramp(65535).astype(np.uint32) << 16, None),
        (ramp(4095).astype(np.int16) - 2048, "image/low-range"),
        (ramp(65535).astype(np.int32) - 32768, "image/low-range"),
        ((ramp(65535).astype(np.int32) - 32768).astype(np.int16), None),
        ((ramp(65535) / 65535).astype(np.float32), None),
        ((ramp(4095) / 65535).astype(np.float32), "image/low-range"),
        ((ramp(4095) / 1000).astype(np.float32), "image/own-range"),
        (np.full((64, 64), 7, np.float32), None),
    ],
)
def test_the_lowest_part_of_a_range_is_a_finding(array, reason):
    data = tiff(array)
    found = [r for r in reasons(data, "tiff") if r != "image/flat"]
    assert found == ([reason] if reason else [])
    flat = float(array.max()) - float(array.min()) < 16 and array.dtype.kind in "iu"
    assert ("image/flat" in reasons(data, "tiff")) == (flat or float(array.max()) == 7)


def test_a_finding_names_what_mends_it():
    for array in (ramp(1023), ramp(4000), (ramp(4095) / 65535).astype(np.float32), ramp(65535).astype(np.uint32)):
        used = decode(tiff(array), 2**20).used
        assert used is not None
        said = finding(used)
        assert said is not None
        low, high = map(float, said[1].rpartition("levels=(")[2].partition(")")[0].split(", "))
        x = Image(levels=(low, high)).decode(tiff(array))
        assert x.max() >= 249
        again = decode(tiff(array), 2**20, (low, high)).used
        assert again is not None
        assert finding(again) is None


def test_colours_of_12_bits_in_16_are_named_too():
    colours = np.stack([ramp(4095)] * 3, -1)
    for data, suffix in ((png(colours), "png"), (tiff(colours), "tif"), (tiff(colours, deflate=True), "tif")):
        assert reasons(data, suffix) == ["image/low-range"]
        assert torch.equal(
            Image(levels=(0, 4095)).decode(data)[0], torch.from_numpy((ramp(4095) >> 4).astype(np.uint8))
        )
    assert reasons(png(np.stack([ramp(65535)] * 3, -1))) == []


def test_a_turned_deep_picture_and_a_turned_transparent_one_stand_upright():
    """The EXIF tag used to be lost with a conversion."""
    exif = Pil.Exif()
    exif[0x0112] = 6
    for image in (Pil.fromarray(ramp(65535)[:32]), Pil.fromarray(ramp(65535)[:32]).convert("L").convert("RGBA")):
        plain, turned = io.BytesIO(), io.BytesIO()
        image.save(plain, "PNG")
        image.save(turned, "PNG", exif=exif)
        assert Image().decode(plain.getvalue()).shape == (3, 32, 64)
        assert torch.equal(Image().decode(turned.getvalue()), Image().decode(plain.getvalue()).rot90(-1, (1, 2)))


def test_arrays_and_levels():
    values = ramp(4095)
    assert torch.equal(Image(levels=(0, 4095)).decode(values)[0], torch.from_numpy((values >> 4).astype(np.uint8)))
    floats = torch.rand(3, 8, 8)
    found = Image(levels=(0, 1)).decode(floats)
    assert torch.equal(found, (floats.double() * 256).clamp(0, 255).to(torch.uint8))
    assert torch.equal(Image().decode(floats), found)
    with pytest.raises(BadSample, match=r"image/range: float pixels from .*levels=\(BLACK, WHITE\)"):
        Image().decode(floats * 4095)
    eight = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert torch.equal(Image(levels=(0, 63)).decode(eight), Image().decode(eight))
    for wrong in ((1, 1), (2, 1), (0, float("inf")), (float("nan"), 1), (1,)):
        with pytest.raises(ValueError, match="values of black and white"):
            Image(levels=wrong)


def test_large_pictures_are_scaled_in_parts():
    values = np.random.default_rng(0).integers(0, 5000, (1500, 1500)).astype(np.int32)
    found, used = to_bytes(values, (0, 4999), None, None, None)
    assert np.array_equal(found, (values * 256.0 / 5000).astype(np.uint8))
    assert (used.low, used.high, used.by) == (0, 4999, "dtype")


def test_deep_by_the_header():
    assert is_deep(png(ramp(9)))
    assert is_deep(tiff(ramp(9)))
    assert is_deep(tiff(ramp(9).astype(np.float32), big=True))
    assert not is_deep(tiff(ramp(9).astype(np.uint8)))
    for other in (b"", b"\x89PNG\r\n\x1a\n", b"II\x2a\x00", b"<html>", tiff(ramp(9))[:20]):
        assert not is_deep(other)
