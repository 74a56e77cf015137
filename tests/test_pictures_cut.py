"""A picture file that was cut is image/truncated in one wording, wherever it was cut; a whole one is read."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from PIL import Image as Pil
from tiffs import tiff

from align.preprocess import Image
from align.values import BadSample


def noise(height: int = 90, width: int = 120) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 200 // width, y * 200 // height, (x + y) % 97], -1)
    return (smooth + np.random.default_rng(0).integers(0, 50, smooth.shape)).astype(np.uint8)


def saved(kind: str, *, mode: str = "RGB", pages: int = 1, turned: bool = False, **options) -> bytes:
    image, out, exif = Pil.fromarray(noise()).convert(mode), io.BytesIO(), Pil.Exif()
    exif[0x0112] = 6
    more = [image.rotate(90 * i) for i in range(1, pages)]
    image.save(
        out,
        kind,
        **options,
        **({"save_all": True, "append_images": more} if more else {}),
        **({"exif": exif} if turned else {}),
    )
    return out.getvalue()


deep = noise()[..., 0].astype(np.uint16) * 257


@cache
def files() -> dict[str, bytes]:
    png16 = io.BytesIO()
    Pil.fromarray(deep).save(png16, "PNG")
    return {
        "JPEG": saved("JPEG"),
        "JPEG grey": saved("JPEG", mode="L"),
        "JPEG progressive": saved("JPEG", progressive=True),
        "JPEG CMYK": saved("JPEG", mode="CMYK"),
        "JPEG turned": saved("JPEG", turned=True),
        "PNG": saved("PNG"),
        "PNG palette": saved("PNG", mode="P"),
        "PNG 16 bits": png16.getvalue(),
        "PNG animated": saved("PNG", pages=3),
        "WEBP": saved("WEBP"),
        "WEBP lossless": saved("WEBP", lossless=True),
        "WEBP animated": saved("WEBP", pages=3),
        "GIF": saved("GIF"),
        "GIF animated": saved("GIF", pages=3),
        "BMP": saved("BMP"),
        "BMP palette": saved("BMP", mode="P"),
        "TIFF": saved("TIFF"),
        "TIFF deflate": saved("TIFF", compression="tiff_adobe_deflate"),
        "TIFF lzw": saved("TIFF", compression="tiff_lzw"),
        "TIFF jpeg": saved("TIFF", compression="jpeg"),
        "TIFF packbits": saved("TIFF", compression="packbits"),
        "TIFF pages": saved("TIFF", pages=3),
        "TIFF 16 bits in strips": tiff(deep, rows=8),
        "TIFF in tiles": tiff(noise(), tile=(32, 32), deflate=True),
        "TIFF directory last": tiff(noise(), rows=8, deflate=True, last=True, pages=2),
        "BigTIFF": tiff(deep, big=True),
        "AVIF": saved("AVIF"),
        "AVIF grey": saved("AVIF", mode="L"),
        "AVIF transparent": saved("AVIF", mode="RGBA"),
        "AVIF animated": saved("AVIF", pages=3),
    }


@pytest.mark.parametrize("name", files())
def test_cut_at_six_places_and_at_the_end(name):
    data, kind = files()[name], name.split()[0].removeprefix("Big")
    image = Image()
    assert image.decode(data).shape in ((3, 90, 120), (3, 120, 90))
    end = {"TIFF": 20, "JPEG": 16}.get(kind, 1)  # the last bytes of these two may say nothing about the pixels
    for cut in [*(len(data) * i // 7 for i in range(1, 7)), len(data) - end]:
        with pytest.raises(BadSample) as caught:
            image.decode(data[:cut])
        expected = f"image/truncated: the {kind} file ends before its picture does"
        assert str(caught.value) == expected, (cut, len(data))


def test_what_follows_the_end_of_a_picture_does_no_harm():
    for name, data in files().items():
        if name.startswith("AVIF"):
            continue  # bytes that are no box are damage
        assert Image().decode(data + b"more bytes").shape[0] == 3, name
