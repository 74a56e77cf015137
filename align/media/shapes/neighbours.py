"""Files that a shape refers to: looked for in its folder, never fetched; those that cannot be had are noted."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from align.media.medium import Note
from align.media.pictures.formats import FORMATS
from align.media.shapes.part import COLOUR_MISSING

TEXTURES = (*FORMATS, "TGA", "MPO")
PIXELS = 2**26  # of a texture
BYTES = 2**29  # of a file that is referred to


class Neighbours:
    """The files around a shape, and ``notes`` of those that could not be had.

    path: the shape's, None for bytes, which have no neighbours. within: the folder that names may lead to; default: the
    shape's. Links in it are followed: whoever made them may read what they lead to.
    """

    def __init__(self, path: Path | None = None, within: Path | None = None):
        self.folder = None if path is None else path.parent.absolute()
        self.within = self.folder if within is None else within.absolute()
        self.notes: list[Note] = []

    def say(self, reason: str, detail: str) -> None:
        """Note something, once."""
        if (note := Note(reason, detail)) not in self.notes:
            self.notes.append(note)

    def find(self, name: str) -> bytes | str:
        """A file's bytes; or, in words, why they cannot be had."""
        name = name.strip().strip('"')
        if self.folder is None or self.within is None:
            return f"{name} is not at hand: a shape given as bytes has no files beside it"
        outside = False
        for one in self._names(name):
            place = _plain(self.folder / one)
            if not place.is_relative_to(_plain(self.within)):
                outside = True
            elif place.is_file():
                if place.stat().st_size > BYTES:
                    return f"{name} has more than {BYTES} bytes"
                return place.read_bytes()
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
            return f"{name} is on a network; nothing is fetched"
        return f"{name} lies outside the folder" if outside else f"{name} is not there"

    @staticmethod
    def _names(name: str) -> Iterable[str]:
        """How a file may be meant: as it stands, without options before it, unquoted, from another system, by its last
        part."""
        plain = name.rsplit(None, 1)[-1] if name.startswith("-") else name
        names = [name, plain, unquote(plain), unquote(plain).replace("\\", "/")]
        return [n for n in dict.fromkeys([*names, Path(names[-1]).name]) if n and "\0" not in n]

    def picture(self, name: str) -> Any:
        """The texture of that name as a PIL image whose pixels are read, or None, and a note."""
        found = self.find(name)
        image = opened_texture(found) if isinstance(found, bytes) else found
        if isinstance(image, str):
            self.say(COLOUR_MISSING, image if isinstance(found, str) else f"{name}: {image}")
            return None
        return image


def opened_texture(source: bytes | Any) -> Any:
    """A PIL image in RGB from bytes or an image that is open but not read; or, in words, why there is none."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(source), formats=TEXTURES) if isinstance(source, bytes) else source
        if image.width * image.height > PIXELS:
            return f"a texture of {image.width} x {image.height} pixels, at most {PIXELS} are read"
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, DecompressionBombError: each format has its own
        return f"no picture that can be read ({' '.join(re.sub(r'<.*>', 'it', str(error)).split())})"


def _plain(path: Path) -> Path:
    """Without ``..``, by the names alone."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part != "..":
            parts.append(part)
    return Path(*parts)
