"""Formats by content: what is read, what is refused by its name, AVIF before it is decoded."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from PIL import features

from align.data.names import FOREIGN, find_mapped
from align.media.pictures.avif import largest_frame
from align.media.pictures.formats import FORMATS
from align.preprocess import Image
from align.values import BadSample

READ = "JPEG, PNG, WEBP, GIF, BMP, TIFF and AVIF are read"


def ftyp(brand: bytes, *others: bytes) -> bytes:
    body = brand + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(64)


def saved(kind: str, **options) -> bytes:
    out = io.BytesIO()
    Pil.new("RGB", (40, 30), (200, 60, 30)).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (saved("PPM"), "a PPM picture"),
        (b"P5\n4 4\n4095\n" + bytes(32), "a PGM picture"),
        (b"Pf\n4 4\n-1\n" + bytes(64), "a PFM or PAM picture"),
        (saved("JPEG2000"), "a JPEG 2000 picture"),
        (b"\xff\x4f\xff\x51" + bytes(40), "a JPEG 2000 picture"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL picture"),
        (ftyp(b"heic", b"mif1", b"heic"), "an HEIC picture"),
        (ftyp(b"mif1", b"mif1", b"heic"), "an HEIF picture"),
        (ftyp(b"crx ", b"isom"), r"a camera's raw picture \(CR3\)"),
        (ftyp(b"isom", b"mp41"), "an MP4 or QuickTime file"),
        (b"8BPS\0\1" + bytes(40), "a Photoshop document"),
        (b"%PDF-1.7\n", "a PDF document"),
        (saved("ICO"), "a Windows icon"),
        (saved("DDS"), "a DDS texture"),
        (b"\x76\x2f\x31\x01" + bytes(40), "an OpenEXR picture"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<svg width='9'>", "an SVG drawing"),
    ],
)
def test_other_formats_are_one_kind_that_says_what_they_are(data, name):
    with pytest.raises(BadSample, match=f"^image/format: {name}; {READ}: write it as one of these"):
        Image().decode(data)


@pytest.mark.parametrize(
    "data", [b"<html><svg></svg></html>", b"hello", b"BMW", np.zeros(3).tobytes(), b"{}", b"PK\3\4"]
)
def test_what_is_no_picture(data):
    with pytest.raises(BadSample, match=f"^image/(not-an-image: no picture; {READ}|truncated)"):
        Image().decode(data)


def test_a_pillow_without_avif_says_so(monkeypatch):
    """Pillow's wheels have AVIF since 11.3; a build of one's own may not."""
    from PIL import AvifImagePlugin

    assert features.check("avif")
    data = saved("AVIF")
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with (
        pytest.warns(UserWarning, match="AVIF support not installed"),
        pytest.raises(BadSample, match="image/format: AVIF, which this Pillow was built wit"),
    ):
        Image().decode(data)


def test_avif_is_read_upright_and_on_white():
    exif = Pil.Exif()
    exif[0x0112] = 6
    y, x = np.mgrid[0:40, 0:64]
    picture = Pil.fromarray(np.stack([x * 4, y * 6, 0 * x], -1).astype(np.uint8))
    plain, turned, clear = io.BytesIO(), io.BytesIO(), io.BytesIO()
    picture.save(plain, "AVIF", quality=95)
    picture.save(turned, "AVIF", quality=95, exif=exif)
    Pil.new("RGBA", (32, 32), (0, 0, 0, 0)).save(clear, "AVIF")
    found = Image().decode(plain.getvalue())
    assert (found.int() - torch.from_numpy(np.array(picture)).permute(2, 0, 1).int()).abs().float().mean() < 3
    assert torch.equal(Image().decode(turned.getvalue()), found.rot90(-1, (1, 2)))
    assert (Image().decode(clear.getvalue()) == 255).all()


def test_sizes_of_avif_frames():
    rng = np.random.default_rng(0)
    for width, height in ((64, 64), (65, 33), (256, 17), (300, 129), (1, 1)):
        image = Pil.fromarray(rng.integers(0, 255, (height, width, 3)).astype(np.uint8))
        for mode in ("RGB", "RGBA", "L"):
            more = [image.transpose(Pil.Transpose.ROTATE_180).convert(mode)]
            for options in ({}, {"save_all": True, "append_images": more}, {"subsampling": "4:4:4"}):
                out = io.BytesIO()
                image.convert(mode).save(out, "AVIF", **options)
                assert largest_frame(out) == (width, height), (options, mode)
                assert Image().decode(out.getvalue()).shape == (3, height, width)


def test_a_picture_over_the_limit_is_refused_in_every_format():
    for kind in FORMATS:
        data = saved(kind)
        assert Image(max_pixels=1200).decode(data).shape == (3, 30, 40)
        with pytest.raises(BadSample, match="image/too-large: 40 x 30 pixels, at most 1199 are decoded"):
            Image(max_pixels=1199).decode(data)


def test_an_avif_is_refused_by_its_stream_too():
    data = bytearray(saved("AVIF"))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, 8, 8)
    with pytest.raises(BadSample, match="image/too-large: 40 x 30 pixels"):
        Image(max_pixels=1000).decode(bytes(data))


def test_any_damage_to_an_avif_is_a_bad_sample_or_a_picture():
    rng = np.random.default_rng(0)
    for options in ({}, {"save_all": True, "append_images": [Pil.new("RGB", (40, 30))]}):
        data = saved("AVIF", **options)
        for _ in range(150):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), 3):
                broken[at] = rng.integers(256)
            try:
                assert Image(max_pixels=2**16).decode(bytes(broken)).shape[0] == 3
            except BadSample as error:
                assert error.reason.startswith("image/")  # noqa: PT017  both are right


def test_names_that_foreign_shards_give_pictures():
    assert FOREIGN["image"] == ["jpg", "jpeg", "png", "webp", "avif", "tif", "tiff"]
    assert find_mapped("image", FOREIGN, ["tiff", "txt"]) == "tiff"
    assert find_mapped("image", FOREIGN, ["tif", "png"]) == "png"  # of several the first
