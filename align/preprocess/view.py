"""Views: the rectangle of a picture that its row shows, and the places of parts in it."""

from __future__ import annotations

from typing import Any, NamedTuple

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, from the top left corner."""


class View(NamedTuple):
    """The rectangle of a picture that its row shows, as fractions of the picture. A padded row shows more than all."""

    left: float
    top: float
    right: float
    bottom: float
    mirrored: bool = False

    def place(self, box: Box) -> Box:
        """Return a box of the picture as fractions of the row. It may reach beyond them."""
        width, height = self.right - self.left, self.bottom - self.top
        left, right = ((x - self.left) / width for x in (box[0], box[2]))
        top, bottom = ((y - self.top) / height for y in (box[1], box[3]))
        return (1 - right, top, 1 - left, bottom) if self.mirrored else (left, top, right, bottom)


class Inside(NamedTuple):
    """The source of a part: its value, such as a box, and the whole that it lies in."""

    value: Any
    whole: Any  # as ``Preprocess.decode`` of the whole's modality returns it
    of: Any  # the Preprocess of the whole's modality
