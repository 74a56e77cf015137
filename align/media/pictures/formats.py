"""Picture files by their first bytes: formats that are read, names of formats that are not, and cut files."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from align.media.pictures import avif, tiff
from align.media.pictures.tiff import Cut
from align.media.reading import bad
from align.values import BadSample

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # few: each parser is a risk with damaged files
HEAD = 256  # bytes that are enough to tell the format
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes of the second header, by its version

OTHERS: tuple[tuple[str, str], ...] = (
    (r"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (r"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (r"....ftyp(hei[cxms]|hev[cxms])", "an HEIC picture"),
    (r"....ftyp(mif1|msf1)", "an HEIF picture"),
    (r"....ftypcrx", "a camera's raw picture (CR3)"),
    (r"....ftyp", "an MP4 or QuickTime file"),
    (r"P[14]\s", "a PBM picture"),
    (r"P[25]\s", "a PGM picture"),
    (r"P[36]\s", "a PPM picture"),
    (r"P[Ff7]\s", "a PFM or PAM picture"),
    (r"8BPS", "a Photoshop document"),
    (r"%PDF", "a PDF document"),
    (r"%!PS", "a PostScript document"),
    (r"\x00\x00[\x01\x02]\x00", "a Windows icon"),
    (r"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (r"#\?R", "a Radiance HDR picture"),
    (r"DDS ", "a DDS texture"),
    (r"\xabKTX", "a KTX texture"),
    (r"SIMPLE  =", "a FITS picture"),
    (r".{128}DICM", "a DICOM file"),
    (r"\s*(<\?xml.*|<!--.*|<!DOCTYPE\s+)?<?svg[\s>]", "an SVG drawing"),
)
"""(pattern of the first bytes, name) of pictures and documents that are not read."""
_others = [(re.compile(pattern.encode("latin-1"), re.DOTALL), name) for pattern, name in OTHERS]


def kind_of(head: bytes) -> str | None:
    """Return the one of FORMATS that a file's first bytes name, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(tiff.STARTS):
        return "TIFF"
    if avif.begins(head):
        return "AVIF"
    if head.startswith(b"BM") and (len(head) < 18 or int.from_bytes(head[14:18], "little") in BMP_HEADERS):
        return "BMP"
    return None


def foreign(head: bytes) -> str | None:
    """Return the name of a known picture or document format outside FORMATS, by the first bytes, or None."""
    return next((name for pattern, name in _others if pattern.match(head)), None)


def refusal(head: bytes, source: Any) -> BadSample:
    """Return the reason to refuse a file outside FORMATS.
    image/format is for a picture or document of a known kind, image/not-an-image for anything else."""
    read = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]} are read"
    if (name := foreign(head)) is not None:
        return bad("image/format", source, f"{name}; {read}: write it as one of these, PNG loses nothing")
    return bad("image/not-an-image", source, f"no picture; {read}; it starts with {head[:12]!r}")


def check_whole(kind: str, file: BinaryIO, source: Any) -> None:
    """Compare the counts of a file's header with its bytes. Raises BadSample: image/truncated, corrupt."""
    try:
        _walks[kind](file)
    except (Cut, struct.error, IndexError):
        raise truncation(kind, source) from None
    except ValueError as error:
        raise damage(kind, source, error) from None
    finally:
        file.seek(0)


def truncation(kind: str, source: Any) -> BadSample:
    """Return the reason for a picture that was cut, always in the same words."""
    return bad("image/truncated", source, f"the {kind} file ends before its picture does")


def damage(kind: str, source: Any, error: Exception) -> BadSample:
    """Return the reason for a decoder's error: image/truncated or image/corrupt."""
    detail = " ".join(str(error).split()) or type(error).__name__
    return truncation(kind, source) if "truncated" in detail.lower() else bad("image/corrupt", source, detail)


def _jpeg(file: BinaryIO) -> None:
    """Walk over every segment up to the first scan, then look for the end mark, which no scan holds."""
    file.seek(0)
    data, at = file.read(), 2
    while data[at + 1] != 0xDA:
        if data[at] != 0xFF:
            return  # damaged, not cut: the decoder reports it
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if data.find(b"\xff\xd9", at) < 0:
        raise Cut


def _bmp(file: BinaryIO) -> None:
    """Look for the whole of both headers. The decoder compares the rest."""
    file.seek(0)
    head = file.read(26)
    if len(head) < 26 or file.seek(0, 2) < 14 + int.from_bytes(head[14:18], "little"):
        raise Cut


def _png(file: BinaryIO) -> None:
    """Walk over every chunk up to IEND, unless the file ends with IEND."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 12))
    if file.read() == b"\0\0\0\0IEND\xaeB`\x82":
        return
    at, name = 8, b""
    while name != b"IEND":
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        at += 12 + length
        if at > size:
            raise Cut


def _webp(file: BinaryIO) -> None:
    """Compare the length in the RIFF header with the file's."""
    file.seek(4)
    if int.from_bytes(file.read(4), "little") + 8 > file.seek(0, 2):
        raise Cut


def _gif(file: BinaryIO) -> None:
    """Walk over every block up to the end mark."""
    file.seek(0)
    data = file.read()
    at = 13 + _colours(data[10])
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            at += 11 + _colours(data[at + 9])  # a frame: header, palette, size of its first code, blocks
        elif data[at] == 0x21:
            at += 2  # an extension
        else:
            return  # damaged, not cut: the decoder reports it
        while data[at]:
            at += 1 + data[at]
        at += 1


def _colours(flags: int) -> int:
    """Return the bytes of a palette by the flags of its screen or frame."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


_walks: dict[str, Callable[[BinaryIO], object]] = {
    "JPEG": _jpeg,
    "BMP": _bmp,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "TIFF": tiff.count_pages,
    "AVIF": avif.largest_frame,
}
