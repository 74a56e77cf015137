"""Files that a shape refers to, read from its folder and never fetched. Missing ones are noted."""

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
BYTES = 2**29  # of a file that a shape refers to


class Neighbours:
    """Files around a shape, and ``notes`` about missing ones.

    path: of the shape, or None for bytes, which have no neighbours. within: the folder that names may lead to, by
    default the shape's. Links in it are followed: whoever made them may read their targets.
    """

    def __init__(self, path: Path | None = None, within: Path | None = None):
        self.folder = None if path is None else path.parent.absolute()
        self.within = self.folder if within is None else within.absolute()
        self.notes: list[Note] = []

    def say(self, reason: str, detail: str) -> None:
        """Add a note, unless it is there already."""
        if (note := Note(reason, detail)) not in self.notes:
            self.notes.append(note)

    def find(self, name: str) -> bytes | str:
        """Return a file's bytes, or in words why they are missing."""
        name = name.strip().strip('"')
        if self.folder is None or self.within is None:
            return f"{name} is not at hand: a shape given as bytes has no files beside it"
        outside = False
        for one in self._names(name):
            place = _resolve(self.folder / one)
            if not place.is_relative_to(_resolve(self.within)):
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
        """Return the possible names of a file, in the order of the search.

        It is searched as it stands, without options before it, unquoted, with slashes instead of backslashes, and by
        its last part alone.
        """
        plain = name.rsplit(None, 1)[-1] if name.startswith("-") else name
        names = [name, plain, unquote(plain), unquote(plain).replace("\\", "/")]
        return [n for n in dict.fromkeys([*names, Path(names[-1]).name]) if n and "\0" not in n]

    def picture(self, name: str) -> Any:
        """Return the texture of that name as a loaded PIL image. If it cannot be read, add a note and return None."""
        found = self.find(name)
        image = open_texture(found) if isinstance(found, bytes) else found
        if isinstance(image, str):
            self.say(COLOUR_MISSING, image if isinstance(found, str) else f"{name}: {image}")
            return None
        return image


def open_texture(source: bytes | Any) -> Any:
    """Return a PIL image in RGB, or in words why it cannot be read.
    source: bytes, or an image that is open but not yet read."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(source), formats=TEXTURES) if isinstance(source, bytes) else source
        if image.width * image.height > PIXELS:
            return f"a texture of {image.width} x {image.height} pixels, at most {PIXELS} are read"
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, …: each format raises other types
        return f"no picture that can be read ({' '.join(re.sub(r'<.*>', 'it', str(error)).split())})"


def _resolve(path: Path) -> Path:
    """Return a path without ``..``, by the names alone: links are not followed."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part != "..":
            parts.append(part)
    return Path(*parts)
