"""Boxes: the place of a region in the row of its picture, wherever that row was cropped, scaled or mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from align.media.box import BOX, read_box
from align.preprocess.base import Preprocess
from align.preprocess.view import Inside
from align.values import BadSample

SEEN = 0.5  # share of a box's area that its row has to show


@final
class Boxes(Preprocess):
    """Boxes of regions, with ``members: {region: json:regions/box}``.

    A row is (4,) float32: left, top, right, bottom as fractions of the picture's row. The box follows the draws of its
    picture: the same crop, scale and mirror. A region less than half of which the crop shows is left out
    (``region/unseen``), and so is one whose picture cannot be read (``region/alone``).

    of: the modality of the pictures, the first of a sample where it has several.
    """

    suffixes: ClassVar[tuple[str, ...]] = BOX.suffixes
    medium = BOX

    def __init__(self, of: str = "image"):
        self.of = of

    def decode(self, source: Any) -> Tensor:
        """Return (4,) from [left, top, right, bottom], or its JSON as bytes. Raises BadSample: box."""
        return torch.tensor(BOX.read(bytes(source)) if isinstance(source, bytes | bytearray) else read_box(source))

    def row(self, source: Any, generator: torch.Generator | None = None) -> Tensor:
        """Return (4,) of a box inside its picture. Raises BadSample: box, unseen, and TypeError for a box alone."""
        if not isinstance(source, Inside):
            raise TypeError(
                f"a box is read with its {self.of}: {{'{self.of}': PICTURE, 'box': [left, top, right, bottom]}}"
            )
        box = source.of.view(source.whole, generator).place(tuple(self.decode(source.value).tolist()))
        left, top, right, bottom = (min(max(x, 0.0), 1.0) for x in box)
        seen = max(right - left, 0) * max(bottom - top, 0)
        if not seen >= SEEN * (box[2] - box[0]) * (box[3] - box[1]):
            raise BadSample("unseen", "less than half of the region is in the crop of its picture")
        return torch.tensor([left, top, right, bottom])

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x

    def eval(self, x: Tensor) -> Tensor:
        return x

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return {"box": (n, 4) float32}."""
        return {"box": torch.stack([*rows]) if rows else torch.zeros(0, 4)}
