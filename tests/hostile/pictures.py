"""Pictures: bombs of every format, headers that lie, and polyglots."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from hostile.request import EITHER, Hostile, file

SIDE = 50_000  # pixels


def png(
    width: int, height: int, rows: bytes = b"", *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2
) -> bytes:
    """Return a PNG whose header states a size. Its rows are whatever is given."""
    whole = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        *chunks,
        (b"IDAT", rows),
        (b"IEND", b""),
    ]
    made = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in whole
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def small(kind: str, size: tuple[int, int] = (8, 8), **settings) -> bytes:
    """Return a good picture."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, (200, 10, 10)).save(out, kind, **settings)
    return out.getvalue()


def patch(data: bytes, at: int, number: bytes) -> bytes:
    """Return bytes with others in their place."""
    return data[:at] + number + data[at + len(number) :]


def jpeg_bomb() -> bytes:
    """Return a JPEG whose frame states 65,500 × 65,500 pixels."""
    data = small("JPEG")
    return patch(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", 65_500, 65_500))


def gif_bomb(frames: int) -> bytes:
    """Return an animation of frames of 60,000 × 60,000 pixels."""
    head = b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\x00"
    return head + frame * frames + b";"


def webp_bomb() -> bytes:
    """Return a lossless WebP that states 16,384 × 16,384 pixels."""
    bits = 16_383 | 16_383 << 14
    body = b"WEBPVP8L" + struct.pack("<IB", 5, 0x2F) + struct.pack("<I", bits) + b"\0" * 2
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_bomb(width: int, height: int, bits: int = 24, compression: int = 0) -> bytes:
    """Return a BMP that states a size."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info + bytes(100)


def tiff_bomb(tags: dict[int, tuple[int, int, int]], more: bytes = b"") -> bytes:
    """Return a TIFF of one page with such tags: number -> (type, count, value)."""
    rows = b"".join(struct.pack("<HHII", tag, *one) for tag, one in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + rows + bytes(4) + more


def tiff_tags(width: int, height: int, compression: int = 1) -> dict[int, tuple[int, int, int]]:
    """Return the tags of a grey page."""
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, compression),
        262: (3, 1, 1),
        273: (4, 1, 200),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, 64),
    }


def avif_bomb() -> bytes:
    """Return an AVIF whose size box states 2 ** 31 pixels a side."""
    data = small("AVIF")
    return patch(data, data.index(b"ispe") + 8, struct.pack(">II", 2**31 - 1, 2**31 - 1))


def zip_of(**members: bytes) -> bytes:
    """Return a ZIP file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def bombs() -> list[Hostile]:
    """Return pictures that would take all memory or time, and damaged ones."""
    kind, zeros = "pictures", zlib.compress(bytes(1000))
    loop = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)
    profile = (b"iCCP", b"a\0\0" + zlib.compress(bytes(30 << 20)))
    words = (b"zTXt", b"a\0\0" + zlib.compress(bytes(30 << 20)))
    exif = (
        b"eXIf",
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHII", 1, 0x112, 3, 2**31, 0) + struct.pack("<I", 8),
    )
    refused = {
        "PNG of 50,000²": png(SIDE, SIDE, zeros),
        "PNG of 2³¹ × 1": png(2**31 - 1, 1, zeros),
        "PNG of 0 × 0": png(0, 0, zeros),
        "PNG of 16 bits, 8,000²": png(8_000, 8_000, zeros, depth=16, colour=6),
        "PNG whose rows are cut": png(4_000, 4_000, zeros),
        "PNG without rows": png(100, 100),
        "PNG whose rows are no zlib": png(100, 100, b"x" * 100),
        "PNG with a chunk of 2³¹": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(20),
        "APNG of 10^9 frames": png(SIDE, SIDE, zeros, (b"acTL", struct.pack(">II", 10**9, 0))),
        "JPEG of 65,500²": jpeg_bomb(),
        "JPEG without end": b"\xff\xd8" + b"\xff\xe1\xff\xff" + b"a" * 65_533 * 3,
        "JPEG of markers": b"\xff\xd8" + b"\xff" * 200_000,
        "GIF of 60,000²": gif_bomb(1),
        "GIF of 10,000 such frames": gif_bomb(10_000),
        "WebP of 16,384²": webp_bomb(),
        "BMP of 50,000²": bmp_bomb(SIDE, SIDE),
        "BMP of −2³¹ rows": bmp_bomb(1, -(2**31)),
        "BMP of run lengths": bmp_bomb(30_000, 30_000, 8, 1),
        "TIFF of 50,000²": tiff_bomb(tiff_tags(SIDE, SIDE)),
        "TIFF of a strip of 2³¹": tiff_bomb({**tiff_tags(64, 64), 279: (4, 1, 2**31)}),
        "TIFF of 2³¹ values": tiff_bomb({**tiff_tags(64, 64), 258: (3, 2**31, 8)}),
        "TIFF of pages in a ring": loop,
        "TIFF deflated": tiff_bomb(tiff_tags(30_000, 30_000, 8), bytes(100) + zlib.compress(bytes(30 << 20))),
        "TIFF as JPEG": tiff_bomb(tiff_tags(30_000, 30_000, 7), bytes(200)),
        "BigTIFF": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60),
        "AVIF of 2³¹²": avif_bomb(),
        "SVG with an entity": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "SVG that names a file": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "HTML": b"<html><script>alert(1)</script></html>",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n",
        "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n",
        "PDF, then JPEG": b"%PDF-1.4\n" + small("JPEG"),
        "ZIP of a picture": zip_of(**{"a.png": small("PNG")}),
        "ImageMagick's script": b'push graphic-context\nimage over 0,0 0,0 "|id"\npop graphic-context',
        "an icon": b"\0\0\1\0\1\0" + bytes(40),
        "a sheet of fonts": b"\0\1\0\0" + bytes(100),
        "nothing": b"",
        "one byte": b"\x89",
        "NULs": bytes(100_000),
    }
    odd = {
        "PNG of indexes without a palette": png(8, 8, zlib.compress(bytes(72)), colour=3),
        "PNG with a profile of 30 MB": png(8, 8, zlib.compress(bytes(200)), profile),
        "PNG with words of 30 MB": png(8, 8, zlib.compress(bytes(200)), words),
        "PNG with wrong EXIF": png(8, 8, zlib.compress(bytes(200)), exif),
        "PNG of rows of 30 MB": png(8, 8, zlib.compress(bytes(30 << 20))),
        "PNG and ZIP": small("PNG") + zip_of(**{"../../etc/cron.d/a": b"x"}),
        "GIF and script": small("GIF").replace(b"GIF89a", b"GIF89a", 1) + b"/*<script>alert(1)</script>*/",
        "JPEG and PHP": small("JPEG") + b"<?php system('id'); ?>",
        "JPEG with a comment of HTML": small("JPEG", comment=b"<script>alert(1)</script>"),
        "a strip of 60,000 × 1": small("PNG", (60_000, 1)),
        "AVIF cut": small("AVIF")[:-20],
        "WebP cut": small("WEBP")[:-9],
    }
    return [
        *(file(kind, name, "image", data) for name, data in refused.items()),
        *(file(kind, name, "image", data, fits=EITHER) for name, data in odd.items()),
    ]
