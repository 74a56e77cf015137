"""Pictures: any file that Pillow decodes here, as upright 8-bit RGB."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from align.media.medium import Cells, Examined, Face, Medium, Note, Severity, Stored
from align.media.pictures import formats
from align.media.pictures.fingerprint import picture_print
from align.media.pictures.levels import finding
from align.media.pictures.read import decode, from_file, is_deep, open_picture, read_picture
from align.media.pictures.tiff import MOST_PAGES, count_pages
from align.media.recode import WRITTEN_PICTURES, Recode
from align.media.sketch import picture_cells
from align.values import BadSample

MAX_PIXELS = 2**25  # of a picture that is decoded
FORMATS_OF = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}
FORMATS_OF |= {"tif": "TIFF", "tiff": "TIFF", "avif": "AVIF"}
WRITTEN_AS = {"jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "png": "png"}  # formats that are written again
INSTEAD = {"avif": "webp"}  # a small format stays small; the others become png
TINY = 32  # pixels
NARROW = 8  # the image preprocess cuts off the ends of a longer picture

SHOWN = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}
"""Formats that browsers show, by their content and not by their name; others are written anew."""
SHOWN_PIXELS = 1 << 28  # of a picture that is decoded for a page
SHOWN_SIDE = 256  # pixels of a picture that is written anew for a page
SHOWN_BYTES = 24_000  # up to which a picture is shown as it is stored


@final
class Picture(Medium):
    """Pictures in one of nine formats."""

    name = "picture"
    element = "picture"
    modality = "image"
    suffixes = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "avif", "tif", "tiff")
    folders = ("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "jpg", "jpeg", "png")
    columns: ClassVar[Mapping[str, str]] = {"width": "width", "height": "height"}
    reasons: ClassVar[Mapping[str, tuple[Severity, str]]] = {
        "image/not-an-image": ("error", "no picture: a page of HTML, an array, a text"),
        "image/format": (
            "error",
            "a picture or a document of a format that is not read: write it as PNG, TIFF or JPEG",
        ),
        "image/flat": ("warning", "a single colour"),
        "image/tiny": ("warning", "fewer than 32 pixels on the short side"),
        "image/low-range": (
            "warning",
            "it has more than 8 bits and uses the lowest part of their range alone, so it decodes nearly black; levels "
            "of the image preprocess, or --image-levels of a build, say its range",
        ),
        "image/suffix": ("warning", "its content is of another format than its name says"),
        "image/animated": ("note", "only the first picture of an animation is used"),
        "image/pages": ("note", "only the first page of a TIFF is used"),
        "image/own-range": (
            "note",
            "floats beyond 0 to 1 without a stated range: each picture is scaled by its own; levels of the image "
            "preprocess, or --image-levels of a build, say one for all",
        ),
        "image/narrow": ("note", "more than 8 times as long as wide; its ends are cut off"),
    }

    def read(self, source: bytes | Path) -> np.ndarray:
        """Return (H, W, 3) uint8. Raises BadSample as ``read_picture``."""
        return read_picture(source, MAX_PIXELS).permute(1, 2, 0).numpy()

    def describe(self, data: bytes) -> dict[str, Any]:
        with open_picture(data) as found:
            return {"width": found.image.width, "height": found.image.height, "mode": found.image.mode}

    def say(self, about: Mapping[str, Any], size: int) -> str:
        return f"{about['width']}×{about['height']} {about['mode']}, {size} bytes"

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        """Content: pixels (H, W, 3) uint8, or None for a picture of one colour."""
        pixels, used = decode(data, MAX_PIXELS, every_bit=True)
        found: list[Note] = []
        with open_picture(data) as opened:
            kind, mode = str(opened.image.format), opened.image.mode
            pages = count_pages(io.BytesIO(data)) if opened.page is not None else 1
            frames = 1 if opened.page is not None else getattr(opened.image, "n_frames", 1)
        if FORMATS_OF.get(suffix, kind) != kind:
            found.append(Note("image/suffix", f"a {kind} that is named .{suffix}"))
        if frames > 1:
            found.append(Note("image/animated", f"{frames} pictures"))
        if pages > 1:
            found.append(Note("image/pages", f"{pages} pages" + (" or more" if pages == MOST_PAGES else "")))
        height, width = pixels.shape[:2]
        if min(height, width) < TINY:
            found.append(Note("image/tiny", f"{width} × {height} pixels"))
        if max(height, width) > NARROW * min(height, width):
            found.append(Note("image/narrow", f"{width} × {height} pixels"))
        if dark := finding(used) if used is not None else None:
            found.append(Note(*dark))
        if not (pixels == pixels[0, 0]).all():
            return Examined(found, content=pixels)
        if not dark:  # a dark picture is not of one colour, it only looks so
            colour = tuple(pixels[0, 0].tolist())
            found.append(Note("image/flat", f"{width} × {height} {mode}, every pixel {colour}"))
        return Examined(found)

    def fingerprint(self, content: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return ``picture_print``, or None for a tiny picture: such look too much alike."""
        return picture_print(content) if min(content.shape[:2]) >= TINY else None

    def recode(self, data: bytes, suffix: str, modality: str, settings: Recode) -> Stored:
        """Scale and write a picture of the modality ``image`` as asked. Note any picture of a hardly meant range.

        Raises BadSample for no bytes, and for a format that no decoder here reads."""
        ours = modality == self.modality
        if ours:
            _check_format(data)
        notes = _range_notes(data, settings.image_levels if ours else None)
        return _write(data, suffix, settings, notes) if ours and settings else Stored(data, suffix, notes)

    def notes_again(self, data: bytes) -> bool:
        return is_deep(data)

    def face(self, data: bytes, suffix: str) -> Face:
        """Return the stored bytes, or a smaller JPEG of a large picture or one that no browser reads."""
        from PIL import Image

        with open_picture(data, SHOWN_PIXELS) as found:
            type = SHOWN.get(found.kind)
        if type and len(data) <= SHOWN_BYTES:
            return Face("picture", data, {"type": type})
        small = Image.fromarray(from_file(data, SHOWN_PIXELS))
        small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=86)
        return Face("picture", out.getvalue(), {"type": "image/jpeg"})

    def sketch(self, data: bytes, *, colours: bool) -> Cells | None:
        return picture_cells(self.read(data)) if colours else None


def _check_format(data: bytes) -> None:
    """Raise BadSample for no bytes, and for HEIC, JPEG XL, SVG and their like, whatever the name says."""
    if not data:
        raise BadSample("image/empty", "no bytes")
    head = data[: formats.HEAD]
    if formats.kind_of(head) is None and formats.foreign(head) is not None:
        raise formats.refusal(head, None)


def _range_notes(data: bytes, levels: Sequence[float] | None) -> Sequence[Note]:
    """Return notes of ``levels.finding``. A picture that cannot be read has none, for a check names it."""
    if not is_deep(data):
        return ()
    try:
        used = decode(data, MAX_PIXELS, levels, every_bit=True).used
    except BadSample:
        return ()
    said = finding(used) if used is not None else None
    return [Note(said[0])] if said else ()


def _write(data: bytes, suffix: str, settings: Recode, notes: Sequence[Note]) -> Stored:
    """Return a picture in the format and size of ``settings``, or as it is where that would change nothing."""
    deep = settings.image_levels is not None and is_deep(data)
    if settings.image_size is None and settings.image_format is None and settings.image_quality is None and not deep:
        return Stored(data, suffix, notes)
    from PIL import Image

    pixels = from_file(data, MAX_PIXELS, settings.image_levels)  # (H, W, 3) uint8
    H, W, _ = pixels.shape
    kind = settings.image_format or WRITTEN_AS.get(suffix) or INSTEAD.get(suffix, "png")
    size = min(settings.image_size or min(H, W), H, W)
    if size == min(H, W) and settings.image_quality is None and kind == WRITTEN_AS.get(suffix) and not deep:
        return Stored(data, suffix, notes)
    image = Image.fromarray(pixels)
    if size < min(H, W):
        place = (max(1, round(W * size / min(H, W))), max(1, round(H * size / min(H, W))))
        image = image.resize(place, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    try:
        image.save(out, kind.upper(), **({} if kind == "png" else {"quality": settings.image_quality or 90}))
    except (OSError, ValueError) as error:  # a side beyond the format's largest
        raise BadSample("image/not-writable", f"{image.width} x {image.height} as {kind}: {error}") from None
    return Stored(out.getvalue(), WRITTEN_PICTURES[kind], notes)


PICTURE = Picture()
